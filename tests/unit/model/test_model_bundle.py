"""A bundle is what it was when it was made, or it is refused."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from model_bundles import OUTPUT, SAMPLE, SPEC, scaling, source

from tenure.clock import ManualClock
from tenure.errors import CaseError, MissingError, ModelError
from tenure.model.build import adopt, build
from tenure.model.bundle import Code, Sample, find_bundle, load, open_bundle, smoke_test
from tenure.model.code import PREFIX
from tenure.model.manifest import StageRef
from tenure.types import Prediction


def rewrite(bundle_path: Path, **change: object) -> None:
    file = bundle_path / "manifest.json"
    file.chmod(0o644)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    """A copy of a good bundle under a name that says nothing, as it comes from outside."""
    target = tmp_path / "outside"
    shutil.copytree(scaling(tmp_path).path, target)
    return target


def test_a_bundle_knows_its_content_its_answer_and_its_cost(tmp_path: Path) -> None:
    made = scaling(tmp_path, clock=ManualClock(), provenance={"parent": "scale@00000000"})
    assert made.path == tmp_path / "data" / "bundles" / made.sha
    assert made.id == f"scale@{made.sha[:8]}"
    said = made.manifest
    assert set(said.code) == {"scaling.py", "rates.py"}
    assert said.files["weight.txt"].size == 1
    assert said.expected == Prediction(60.0)
    assert said.created == "2023-11-14T22:13:20Z"
    assert said.measured is None
    assert said.confidence == "none"
    assert said.size == sum(e.size for e in (*said.files.values(), *said.code.values())) + said.sample.size
    assert said.provenance == {"parent": "scale@00000000"}
    assert open_bundle(made.path) == made
    assert list((tmp_path / "data" / "bundles").iterdir()) == [made.path]


def test_equal_content_is_one_bundle_whenever_it_is_made(tmp_path: Path) -> None:
    one = scaling(tmp_path, clock=ManualClock(10**18), provenance={"note": "first"})
    two = scaling(tmp_path, clock=ManualClock(2 * 10**18), provenance={"note": "second"})
    assert one.sha == two.sha
    assert two.manifest.provenance == {"note": "first"}
    assert scaling(tmp_path, weight=4).sha != one.sha


def test_two_versions_of_one_module_live_side_by_side(tmp_path: Path) -> None:
    old, new = scaling(tmp_path), scaling(tmp_path, rate=100)
    before = sys.path.copy()
    first, second = load(old), load(new)
    assert [p.run([{"a": 1.0}])[0].prediction for p in (first, second)] == [Prediction(30.0), Prediction(300.0)]
    assert first.run([{"a": 1.0}])[0].prediction == Prediction(30.0)
    assert f"{PREFIX}{old.sha[:8]}_rates" in sys.modules
    assert "scaling" not in sys.modules
    assert sys.path == before
    assert not list(old.path.rglob("__pycache__"))


def test_a_bundle_loads_without_the_project_beside_it(tmp_path: Path) -> None:
    made = scaling(tmp_path)
    shutil.rmtree(tmp_path / "src")
    smoke_test(load(made), made)


def test_the_smoke_test_sees_another_answer(tmp_path: Path) -> None:
    made, other = scaling(tmp_path), scaling(tmp_path, weight=4)
    with pytest.raises(ModelError, match=r"expected 60.0, got 80.0"):
        smoke_test(load(other), made)


def test_a_model_that_guesses_is_refused(tmp_path: Path) -> None:
    code, files = source(tmp_path)
    (code / "scaling.py").write_text(
        "import random\nclass Scale:\n    def predict(self, b):\n        return [random.random() for _ in b]\n"
    )
    with pytest.raises(ModelError, match="answered differently"):
        build(
            tmp_path / "data", endpoint="e", name="n", stages=[StageRef("s", "scaling:Scale")], sample=SAMPLE,
            spec=SPEC, output=OUTPUT, code=[code], files=files,
        )  # fmt: skip
    assert not list((tmp_path / "data" / "bundles").iterdir())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"sample": Sample(b'{"b": 1}', "application/json")}, CaseError, "unknown field 'b'"),
        ({"sample": Sample(b"x", "image/png")}, CaseError, "application/json"),
        ({"name": "Not a name"}, ModelError, "lower case"),
        ({"stages": [StageRef("s", "scaling:Missing")]}, ModelError, "has no Missing"),
        ({"stages": [StageRef("s", "nowhere:Scale")]}, ModelError, "does not hold the module nowhere"),
        ({"stages": [StageRef("s", "os:system")]}, ModelError, "does not hold the module os"),
        ({"stages": [StageRef("s", "scaling")]}, ModelError, "module:Name"),
        ({"stages": [StageRef("s", "scaling:Scale", options={"x": 1})]}, ModelError, "cannot be loaded"),
        ({"files": None}, ModelError, "weight.txt"),
        ({"code": []}, ModelError, "does not hold the module scaling"),
        ({"stages": []}, ModelError, "at least one stage"),
    ],
)
def test_what_cannot_be_served_is_not_built(
    tmp_path: Path, options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        scaling(tmp_path, **options)
    assert not list((tmp_path / "data").glob("bundles/*"))


def test_packages_and_relative_imports_come_along(tmp_path: Path) -> None:
    code, _ = source(tmp_path)
    (code / "pkg" / "deep").mkdir(parents=True)
    (code / "pkg" / "__init__.py").write_text("from .deep.one import ONE\n")
    (code / "pkg" / "deep" / "one.py").write_text("import rates\nONE = rates.RATE\n")
    (code / "pkg" / "stage.py").write_text(
        "import pkg.deep.one\nfrom . import ONE\nfrom pkg import deep\n"
        "def run(batch):\n    return [ONE + pkg.deep.one.ONE + deep.one.ONE for _ in batch]\n"
    )
    files = tuple(p for p in code.rglob("*.py") if p.name != "scaling.py")
    made = scaling(tmp_path, stages=[StageRef("s", "pkg.stage:run")], code=[Code(code, files)])
    assert made.manifest.expected == Prediction(30)


# What was changed, added or made to harm


def test_every_changed_byte_is_seen(loose: Path) -> None:
    for name in ("files/weight.txt", "code/scaling.py", "sample.json"):
        file = loose / name
        before = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(before[:-1] + b"7")
        with pytest.raises(ModelError, match="is not what the manifest says"):
            open_bundle(loose)
        file.write_bytes(before)
    open_bundle(loose)


def test_added_and_missing_files_are_seen(loose: Path) -> None:
    (loose / "code" / "json.py").write_text("evil = 1")
    with pytest.raises(ModelError, match=r"code/json.py is not in the manifest"):
        open_bundle(loose)
    (loose / "code" / "json.py").unlink()
    (loose / "files" / "weight.txt").unlink()
    with pytest.raises(ModelError, match="is missing"):
        open_bundle(loose)


def test_a_changed_manifest_does_not_fit_its_folders_name(tmp_path: Path) -> None:
    made = scaling(tmp_path)
    rewrite(made.path, name="other")
    with pytest.raises(ModelError, match="the manifest was changed"):
        open_bundle(made.path, verify=False)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "a\\b", "", "./a", "a//b", "C:x"]
)
@pytest.mark.parametrize("part", ["files", "code", "sample"])
def test_a_path_that_leaves_the_bundle_is_refused(loose: Path, name: str, part: str) -> None:
    entry = {"sha256": "0" * 64, "size": 1}
    if part == "sample":
        rewrite(loose, sample={"media_type": "application/json", "file": name, **entry})
    else:
        rewrite(loose, **{part: {name: entry}})
    with pytest.raises(ModelError, match="does not stay inside"):
        open_bundle(loose, verify=False)


@pytest.mark.parametrize("name", ["files/weight.txt", "code/rates.py", "manifest.json", "sample.json"])
def test_a_link_is_refused_wherever_it_points(loose: Path, tmp_path: Path, name: str) -> None:
    kept = tmp_path / "kept"
    shutil.move(loose / name, kept)
    (loose / name).symlink_to(kept)
    with pytest.raises(ModelError):
        open_bundle(loose)
    with pytest.raises(ModelError):
        adopt(open_bundle(loose, verify=False), tmp_path / "other") if name != "manifest.json" else open_bundle(
            loose
        )


@pytest.mark.parametrize(
    "uses", ["tenure.model.formats.onnx:Path", "tenure.model.formats.onnx:np.load", "os:system"]
)
def test_a_bundle_names_stages_of_ours_and_nothing_that_they_import(tmp_path: Path, uses: str) -> None:
    with pytest.raises(ModelError, match=r"has no stage|does not hold the module"):
        scaling(tmp_path, stages=[StageRef("x", uses)])


def test_a_link_among_the_weights_is_not_followed_when_building(tmp_path: Path) -> None:
    _, files = source(tmp_path)
    (files / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="links and special files"):
        scaling(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "manifest.json"),
        ("[]", "Expected `object`"),
        ('{"format": 3}', r"format 3, this tenure reads \(1, 2\)"),
        ("[" * 100_000, "manifest.json"),
        ('{"format": 1, "unknown": 1}', "manifest.json"),
    ],
)
def test_a_manifest_that_cannot_be_read_says_so(loose: Path, text: str, words: str) -> None:
    (loose / "manifest.json").chmod(0o644)
    (loose / "manifest.json").write_text(text)
    with pytest.raises(ModelError, match=words):
        open_bundle(loose)


def test_a_bundle_from_outside_is_tested_before_it_is_taken_in(loose: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    taken = adopt(open_bundle(loose), other)
    assert taken.path == other / "bundles" / taken.sha
    assert adopt(open_bundle(loose), other) == taken
    rewrite(loose, expected={"value": 1.0})
    with pytest.raises(ModelError, match="answered differently"):
        adopt(open_bundle(loose), other)
    assert [p.name for p in (other / "bundles").iterdir()] == [taken.sha]


def test_a_version_is_found_without_the_database(tmp_path: Path) -> None:
    made = scaling(tmp_path)
    assert find_bundle(tmp_path / "data", made.id) == made.path
    for version in ("scale@00000000", "scale", "scale@*", "scale@../../..", "x@" + made.sha):
        with pytest.raises(MissingError):
            find_bundle(tmp_path / "data", version)
