"""PyTorch and MLflow models: run where the library is installed, which the tests do not ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenure.data.state import State
from tenure.errors import ModelError
from tenure.model import author
from tenure.model.contents import entry, listing
from tenure.model.registry import Registry
from tenure.model.stage import adapt, run_stage
from tenure.model.trust import folder_digest
from tenure.scope.project import EndpointSpec, Field, Output, Trust
from tenure.types import Prediction

RNG = np.random.default_rng(7)
X = RNG.normal(size=(100, 3)).astype(np.float32)
NAMES = ("a", "b", "c")
SPEC = EndpointSpec(input="record", fields={name: Field(type="float") for name in NAMES})
LABELS = Output(labels=("no", "yes"))


def records(rows: np.ndarray) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, map(float, row), strict=True)) for row in rows]


def answered(place: Path, output: Output, batch: list[Any], **options: Any) -> tuple[Any, list[Any]]:
    thing = author.model_stage(place, SPEC, output, **options)
    stage = adapt(thing)
    stage.load(place if place.is_dir() else place.parent)
    return thing, run_stage(stage, batch)


def refused_then_registered(state: State, folder: Path, place: Path, digest: str) -> None:
    """Register a file with and without the operator's word."""
    given: dict[str, Any] = {"spec": SPEC, "output": LABELS, "sample": records(X[:1])[0], "name": "m"}
    with pytest.raises(ModelError, match=digest) as caught:
        Registry(state, folder).register("e", place, **given)
    assert caught.value.code == "untrusted_file"
    registry = Registry(state, folder, trusted=Trust(sha256=(digest,)))
    version = registry.register("e", place, **given, measured=True)
    assert registry.get(version).manifest.measured is not None


# PyTorch


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is an extra of several GB")


def exported(torch: Any, path: Path, *, columns: int, rows: int | None = None) -> tuple[Path, np.ndarray]:
    """Export a linear layer for any number of rows, or for a fixed one; return what it answers to X."""
    torch.manual_seed(0)
    net = torch.nn.Linear(3, columns).eval()
    example = torch.zeros(rows or 2, 3)
    shapes = None if rows else ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes=shapes), path)
    return path, net(torch.from_numpy(X)).detach().numpy()


@pytest.mark.parametrize("rows", [None, 4])
def test_a_program_gives_the_softmax_of_its_scores(torch: Any, tmp_path: Path, rows: int | None) -> None:
    path, scores = exported(torch, tmp_path / "m.pt2", columns=2, rows=rows)
    thing, answers = answered(path, LABELS, records(X[:10]), scores="softmax")
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([a.probabilities["yes"] for a in answers], expected[:10, 1], atol=1e-5)
    assert thing.confidence == "probability"
    with pytest.raises(ModelError, match="no probabilities"):
        answered(path, LABELS, records(X))


def test_a_program_of_one_column_answers_a_number(torch: Any, tmp_path: Path) -> None:
    path, values = exported(torch, tmp_path / "m.pt2", columns=1)
    thing, answers = answered(path, Output(kind="number"), records(X[:10]))
    np.testing.assert_allclose([a.value for a in answers], values[:10, 0], atol=1e-5)
    assert thing.confidence == "none"


def test_a_program_needs_the_operator_s_word(torch: Any, tmp_path: Path, state: State) -> None:
    path, _ = exported(torch, tmp_path / "m.pt2", columns=2)
    stage = author.model_stage(path, SPEC, LABELS, scores="softmax")
    given: dict[str, Any] = {"spec": SPEC, "output": LABELS, "sample": records(X[:1])[0], "files": path}
    digest = entry(path).sha256
    with pytest.raises(ModelError, match=digest):
        Registry(state, tmp_path / "data").register("e", stage, **given)
    registry = Registry(state, tmp_path / "data", trusted=Trust(sha256=(digest,)))
    made = registry.get(registry.register("e", stage, **given, measured=True)).manifest
    assert made.confidence == "probability"
    assert made.measured is not None
    assert "torch" in made.measured.hardware.libraries


# MLflow


@pytest.fixture(scope="module")
def mlflow() -> Any:
    return pytest.importorskip("mlflow.pyfunc", reason="mlflow is an extra that is not installed")


def saved(mlflow: Any, path: Path, function: Any) -> Path:
    """Save a function of a data frame as an MLflow model."""

    class Model(mlflow.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return function(model_input)

    mlflow.save_model(str(path), python_model=Model(), pip_requirements=[])
    return path


def test_an_mlflow_model_of_scores_names_its_classes(mlflow: Any, tmp_path: Path) -> None:
    import pandas

    def chances(frame: Any) -> Any:
        p = 1 / (1 + np.exp(-frame["a"]))
        return pandas.DataFrame({"yes": p, "no": 1 - p})

    thing, answers = answered(saved(mlflow, tmp_path / "m", chances), LABELS, records(X[:10]))
    assert [a.value for a in answers] == ["yes" if row[0] > 0 else "no" for row in X[:10]]
    np.testing.assert_allclose([a.probabilities["yes"] for a in answers], 1 / (1 + np.exp(-X[:10, 0])), atol=1e-6)
    assert thing.confidence == "probability"


def test_an_mlflow_model_of_numbers_and_of_labels(mlflow: Any, tmp_path: Path) -> None:
    number = saved(mlflow, tmp_path / "n", lambda frame: (frame["a"] * 2).to_numpy())
    thing, answers = answered(number, Output(kind="number"), records(X[:5]))
    np.testing.assert_allclose([a.value for a in answers], 2 * X[:5, 0], rtol=1e-6)
    assert thing.confidence == "none"
    label = saved(mlflow, tmp_path / "l", lambda frame: ["yes"] * len(frame))
    assert answered(label, LABELS, records(X[:2]))[1] == [Prediction("yes")] * 2


def test_an_mlflow_folder_needs_the_operator_s_word(mlflow: Any, tmp_path: Path, state: State) -> None:
    place = saved(mlflow, tmp_path / "m", lambda frame: ["yes"] * len(frame))
    refused_then_registered(state, tmp_path / "data", place, folder_digest(listing(place)))
