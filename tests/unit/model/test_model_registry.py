"""Versions by id: what goes in, what is refused, and what the trail says about it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from model_bundles import OUTPUT, SPEC, scaling, source

from tenure.data import tables as t
from tenure.data.schema import Contract, InputSchema
from tenure.data.state import State, verify_audit
from tenure.errors import ConflictError, MissingError, ModelError
from tenure.model.author import as_sample
from tenure.model.bundle import Sample, load
from tenure.model.registry import Registry
from tenure.scope.project import EndpointSpec, Field, Output, StageSpec
from tenure.types import Prediction

TEXT = EndpointSpec(input="text")
LABELS = Output(labels=("long", "short"))


class Length:
    """A stage without state of its own."""

    def predict(self, texts: list[str]) -> list[Prediction]:
        return [Prediction("long" if len(t) > 5 else "short", 0.9) for t in texts]


@dataclasses.dataclass
class Limit:
    limit: int = 5

    def predict(self, texts: list[str]) -> list[str]:
        return ["long" if len(t) > self.limit else "short" for t in texts]


class Learned:
    def __init__(self) -> None:
        self.words: list[str] = []
        self.weights: np.ndarray | None = None

    def predict(self, texts: list[str]) -> list[str]:
        return ["long" if t in self.words else "short" for t in texts]


def length(text: str) -> str:
    return "long" if len(text) > 5 else "short"


def lower(texts: list[str]) -> list[str]:
    return [t.lower() for t in texts]


@pytest.fixture
def registry(state: State, tmp_path: Path) -> Registry:
    return Registry(state, tmp_path / "data")


def register(registry: Registry, stages: Any, **options: Any) -> str:
    return registry.register(
        "texts", stages, **{"spec": TEXT, "output": LABELS, "sample": "some text", **options}
    )


def answer(registry: Registry, version: str, text: str) -> object:
    prediction = load(registry.get(version)).run([text])[0].prediction
    return prediction.value if isinstance(prediction, Prediction) else prediction


@pytest.mark.parametrize(
    "stages", [Length, Length(), Limit, Limit(5), length, [("lower", lower), ("length", Length)]]
)
def test_what_a_user_holds_becomes_a_version(registry: Registry, stages: Any) -> None:
    version = register(registry, stages)
    assert answer(registry, version, "a long text") == "long"
    assert registry.describe(version).state == "registered"


def test_a_dataclass_keeps_its_fields(registry: Registry) -> None:
    version = register(registry, Limit(100))
    assert registry.get(version).manifest.stages[0].options == {"limit": 100}
    assert answer(registry, version, "a long text") == "short"


def test_a_stages_name_and_placement_are_those_of_the_project_file(registry: Registry) -> None:
    spec = EndpointSpec(input="text", pipeline=(StageSpec(stage="judge", uses="x:Y", placement="inline"),))
    version = register(registry, Length, spec=spec)
    (stage,) = registry.get(version).manifest.stages
    assert (stage.name, stage.placement) == ("judge", "inline")
    assert version.startswith("judge@")


def test_what_an_instance_learned_in_memory_is_not_silently_lost(registry: Registry) -> None:
    taught = Learned()
    taught.words = ["some text"]
    with pytest.raises(ModelError, match=r"Learned.words would be lost"):
        register(registry, taught)
    taught = Learned()
    taught.weights = np.zeros(3)
    with pytest.raises(ModelError, match=r"Learned.weights would be lost"):
        register(registry, taught)


@pytest.mark.parametrize("stages", [lambda texts: texts, type("Local", (), {"predict": lower})])
def test_what_has_no_source_is_refused(registry: Registry, stages: Any) -> None:
    with pytest.raises(ModelError):
        register(registry, stages)


def test_the_same_content_is_one_version(registry: Registry, state: State) -> None:
    first = register(registry, Length)
    assert register(registry, Length()) == first
    with state.read() as conn:
        actions = conn.execute(sa.select(t.audit.c.action, t.audit.c.subject)).all()
        assert verify_audit(conn) is None
    assert actions == [("version.register", first)]


def test_versions_are_listed_retired_and_registered_again(registry: Registry) -> None:
    first, second = register(registry, Length), register(registry, Limit)
    assert {v.id for v in registry.list("texts")} == {first, second}
    assert registry.list("other") == []
    registry.retire(first, by="ann")
    assert registry.describe(first).state == "retired"
    assert register(registry, Length) == first
    assert registry.describe(first).state == "registered"
    for call in (registry.get, registry.describe):
        with pytest.raises(MissingError):
            call("length@00000000")


def test_one_version_is_live_and_cannot_be_retired(registry: Registry, state: State) -> None:
    first, second = register(registry, Length), register(registry, Limit)
    for version in (first, second):
        with state.begin() as conn:
            registry.set_live(conn, "texts", version)
    assert registry.live("texts") == second
    assert [v.id for v in registry.list() if v.state == "live"] == [second]
    with pytest.raises(ConflictError, match="is live"):
        registry.retire(second, by="ann")
    registry.retire(first, by="ann")
    with pytest.raises(ConflictError, match="retired"), state.begin() as conn:
        registry.set_live(conn, "texts", first)
    assert registry.live("texts") == second


def test_a_version_that_the_clients_could_not_use_is_refused(
    registry: Registry, state: State, tmp_path: Path
) -> None:
    live = registry.register_bundle("prices", scaling(tmp_path), by="ann")
    with state.begin() as conn:
        registry.set_live(conn, "prices", live)
    narrow = EndpointSpec(input="record", fields={"a": Field(type="float", max=5)})
    with pytest.raises(ModelError, match=r"clients of scale@.* lower maximum: 5") as caught:
        registry.register_bundle("prices", scaling(tmp_path, spec=narrow), by="ann")
    assert caught.value.code == "incompatible_schema"
    wider = EndpointSpec(input="record", fields={**SPEC.fields, "b": Field(type="int", required=False)})
    registry.register_bundle("prices", scaling(tmp_path, spec=wider), by="ann")
    assert len(registry.list("prices")) == 2


def test_a_version_that_does_not_fit_the_project_file_is_refused(state: State, tmp_path: Path) -> None:
    promised = Contract(InputSchema.of(SPEC), OUTPUT)
    registry = Registry(state, tmp_path / "data", contracts={"prices": promised})
    registry.register_bundle("prices", scaling(tmp_path), by="ann")
    text = Output(kind="text")
    open_ended = Contract(InputSchema("record"), text)
    loose = Registry(state, tmp_path / "data", contracts={"prices": open_ended})
    with pytest.raises(ModelError, match="does not fit endpoint 'prices': output: text became number"):
        loose.register_bundle("prices", scaling(tmp_path), by="ann")
    fields = {**SPEC.fields, "b": Field(type="int")}
    with pytest.raises(ModelError, match="'b' is new and required"):
        registry.register_bundle(
            "prices",
            scaling(
                tmp_path,
                spec=EndpointSpec(input="record", fields=fields),
                sample=Sample(b'{"a": 2, "b": 1}', "application/json"),
            ),
            by="ann",
        )


def test_a_bundle_of_another_endpoint_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is of endpoint 'prices'"):
        registry.register_bundle("texts", scaling(tmp_path), by="ann")


def test_a_bundle_from_outside_is_copied_in(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    outside = scaling(tmp_path / "elsewhere")
    version = registry.register_bundle(
        "prices", outside.path, by="ann", name="price", provenance={"from": "disk"}
    )
    assert version == f"price@{outside.sha[:8]}"
    assert registry.get(version).path.parent == registry.folder / "bundles"
    assert registry.describe(version).provenance == {"from": "disk"}


def test_new_weights_make_a_new_version_of_the_same_code(registry: Registry, tmp_path: Path) -> None:
    parent = registry.register_bundle("prices", scaling(tmp_path), by="ann")
    _, files = source(tmp_path, weight=5)
    child = registry.register_files(parent, files, by="retrain", pilot_scores={"*": [0.5, 0.9]})
    made = registry.get(child)
    assert made.manifest.expected == Prediction(100.0)
    assert made.manifest.code == registry.get(parent).manifest.code
    assert made.manifest.pilot_scores == {"*": [0.5, 0.9]}
    assert registry.describe(child).provenance == {"parent": parent}


def test_a_record_endpoint_without_fields_takes_those_of_its_sample(registry: Registry, tmp_path: Path) -> None:
    code, files = source(tmp_path)
    from tenure.model.manifest import StageRef

    version = registry.register(
        "prices",
        [StageRef("scale", "scaling:Scale")],
        spec=EndpointSpec(input="record"),
        output=OUTPUT,
        sample={"a": 2.5},
        files=files,
        code=[code],
    )
    assert registry.get(version).manifest.input.fields == {"a": Field(type="float")}


SCRIPT = """
import here

