"""An ONNX file answers as the model that it came from, with and without code around it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenure.data.state import State
from tenure.errors import ModelError
from tenure.model.bundle import load
from tenure.model.columns import Columns, matrix
from tenure.model.formats.onnx import OnnxClassifier, onnx
from tenure.model.registry import Registry
from tenure.model.stage import adapt, run_stage
from tenure.scope.project import EndpointSpec, Field, Output
from tenure.types import Failed, Prediction

sklearn_linear = pytest.importorskip("sklearn.linear_model")
skl2onnx = pytest.importorskip("skl2onnx")

RNG = np.random.default_rng(3)
X = RNG.normal(size=(300, 3)).astype(np.float32)
Y = (X[:, 0] + 2 * X[:, 2] > 0).astype(int) + (X[:, 1] > 1)
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def classifier() -> Any:
    return sklearn_linear.LogisticRegression().fit(X, Y)


@pytest.fixture(scope="module", params=[True, False], ids=["zipmap", "tensor"])
def file(request: pytest.FixtureRequest, classifier: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = skl2onnx.to_onnx(classifier, X[:1], options={"zipmap": request.param})
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def records(rows: np.ndarray) -> list[dict[str, float]]:
    return [dict(zip(NAMES, map(float, row), strict=True)) for row in rows]


def test_a_session_returns_its_outputs_by_name(file: Path, classifier: Any) -> None:
    session = onnx(file)
    assert len(session.inputs) == 1
    outputs = session(X[:4].astype(np.float64))
    assert set(outputs) == set(session.outputs)
    np.testing.assert_array_equal(outputs[session.outputs[0]], classifier.predict(X[:4]))
    assert session(**{session.inputs[0]: X[:1]}).keys() == outputs.keys()
    with pytest.raises(ModelError, match="the model takes X"):
        session(X, X)
    with pytest.raises(ModelError, match="got Y"):
        session(Y=X)


def test_the_stage_agrees_with_the_model_for_records_and_arrays(file: Path, classifier: Any) -> None:
    stage = adapt(OnnxClassifier(file=file.name, labels=("no", "maybe", "yes"), features=NAMES))
    stage.load(file.parent)
    expected = classifier.predict_proba(X[:50])
    for batch in (records(X[:50]), list(X[:50])):
        answers = [a for a in run_stage(stage, batch) if isinstance(a, Prediction)]
        assert [a.value for a in answers] == [("no", "maybe", "yes")[i] for i in expected.argmax(axis=1)]
        np.testing.assert_allclose([a.confidence for a in answers], expected.max(axis=1), atol=1e-5)
        np.testing.assert_allclose([list((a.probabilities or {}).values()) for a in answers], expected, atol=1e-5)


def test_features_are_taken_by_name_and_not_by_place(file: Path) -> None:
    stage = OnnxClassifier(file=file.name, features=NAMES)
    stage.load(file.parent)
    turned = [dict(reversed(list(r.items()))) for r in records(X[:5])]
    assert list(stage.predict(turned)) == list(stage.predict(records(X[:5])))


@pytest.mark.parametrize(
    ("options", "batch", "words"),
    [
        ({"labels": ("one", "two")}, records(X[:1]), "3 classes, 2 labels"),
        ({}, ["text"], "takes features"),
    ],
)
def test_a_wrong_setup_says_what_is_wrong(file: Path, options: Any, batch: list[Any], words: str) -> None:
    stage = adapt(OnnxClassifier(file=file.name, **options))
    stage.load(file.parent)
    with pytest.raises(ModelError, match=words):
        run_stage(stage, batch)


def test_a_bad_row_fails_alone(file: Path) -> None:
    stage = adapt(OnnxClassifier(file=file.name))
    stage.load(file.parent)
    rows: list[Any] = records(X[:3])
    rows[1] = {**rows[1], "b": "text"}
    assert [type(a) for a in run_stage(stage, rows)] == [Prediction, Failed, Prediction]


def test_a_missing_or_broken_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no ONNX file"):
        onnx(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07 nonsense")
    with pytest.raises(ModelError, match="cannot load"):
        onnx(tmp_path / "bad.onnx")


def test_an_onnx_file_is_a_version_without_any_code(
    file: Path, classifier: Any, state: State, tmp_path: Path
) -> None:
    registry = Registry(state, tmp_path / "data")
    spec = EndpointSpec(input="record", fields={name: Field(type="float") for name in NAMES})
    labels = ("no", "maybe", "yes")
    version = registry.register(
        "grades", file, spec=spec, output=Output(labels=labels), sample=records(X[:1])[0], name="grader"
    )
    made = registry.get(version)
    assert made.manifest.code == {}
    assert list(made.manifest.files) == ["model.onnx"]
    answers = [r.prediction for r in load(made).run(records(X[:20]))]
    wanted = [labels[i] for i in classifier.predict(X[:20])]
    assert [a.value for a in answers if isinstance(a, Prediction)] == wanted


def test_a_matrix_of_records_is_the_one_of_their_columns() -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "b": None, "c": True}, {"a": 2.5, "c": 2**40}]
    np.testing.assert_array_equal(matrix(rows, NAMES), Columns(rows).matrix(*NAMES))
    np.testing.assert_array_equal(matrix(rows[:1]), Columns(rows[:1]).matrix())
    with pytest.raises(ValueError, match="'b' is not numeric"):
        matrix([{"a": 1, "b": "7"}], NAMES)
