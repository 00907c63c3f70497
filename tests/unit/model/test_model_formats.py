"""Each format answers as the library that wrote the file, and says what its confidence is worth."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenure.errors import ModelError, ProjectError
from tenure.model import author
from tenure.model.formats import known
from tenure.model.formats.rule import Rule
from tenure.model.formats.sklearn import untrusted
from tenure.model.stage import adapt, run_stage
from tenure.scope.condition import condition
from tenure.scope.project import EndpointSpec, Field, Output, Trust
from tenure.scope.reader import read_project
from tenure.types import Failed, Prediction

RNG = np.random.default_rng(11)
X = RNG.normal(size=(300, 3))
TWO = (X[:, 0] + 0.3 * X[:, 1] > 0).astype(int)
THREE = TWO + (X[:, 2] > 0.5)
NUMBER = 3 * X[:, 0] - X[:, 1]
NAMES = ("a", "b", "c")
SPEC = EndpointSpec(input="record", fields={name: Field(type="float") for name in NAMES})


def records(rows: np.ndarray) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, map(float, row), strict=True)) for row in rows]


def answered(path: Path, output: Output, batch: list[Any], *, spec: EndpointSpec = SPEC, **options: Any) -> Any:
    """Return the stage that the file is, and its answers."""
    thing = author.model_stage(path, spec, output, **options)
    if hasattr(thing, "allow"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        thing.allow(Trust(skops={digest: tuple(untrusted(path))}))
    stage = adapt(thing)
    stage.load(path.parent)
    return thing, run_stage(stage, batch)


def said(answers: list[Prediction | Failed]) -> list[Any]:
    return [a.value if isinstance(a, Prediction) else a.reason for a in answers]


def sure(answers: list[Any]) -> list[float]:
    return [a.confidence for a in answers]


# XGBoost


@pytest.fixture(scope="module")
def xgboost() -> Any:
    return pytest.importorskip("xgboost")


@pytest.mark.parametrize("ending", [".ubj", ".json"])
@pytest.mark.parametrize("objective", ["binary:logistic", "binary:logitraw", "multi:softprob", "multi:softmax"])
def test_a_booster_of_classes_gives_its_probabilities(
    xgboost: Any, tmp_path: Path, objective: str, ending: str
) -> None:
    many = objective.startswith("multi")
    options = {"objective": objective, "nthread": 1, **({"num_class": 3} if many else {})}
    data = xgboost.DMatrix(X, THREE if many else TWO, feature_names=list(NAMES))
    booster = xgboost.train(options, data, 5)
    path = tmp_path / f"model{ending}"
    booster.save_model(path)
    margins = booster.predict(xgboost.DMatrix(X[:20], feature_names=list(NAMES)), output_margin=True)
    if many:
        expected = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    else:
        chance = 1 / (1 + np.exp(-margins))
        expected = np.column_stack([1 - chance, chance])
    labels = ("low", "mid", "high")[: expected.shape[1]]
    thing, answers = answered(path, Output(labels=labels), records(X[:20]))
    assert thing.confidence == "probability"
    assert said(answers) == [labels[i] for i in expected.argmax(axis=1)]
    np.testing.assert_allclose(sure(answers), expected.max(axis=1), atol=1e-5)


def test_a_booster_with_margins_orders_its_answers_without_claiming_chances(xgboost: Any, tmp_path: Path) -> None:
    booster = xgboost.train({"objective": "binary:hinge", "nthread": 1}, xgboost.DMatrix(X, TWO), 5)
    booster.save_model(tmp_path / "m.ubj")
    thing, answers = answered(tmp_path / "m.ubj", Output(labels=("no", "yes")), records(X[:50]))
    margins = booster.predict(xgboost.DMatrix(X[:50]), output_margin=True)
    assert thing.confidence == "margin"
    assert said(answers) == ["yes" if m > 0 else "no" for m in margins]
    assert np.array_equal(np.argsort(sure(answers), kind="stable"), np.argsort(np.abs(margins), kind="stable"))
    assert all(a.probabilities is None and 0 <= a.confidence < 1 for a in answers)


def test_quantiles_give_a_confidence_that_falls_with_the_width(xgboost: Any, tmp_path: Path) -> None:
    options = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9], "nthread": 1}
    booster = xgboost.train(options, xgboost.DMatrix(X, NUMBER), 10)
    booster.save_model(tmp_path / "m.json")
    thing, answers = answered(tmp_path / "m.json", Output(kind="number"), records(X[:30]), scale=2.0)
    rows = booster.predict(xgboost.DMatrix(X[:30]))
    assert thing.confidence == "interval"
    np.testing.assert_allclose(said(answers), rows[:, 1], rtol=1e-5)
    np.testing.assert_allclose(sure(answers), 2 / (2 + rows.max(axis=1) - rows.min(axis=1)), rtol=1e-5)


def test_a_booster_of_numbers_has_no_confidence(xgboost: Any, tmp_path: Path) -> None:
    booster = xgboost.train({"objective": "reg:squarederror", "nthread": 1}, xgboost.DMatrix(X, NUMBER), 5)
    booster.save_model(tmp_path / "m.ubj")
    thing, answers = answered(tmp_path / "m.ubj", Output(kind="number"), records(X[:5]))
    assert (thing.confidence, sure(answers)) == ("none", [None] * 5)
    np.testing.assert_allclose(said(answers), booster.predict(xgboost.DMatrix(X[:5])), rtol=1e-5)


def test_a_missing_value_and_a_wrong_one(xgboost: Any, tmp_path: Path) -> None:
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(X, TWO), 5)
    booster.save_model(tmp_path / "m.ubj")
    rows = [{**records(X[:1])[0], "a": None}, {**records(X[:1])[0], "b": "text"}, *records(X[:1])]
    _, answers = answered(tmp_path / "m.ubj", Output(labels=("no", "yes")), rows)
    assert [type(a) for a in answers] == [Prediction, Failed, Prediction]
    hole = np.array([[np.nan, *X[0, 1:]]])
    np.testing.assert_allclose(answers[0].probabilities["yes"], booster.inplace_predict(hole)[0], rtol=1e-5)


# LightGBM


@pytest.fixture(scope="module")
def lightgbm() -> Any:
    return pytest.importorskip("lightgbm")


def test_a_lightgbm_file_gives_its_probabilities(lightgbm: Any, tmp_path: Path) -> None:
    data = lightgbm.Dataset(X, THREE, feature_name=list(NAMES))
    booster = lightgbm.train(
        {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}, data, 5
    )
    booster.save_model(tmp_path / "m.txt")
    labels = ("low", "mid", "high")
    thing, answers = answered(tmp_path / "m.txt", Output(labels=labels), records(X[:30]))
    expected = booster.predict(X[:30])
    assert thing.confidence == "probability"
    assert said(answers) == [labels[i] for i in expected.argmax(axis=1)]
    np.testing.assert_allclose(sure(answers), expected.max(axis=1), atol=1e-6)


def test_a_lightgbm_file_of_numbers(lightgbm: Any, tmp_path: Path) -> None:
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(X, NUMBER), 5)
    booster.save_model(tmp_path / "m.txt")
    thing, answers = answered(tmp_path / "m.txt", Output(kind="number"), list(X[:5]))
    np.testing.assert_allclose(said(answers), booster.predict(X[:5]), rtol=1e-9)
    assert thing.confidence == "none"


def test_categories_that_a_data_frame_named_are_found(lightgbm: Any, tmp_path: Path) -> None:
    colours = RNG.integers(0, 3, len(X))
    rows = np.column_stack([X[:, 0], colours])
    data = lightgbm.Dataset(
        rows, (colours == 1) ^ (X[:, 0] > 1), feature_name=["a", "colour"], categorical_feature=[1]
    )
    options = {"objective": "binary", "verbose": -1, "num_threads": 1}
    booster = lightgbm.train({**options, "min_data_per_group": 5, "cat_smooth": 1}, data, 5)
    path = tmp_path / "m.txt"
    booster.save_model(path)
    # what a pandas frame makes LightGBM write; the library itself then wants a frame, we take the texts
    text = path.read_text()
    path.write_text(text.replace("pandas_categorical:null", 'pandas_categorical:[["blue", "green", "red"]]'))
    spec = EndpointSpec(input="record", fields={"a": Field(type="float"), "colour": Field(type="category")})
    words = ("blue", "green", "red")
    batch = [{"a": float(r[0]), "colour": words[int(r[1])]} for r in rows[:40]]
    _, answers = answered(path, Output(labels=("no", "yes")), batch, spec=spec)
    np.testing.assert_allclose([a.probabilities["yes"] for a in answers], booster.predict(rows[:40]), atol=1e-6)
    _, unknown = answered(path, Output(labels=("no", "yes")), [{"a": 0.0, "colour": "mauve"}], spec=spec)
    expected = booster.predict(np.array([[0.0, np.nan]]))
    np.testing.assert_allclose(unknown[0].probabilities["yes"], expected[0], atol=1e-6)


# scikit-learn


@pytest.fixture(scope="module")
def skops() -> Any:
    return pytest.importorskip("skops.io")


def test_an_estimator_with_probabilities_names_its_own_classes(skops: Any, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    words = np.array(["good", "bad"])[TWO]
    model = LogisticRegression().fit(X, words)
    skops.dump(model, tmp_path / "m.skops")
    thing, answers = answered(tmp_path / "m.skops", Output(labels=("good", "bad")), records(X[:30]))
    assert thing.confidence == "probability"
    assert said(answers) == model.predict(X[:30]).tolist()
    np.testing.assert_allclose(sure(answers), model.predict_proba(X[:30]).max(axis=1), atol=1e-6)
    with pytest.raises(ModelError, match=r"answers bad, good; the labels differ in 'bad'"):
        answered(tmp_path / "m.skops", Output(labels=("good", "defect")), records(X[:1]))


def test_margins_intervals_and_labels_alone(skops: Any, tmp_path: Path) -> None:
    from sklearn.ensemble import IsolationForest
    from sklearn.linear_model import BayesianRidge, LinearRegression
    from sklearn.neighbors import NearestCentroid
    from sklearn.svm import LinearSVC

    path = tmp_path / "m.skops"
    cases: list[tuple[Any, Any, Output, str]] = [
        (LinearSVC(), THREE, Output(labels=("x", "y", "z")), "margin"),
        (IsolationForest(n_estimators=4, random_state=0), None, Output(labels=("odd", "usual")), "margin"),
        (BayesianRidge(), NUMBER, Output(kind="number"), "interval"),
        (LinearRegression(), NUMBER, Output(kind="number"), "none"),
        (NearestCentroid(), np.array(["no", "yes"])[TWO], Output(labels=("no", "yes")), None),
    ]  # type: ignore[list-item]
    for model, target, output, worth in cases:
        model.fit(X, target)
        skops.dump(model, path)
        thing, answers = answered(path, output, records(X[:20]))
        plain = model.predict(X[:20])
        if output.kind == "number":
            np.testing.assert_allclose(said(answers), plain, rtol=1e-6, atol=1e-6)
        elif plain.dtype.kind in "iu":
            assert said(answers) == [output.labels[np.unique(plain).tolist().index(i)] for i in plain]
        else:
            assert said(answers) == plain.tolist()
        if worth is not None:
            assert thing.confidence == worth
        assert all((a.confidence is None) == (thing.confidence == "none") for a in answers)


def test_a_forest_needs_the_operator_s_word_and_uses_one_core(skops: Any, tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    path = tmp_path / "m.skops"
    skops.dump(RandomForestClassifier(3, n_jobs=-1, random_state=0).fit(X, TWO), path)
    stage = author.model_stage(path, SPEC, Output(labels=("no", "yes")))
    with pytest.raises(
        ModelError, match=r"types that nobody trusted: sklearn.tree._tree.Tree.*trust: \{skops"
    ) as e:
        stage.load(tmp_path)
    assert e.value.code == "untrusted_type"
    stage.allow(Trust(skops={"0" * 64: ("sklearn.tree._tree.Tree",)}))
    with pytest.raises(ModelError, match="nobody trusted"):
        stage.load(tmp_path)
    thing, answers = answered(path, Output(labels=("no", "yes")), records(X[:3]))
    assert thing._estimator.n_jobs == 1
    assert len(answers) == 3


def test_fields_of_different_types_reach_a_column_transformer(skops: Any, tmp_path: Path) -> None:
    import pyarrow as pa
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
    skops.dump(model, tmp_path / "m.skops")
    batch = [{"colour": str(c), "a": float(a)} for a, c in zip(X[:20, 0], colour, strict=False)]
    _, answers = answered(tmp_path / "m.skops", Output(labels=("no", "yes")), batch)
    expected = model.predict_proba(table.slice(0, 20))[:, 1]
    np.testing.assert_allclose([a.probabilities["yes"] for a in answers], expected, atol=1e-6)


# Rules


def test_a_rule_takes_the_first_case_that_holds() -> None:
    rule = Rule(
        otherwise="ok",
        cases=[
            {"when": "amount > 1000 and country != de", "answer": "fraud", "confidence": 0.9},
            {"when": 'country == "far away" and new == true', "answer": "review"},
        ],
    )
    rule.load(Path())
    rows = [
        {"amount": 2000, "country": "fr", "new": False},
        {"amount": 2000, "country": "de", "new": True},
        {"amount": 1, "country": "far away", "new": True},
        {"amount": None, "country": "fr"},
        {"amount": "2000", "country": "fr"},
    ]
    assert said(run_stage(adapt(rule), rows)) == ["fraud", "ok", "review", "ok", "ok"]
    assert rule.confidence == "stated"


def test_a_constant_takes_anything() -> None:
    constant = Rule(otherwise="good")
    constant.load(Path())
    assert said(run_stage(adapt(constant), ["text", {"a": 1}])) == ["good", "good"]
    assert constant.confidence == "none"


@pytest.mark.parametrize(
    "text", ["", "amount", "amount >", "amount > 1 or x > 2", "__import__('os')", "a > 1 and"]
)
def test_a_condition_that_is_not_understood_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="expected such as amount > 1000"):
        condition(text)
    with pytest.raises(ModelError, match="expected such as amount > 1000"):
        Rule(otherwise="a", cases=[{"when": text, "answer": "b"}]).load(Path())


def test_and_inside_quotes_is_text() -> None:
    assert condition("name == 'this and that' and n >= 2")({"name": "this and that", "n": 2})


RULES = """
project: p
scope: {y: {labels: [ok, fraud]}}
endpoints:
  pay:
    input: record
    fields: {amount: {type: float}}
    automation: {max: assist}
    pipeline:
      - {stage: baseline, rule: [{when: amount > 1000, answer: fraud, confidence: 80%}], otherwise: ok}