class Shout:
    def predict(self, texts):
        return [Prediction(t.upper()) for t in texts]

from tenure.types import Prediction
version = here.register(Shout)
after = Shout().predict(["x"])
"""


@pytest.fixture
def here(registry: Registry) -> Iterator[ModuleType]:
    module = ModuleType("here")
    module.register = lambda stages: register(registry, stages, output=Output(kind="text"))  # type: ignore[attr-defined]
    sys.modules["here"] = module
    yield module
    del sys.modules["here"]


def test_one_script_may_hold_the_stage_and_the_line_that_registers_it(
    registry: Registry, tmp_path: Path, here: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "shout.py"
    script.write_text(SCRIPT)
    main = ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(SCRIPT, str(script), "exec"), main.__dict__)
    assert main.version.startswith("shout@")
    assert registry.get(main.version).manifest.stages[0].uses == "shout:Shout"
    assert answer(registry, main.version, "hi") == "HI"


@pytest.mark.parametrize(
    ("kind", "given", "body", "media_type"),
    [
        ("record", {"b": 1, "a": 2}, b'{"a": 2, "b": 1}', "application/json"),
        ("text", "hello", b"hello", "text/plain"),
        ("image", b"\x89PNG", b"\x89PNG", "application/octet-stream"),
    ],
)
def test_a_sample_may_be_given_as_it_comes_to_hand(kind: Any, given: Any, body: bytes, media_type: str) -> None:
    sample = as_sample(kind, given)
    assert (sample.body, sample.media_type) == (body, media_type)


def test_a_sample_file_is_read_with_its_type(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"abc")
    assert as_sample("image", str(tmp_path / "photo.jpg")).media_type == "image/jpeg"
    with pytest.raises(ModelError, match="cannot read the sample"):
        as_sample("image", tmp_path / "none.jpg")
