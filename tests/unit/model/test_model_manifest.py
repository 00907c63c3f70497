"""Manifests are versioned: old ones stay readable, under their old hash."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest
from model_bundles import OUTPUT, SAMPLE, SPEC, STAGES, scaling, source

from tenure.errors import ModelError
from tenure.model.build import build
from tenure.model.bundle import open_bundle
from tenure.model.manifest import Hardware, Latency, Measured, parse, refuses_partial

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def test_a_manifest_of_format_1_is_read_under_its_old_hash() -> None:
    found, sha = parse((GOLDEN / "bundle-1-manifest.json").read_bytes())
    assert sha == "e60b9f5159be9187ef4a3c1c0d7d1889a14cb30450bba3e13616712fcb34301a"
    assert (found.format, found.confidence) == (2, "none")
    assert found.measured == Measured(
        latency={"1": Latency(0.024, 0.024, 1)},
        memory_mb=0.0,
        process_mb=None,
        hardware=Hardware("unknown", 0, "Linux x86_64, 2 cores"),
    )
    assert parse(found.text())[0] == found


def test_a_manifest_of_format_2_is_read() -> None:
    text = (GOLDEN / "bundle-2-manifest.json").read_bytes()
    found, sha = parse(text)
    assert sha == found.sha() == "65fe36f902aba61df513f735fed4eb9f94781ab7e62125bcf69ccddc76f33a53"
    assert found.measured is not None
    assert found.measured.hardware.cpu == "AMD EPYC"
    assert json.loads(found.text()) == json.loads(text)


def test_the_confidence_of_an_old_version_is_taken_from_its_sample() -> None:
    raw = json.loads((GOLDEN / "bundle-1-manifest.json").read_text())
    raw["expected"]["confidence"] = 0.9
    assert parse(json.dumps(raw).encode())[0].confidence == "stated"


def test_only_a_version_with_a_confidence_may_earn_partial() -> None:
    found, _ = parse((GOLDEN / "bundle-2-manifest.json").read_bytes())
    assert "partial is out of reach" in (refuses_partial(found) or "")
    for worth in ("probability", "margin", "interval", "stated"):
        assert refuses_partial(msgspec.structs.replace(found, confidence=worth)) is None


def test_latency_and_memory_are_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    steps: list[str] = []
    made = scaling(tmp_path, measured=True, progress=steps.append)
    assert open_bundle(made.path) == made
    found = made.manifest.measured
    assert found is not None
    assert steps == ["copying", "answering the sample (3 files, 0.0 MiB)", "measuring latency and memory"]
    assert set(found.latency) == {"1", "32"}
    assert all(0 < each.p50_ms <= each.p99_ms and each.runs >= 5 for each in found.latency.values())
    assert (found.process_mb or 0) > 10
    assert found.hardware.cpu
    assert found.hardware.cores >= 1
    assert "numpy" in found.hardware.libraries


def test_a_version_that_a_new_process_cannot_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _ = source(tmp_path)
    monkeypatch.setitem(sys.modules, "only_here", json)
    text = (code / "scaling.py").read_text()
    (code / "scaling.py").write_text("import only_here\n" + text)
    with pytest.raises(ModelError, match=r"a new process cannot run the version: .*only_here"):
        build(
            tmp_path / "data", endpoint="p", name="n", stages=STAGES, sample=SAMPLE, spec=SPEC, output=OUTPUT,
            code=[code], files=tmp_path / "weights", measured=True,
        )  # fmt: skip
    assert not list((tmp_path / "data" / "bundles").iterdir())