"""


def test_a_rule_may_stand_in_the_project_file() -> None:
    (spec,) = read_project(RULES).endpoints["pay"].pipeline
    rule = author.rule_of(spec)
    rule.load(Path())
    answers = run_stage(adapt(rule), [{"amount": 2000.0}, {"amount": 2.0}])
    assert answers == [Prediction("fraud", 0.8), Prediction("ok")]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("amount > 1000,", "amount above 1000,", r"rule\[0\].when: expected such as amount > 1000"),
        ("amount > 1000,", "amuont > 1000,", r"rule\[0\].when: expected one of the fields amount, got amuont"),
        ("answer: fraud", "answer: frod", r"answer: expected one of the labels ok, fraud, got frod"),
        (", otherwise: ok", "", "expected either uses, or otherwise"),
        ("otherwise: ok", "otherwise: ok, uses: my:Model", "expected either uses, or otherwise"),
        ("input: record\n    fields: {amount: {type: float}}", "input: text", "rules need input: record"),
    ],
)
def test_a_wrong_rule_in_the_project_file_is_named(old: str, new: str, words: str) -> None:
    with pytest.raises(ProjectError, match=words):
        read_project(RULES.replace(old, new))


# Recognising


def test_a_file_is_known_by_its_content_and_its_ending_must_agree(tmp_path: Path, xgboost: Any) -> None:
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(X, NUMBER), 2)
    booster.save_model(tmp_path / "m.ubj")
    (tmp_path / "m.onnx").write_bytes((tmp_path / "m.ubj").read_bytes())
    assert known.recognise(tmp_path / "m.ubj") is known.XGBOOST
    with pytest.raises(ModelError, match=r"m.onnx is of another format \(XGBoost model\); name it .ubj") as e:
        known.recognise(tmp_path / "m.onnx")
    assert e.value.code == "not_a_model"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.onnx", b"hello\n", "m.onnx is text"),
        ("m.json", b'{"a": 1}', "JSON that is no XGBoost model"),
        ("m.txt", b"", "an empty file"),
        ("m.pkl", b"\x80\x04N.", "a file that is refused: files ending in .pkl can run code"),
        ("m.bin", b"\x80\x04N.", "a file that is refused: it is a pickle"),
        (
            "m.safetensors",
            b"\x40\0\0\0\0\0\0\0" + b'{"x":{"dtype":"F32"}}',
            "safetensors: weights without a model",
        ),
        ("m.bin", b"\xff\xfe" + bytes(range(200, 256)), "bytes that are none of these formats"),
    ],
)
def test_what_is_no_model_says_what_it_is_and_what_is_accepted(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        known.recognise(tmp_path / name)
    assert "Accepted are: ONNX model (.onnx); skops" in caught.value.message


def test_an_unknown_option_names_those_there_are(tmp_path: Path, xgboost: Any) -> None:
    xgboost.train({"nthread": 1}, xgboost.DMatrix(X, NUMBER), 2).save_model(tmp_path / "m.ubj")
    with pytest.raises(ModelError, match="XgboostModel has no option 'speed'; it has file, labels"):
        known.stage_of(tmp_path / "m.ubj", file="m.ubj", speed=3)


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "xgboost", None)
    (tmp_path / "m.json").write_text('{"learner": {}}')
    with pytest.raises(ModelError, match=r"pip install 'tenure\[xgboost\]'") as caught:
        author.model_stage(tmp_path / "m.json", SPEC, Output(kind="number")).load(tmp_path)
    assert caught.value.code == "missing_library"


def test_a_format_s_file_does_not_leave_the_bundle(tmp_path: Path) -> None:
    from tenure.model.formats.lightgbm import LightgbmModel

    with pytest.raises(ModelError, match="does not stay inside the bundle"):
        LightgbmModel("../m.txt").load(tmp_path)
