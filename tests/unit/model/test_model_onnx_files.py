"""ONNX files of every shape: numbers, intervals, several inputs, scores; what reaches outside is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenure.errors import ModelError
from tenure.model.formats import onnx_file
from tenure.model.formats.onnx import OnnxModel, onnx
from tenure.model.stage import adapt, run_stage
from tenure.types import Failed, Prediction

onnx_lib = pytest.importorskip("onnx")
skl2onnx = pytest.importorskip("skl2onnx")

RNG = np.random.default_rng(5)
X = RNG.normal(size=(200, 3)).astype(np.float32)
NAMES = ("a", "b", "c")


def records(rows: np.ndarray) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, map(float, row), strict=True)) for row in rows]


def stage_of(path: Path, **options: Any) -> tuple[OnnxModel, Any]:
    thing = OnnxModel(file=path.name, **options)
    stage = adapt(thing)
    stage.load(path.parent)
    return thing, stage


def graph(
    path: Path, *, nodes: list[Any], outputs: list[Any], weights: list[Any] | None = None, **more: Any
) -> Path:
    """Write a model of one input `x` (n, 3) by hand."""
    h = onnx_lib.helper
    x = h.make_tensor_value_info("x", onnx_lib.TensorProto.FLOAT, [None, 3])
    made = h.make_graph(nodes, "g", [x], outputs, initializer=weights or [])
    opsets = more.pop("opsets", [h.make_opsetid("", 17)])
    model = h.make_model(made, opset_imports=opsets, ir_version=9, **more)
    onnx_lib.save(model, str(path))
    return path


def linear(path: Path, columns: int, *, scale: float = 1.0) -> tuple[Path, np.ndarray]:
    """Write a model whose output is x @ W."""
    h = onnx_lib.helper
    weight = (scale * np.arange(3 * columns).reshape(3, columns) / 10).astype(np.float32)
    out = h.make_tensor_value_info("y", onnx_lib.TensorProto.FLOAT, [None, columns])
    initial = onnx_lib.numpy_helper.from_array(weight, "w")
    return graph(path, nodes=[h.make_node("MatMul", ["x", "w"], ["y"])], outputs=[out], weights=[initial]), weight


def test_a_regressor_answers_numbers_without_confidence(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(X, X[:, 0] * 2 + 1)
    path = tmp_path / "m.onnx"
    path.write_bytes(skl2onnx.to_onnx(model, X[:1]).SerializeToString())
    thing, stage = stage_of(path, answer="number", features=NAMES)
    answers = run_stage(stage, records(X[:10]))
    np.testing.assert_allclose([a.value for a in answers], model.predict(X[:10]), rtol=1e-4)  # type: ignore[union-attr]
    assert thing.confidence == "none"
    assert all(isinstance(a, Prediction) and a.confidence is None for a in answers)


def test_fields_of_different_types_are_inputs_of_their_own(tmp_path: Path) -> None:
    import pyarrow as pa
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    colour = RNG.choice(["blue", "red"], len(X))
    table = pa.table({"a": X[:, 0], "colour": colour})
    encoder = ColumnTransformer(
        [("n", StandardScaler(), ["a"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["colour"])]
    )
    model = make_pipeline(encoder, LogisticRegression()).fit(table, (colour == "red") ^ (X[:, 0] > 1))
    types = [("a", FloatTensorType([None, 1])), ("colour", StringTensorType([None, 1]))]
    made = skl2onnx.convert_sklearn(model, initial_types=types, options={id(model): {"zipmap": False}})
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    _, stage = stage_of(tmp_path / "m.onnx", labels=("no", "yes"), features=("colour", "a"))
    batch = [{"colour": str(c), "a": float(a)} for a, c in zip(X[:20, 0], colour, strict=False)]
    answers = run_stage(stage, batch)
    expected = model.predict_proba(table.slice(0, 20))[:, 1]
    np.testing.assert_allclose([a.probabilities["yes"] for a in answers], expected, atol=1e-5)  # type: ignore[union-attr, index]
    wrong = run_stage(stage, [{"colour": None, "a": 1.0}, batch[0], {"colour": "red", "a": "x"}])
    assert [type(a) for a in wrong] == [Failed, Prediction, Failed]
    _, other = stage_of(tmp_path / "m.onnx", features=("a",))
    with pytest.raises(ModelError, match="takes a, colour; the fields are a"):
        run_stage(other, [{"a": 1.0}])


def test_scores_are_never_taken_for_probabilities(tmp_path: Path) -> None:
    path, weight = linear(tmp_path / "m.onnx", 3, scale=4)
    _, stage = stage_of(path, features=NAMES)
    with pytest.raises(ModelError, match=r"they reach from .*; say scores=softmax or scores=margin"):
        run_stage(stage, records(X[:20]))
    scores = X[:20] @ weight
    thing, stage = stage_of(path, features=NAMES, scores="softmax")
    answers = run_stage(stage, records(X[:20]))
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([a.confidence for a in answers], expected.max(axis=1), atol=1e-5)  # type: ignore[union-attr]
    assert thing.confidence == "probability"
    thing, stage = stage_of(path, features=NAMES, scores="margin")
    top = np.sort(scores, axis=1)
    gap = top[:, -1] - top[:, -2]
    answers = run_stage(stage, records(X[:20]))
    np.testing.assert_allclose([a.confidence for a in answers], gap / (1 + gap), rtol=1e-4, atol=1e-5)  # type: ignore[union-attr]
    assert thing.confidence == "margin"


def test_quantiles_are_an_interval(tmp_path: Path) -> None:
    path, weight = linear(tmp_path / "m.onnx", 3)
    thing, stage = stage_of(path, features=NAMES, quantiles=(0.1, 0.5, 0.9))
    rows = X[:10] @ weight
    answers = run_stage(stage, records(X[:10]))
    np.testing.assert_allclose([a.value for a in answers], rows[:, 1], atol=1e-5)  # type: ignore[union-attr]
    expected = 1 / (1 + rows.max(axis=1) - rows.min(axis=1))
    np.testing.assert_allclose([a.confidence for a in answers], expected, rtol=1e-4)  # type: ignore[union-attr]
    assert thing.confidence == "interval"


def test_the_output_to_answer_from_can_be_named(tmp_path: Path) -> None:
    path, _ = linear(tmp_path / "m.onnx", 1)
    with pytest.raises(ModelError, match="has no output z; it has y"):
        stage_of(path, output="z")
    _, stage = stage_of(path, output="y", features=NAMES)
    assert isinstance(run_stage(stage, records(X[:1]))[0], Prediction)


def test_a_model_with_another_number_of_features_says_so(tmp_path: Path) -> None:
    path, _ = linear(tmp_path / "m.onnx", 1)
    _, stage = stage_of(path, features=("a", "b"))
    with pytest.raises(ModelError, match="takes 3 features, got 2"):
        run_stage(stage, records(X[:1]))


# What a file asks for beside itself


def external(tmp_path: Path, location: str) -> Path:
    """Write a model whose weights are at `location`."""
    path, _ = linear(tmp_path / "plain.onnx", 2)
    model = onnx_lib.load(str(path))
    tensor = model.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx_lib.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "24")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "", "C:\\secret"])
def test_weights_outside_the_bundle_are_refused(tmp_path: Path, location: str) -> None:
    path = external(tmp_path, location)
    with pytest.raises(ModelError, match="outside the bundle") as caught:
        onnx(path)
    assert caught.value.code == "outside_file"


def test_weights_beside_the_model_must_be_there_and_no_link(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin")
    assert onnx(path)(X[:1])["y"].shape == (1, 2)
    (tmp_path / "weights.bin").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"keeps weights in weights.bin, which is not among the files"):
        onnx(path)
    (tmp_path / "weights.bin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="not among the files"):
        onnx(path)


def test_operators_of_others_are_refused_wherever_they_hide(tmp_path: Path) -> None:
    h = onnx_lib.helper
    out = h.make_tensor_value_info("y", onnx_lib.TensorProto.FLOAT, None)
    opsets = [h.make_opsetid("", 17), h.make_opsetid("evil.ops", 1)]
    bad = h.make_node("Run", ["x"], ["y"], domain="evil.ops")
    path = graph(tmp_path / "m.onnx", nodes=[bad], outputs=[out], opsets=opsets)
    with pytest.raises(ModelError, match=r"needs the operator evil.ops::Run") as caught:
        onnx(path)
    assert caught.value.code == "custom_operator"
    inner = h.make_graph([bad], "inner", [], [out])
    yes = h.make_tensor("c", onnx_lib.TensorProto.BOOL, [], [True])
    nodes = [
        h.make_node("Constant", [], ["c"], value=yes),
        h.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]
    hidden = graph(tmp_path / "hidden.onnx", nodes=nodes, outputs=[out], opsets=opsets)
    with pytest.raises(ModelError, match=r"evil.ops::Run"):
        onnx(hidden)


def test_functions_that_the_model_defines_itself_are_its_own(tmp_path: Path) -> None:
    h = onnx_lib.helper
    opsets = [h.make_opsetid("", 17), h.make_opsetid("mine", 1)]
    twice = h.make_function("mine", "Twice", ["a"], ["b"], [h.make_node("Add", ["a", "a"], ["b"])], opsets[:1])
    out = h.make_tensor_value_info("y", onnx_lib.TensorProto.FLOAT, [None, 3])
    node = h.make_node("Twice", ["x"], ["y"], domain="mine")
    path = graph(tmp_path / "m.onnx", nodes=[node], outputs=[out], opsets=opsets, functions=[twice])
    np.testing.assert_allclose(onnx(path)(X[:2])["y"], 2 * X[:2])


@pytest.mark.parametrize("cut", [1, 7, 40, 90])
def test_a_broken_file_is_no_model(tmp_path: Path, cut: int) -> None:
    path, _ = linear(tmp_path / "m.onnx", 2)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ModelError, match=r"cannot load m.onnx"):
        onnx(path)


def test_a_file_that_is_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = linear(tmp_path / "m.onnx", 2)
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 10)
    with pytest.raises(ModelError, match="is larger than"):
        onnx(path)
