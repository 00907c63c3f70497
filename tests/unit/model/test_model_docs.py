"""The pages about bundles and stages say what the code does."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import tenure
from tenure.checks import check_stage
from tenure.model.bundle import find_bundle, open_bundle
from tenure.model.manifest import ABOUT, Manifest
from tenure.types import Image

DOCS = Path(__file__).resolve().parents[3] / "docs"
BUNDLE = (DOCS / "reference" / "bundle.md").read_text()
HOWTO = (DOCS / "howto" / "serve-your-model.md").read_text()


def test_every_key_of_the_manifest_is_described_once() -> None:
    described = re.findall(r"^\| `(\w+)` \|", BUNDLE, re.MULTILINE)
    assert described == list(Manifest.__struct_fields__)


def test_the_keys_outside_the_hash_are_named() -> None:
    (sentence,) = re.findall(r"no spaces, without (.+)\.$", BUNDLE, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", sentence)) == ABOUT


def blocks() -> dict[str, str]:
    found = re.findall(r"```python\n# (\S+)\n(.*?)```", HOWTO, re.DOTALL)
    return dict(found)


def test_every_example_is_python() -> None:
    assert len(blocks()) == 7
    for name, text in blocks().items():
        compile(text, name, "exec")


def test_the_rule_of_the_page_about_formats_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "howto" / "formats.md").read_text()
    (text,) = re.findall(r"```python\n# baseline.py\n(.*?)```", page, re.DOTALL)
    said: dict[str, str] = {}
    exec(compile(text.replace("tenure.register(", "said = tenure.register(", 1), "baseline.py", "exec"), said)
    made = open_bundle(find_bundle(tmp_path / "tenure-data", said["said"])).manifest
    assert (made.name, made.expected.value, made.confidence) == ("rule", "ok", "stated")
    assert list(made.input.fields) == ["amount", "country"]


@pytest.mark.skipif(not hasattr(tenure, "Prediction"), reason="the package does not export its public names yet")
def test_the_stages_of_the_page_keep_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in blocks().items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    exec(compile(blocks()["check.py"], "check.py", "exec"), {})
    import pipeline  # type: ignore[import-not-found]

    photos = [Image(np.full((60, 60), shade, dtype=np.uint8)) for shade in (10, 200)]
    check_stage(pipeline.find, photos, final=False)
    check_stage(pipeline.judge, [p.pixels for p in photos])
    for module in ("pipeline", "length"):
        sys.modules.pop(module, None)
