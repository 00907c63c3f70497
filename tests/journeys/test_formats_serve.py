"""A model file answers behind the real server as in its library, and another endpoint asks it by the protocol."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifecycle_plant import wait
from serving_server import LABELS, World

from tenure.model.formats.remote import RemoteModel
from tenure.scope.project import Automation, EndpointSpec, Field

NAMES = ("a", "b", "c")
SPEC = EndpointSpec(
    input="record",
    fields={name: Field(type="float") for name in NAMES},
    automation=Automation(start="full", max="full"),
)
RNG = np.random.default_rng(4)
X = RNG.normal(size=(200, 3)).astype(np.float32)


def records(rows: np.ndarray) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, map(float, row), strict=True)) for row in rows]


def test_a_file_and_a_remote_model_answer_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    xgboost = pytest.importorskip("xgboost")
    data = xgboost.DMatrix(X, (X[:, 0] > 0).astype(int), feature_names=list(NAMES))
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5)
    booster.save_model(tmp_path / "near.ubj")
    expected = booster.predict(xgboost.DMatrix(X[:10], feature_names=list(NAMES)))
    world = World(tmp_path, {"near": SPEC, "far": SPEC}, workers=1)
    monkeypatch.setenv("FAR_TOKEN", world.tokens["client"])
    (sample, *_) = records(X[:1])
    world.register("near", tmp_path / "near.ubj", sample=sample)
    with world.running():
        url = f"{world.up.url}/v2/models/near"
        remote = RemoteModel(
            file=url, labels=LABELS.labels, features=NAMES, answer="label", token_env="FAR_TOKEN", timeout=60
        )
        world.register("far", remote, sample=sample)
        client = world.client()
        for endpoint in ("near", "far"):
            for row, chance in zip(records(X[:10]), expected, strict=True):
                said = _decided(client, endpoint, row)
                assert said["value"] == ("small" if chance > 0.5 else "big")
                assert said["confidence"] == pytest.approx(max(chance, 1 - chance), abs=1e-5)
    near, far = (world.registry.get(v.id).manifest for v in world.registry.list())
    assert (near.confidence, far.confidence) == ("probability", "probability")
    world.state.close()


def _decided(client: Any, endpoint: str, row: dict[str, Any]) -> dict[str, Any]:
    """Ask until the version is loaded: that of `far` was registered while the server ran."""
    said: list[dict[str, Any]] = []

    def is_decided() -> bool:
        reply = client.call("POST", f"/v1/{endpoint}/predict", row)
        assert reply.status in (200, 202, 503), reply.body
        said.append(reply.json())
        return bool(reply.status == 200)

    wait(is_decided, f"an answer of {endpoint}")
    decision: dict[str, Any] = said[-1]["decision"]
    return decision


def test_serving_imports_no_library_of_a_format_that_it_does_not_use() -> None:
    heavy = "sklearn skops xgboost lightgbm torch mlflow pandas onnxruntime onnx scipy"
    code = (
        "import sys, tenure.system, tenure.model.author, tenure.model.registry\n"
        f"print([m for m in {heavy.split()!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=250)
    assert done.stdout == "[]\n"
