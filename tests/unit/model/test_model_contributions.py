"""Contributions: with the model's own baseline they add up to its score, and they speak for the answer given."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenure.errors import ModelError
from tenure.model import author
from tenure.model.answer import as_prediction
from tenure.model.formats.sklearn import untrusted
from tenure.model.stage import adapt, run_stage
from tenure.scope.project import EndpointSpec, Field, Output, Trust
from tenure.types import Failed, Prediction

RNG = np.random.default_rng(5)
X = RNG.normal(size=(300, 3)).astype(np.float32).astype(np.float64)
TWO = (X[:, 0] + 0.3 * X[:, 1] > 0).astype(int)
THREE = TWO + (X[:, 2] > 0.5)
NUMBER = 3 * X[:, 0] - X[:, 1]
NAMES = ("a", "b", "c")
SPEC = EndpointSpec(input="record", fields={name: Field(type="float") for name in NAMES})
CLASSES = {2: Output(labels=("low", "mid")), 3: Output(labels=("low", "mid", "high"))}
ROWS = 40


def answered(path: Path, output: Output) -> list[Any]:
    thing = author.model_stage(path, SPEC, output, contributions=True)
    if hasattr(thing, "allow"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        thing.allow(Trust(skops={digest: tuple(untrusted(path))}))
    stage = adapt(thing)
    stage.load(path.parent)
    return run_stage(stage, [dict(zip(NAMES, map(float, row), strict=True)) for row in X[:ROWS]])


def sums(answers: list[Any]) -> np.ndarray:
    assert all(tuple(a.contributions) == NAMES for a in answers)
    return np.array([sum(a.contributions.values()) for a in answers])


def test_boosted_classes_add_up_to_their_score(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    for target, objective in ((TWO, "binary:logistic"), (THREE, "multi:softprob")):
        many = {"num_class": 3} if objective.startswith("multi") else {}
        data = xgboost.DMatrix(X, target, feature_names=list(NAMES))
        booster = xgboost.train({"objective": objective, "nthread": 1, "seed": 1, **many}, data, 5)
        booster.save_model(tmp_path / "m.ubj")
        output = CLASSES[3 if many else 2]
        answers = answered(tmp_path / "m.ubj", output)
        rows = xgboost.DMatrix(X[:ROWS], feature_names=list(NAMES))
        score = booster.predict(rows, output_margin=True)
        base = booster.predict(rows, pred_contribs=True)[..., -1]
        k = np.array([output.labels.index(a.value) for a in answers])
        wanted = (score - base)[np.arange(ROWS), k] if many else (score - base) * np.where(k == 1, 1, -1)
        np.testing.assert_allclose(sums(answers), wanted, atol=1e-4)


def test_boosted_numbers_and_lightgbm(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    quiet = {"verbose": -1, "num_threads": 1, "seed": 1}
    cases = (
        (NUMBER, {"objective": "regression"}, Output(kind="number")),
        (TWO, {"objective": "binary"}, CLASSES[2]),
        (THREE, {"objective": "multiclass", "num_class": 3}, CLASSES[3]),
    )
    for target, options, output in cases:
        data = lightgbm.Dataset(X, target, feature_name=list(NAMES))
        booster = lightgbm.train({**quiet, **options}, data, 5)
        booster.save_model(tmp_path / "m.txt")
        answers = answered(tmp_path / "m.txt", output)
        raw = booster.predict(X[:ROWS], raw_score=True).reshape(ROWS, -1)
        base = booster.predict(X[:ROWS], pred_contrib=True).reshape(ROWS, -1, 4)[:, :, -1]
        part = raw - base
        if output.kind == "number":
            wanted = part[:, 0]
        else:
            k = np.array([output.labels.index(a.value) for a in answers])
            wanted = part[np.arange(ROWS), k] if part.shape[1] > 1 else part[:, 0] * np.where(k == 1, 1, -1)
        np.testing.assert_allclose(sums(answers), wanted, atol=1e-6)


def test_linear_models_weigh_their_scaled_fields(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    path = tmp_path / "m.skops"
    two = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, TWO)
    skops.dump(two, path)
    answers = answered(path, CLASSES[2])
    score = two.decision_function(X[:ROWS]) - two[-1].intercept_[0]
    towards = np.where([a.value == "mid" for a in answers], 1, -1)
    np.testing.assert_allclose(sums(answers), score * towards)
    three = LogisticRegression().fit(X, THREE)
    skops.dump(three, path)
    answers = answered(path, CLASSES[3])
    k = [CLASSES[3].labels.index(a.value) for a in answers]
    scores = three.decision_function(X[:ROWS]) - three.intercept_
    np.testing.assert_allclose(sums(answers), scores[np.arange(ROWS), k])
    number = LinearRegression().fit(X, NUMBER)
    skops.dump(number, path)
    np.testing.assert_allclose(
        sums(answered(path, Output(kind="number"))), number.predict(X[:ROWS]) - number.intercept_
    )


def test_a_model_without_exact_contributions_is_refused(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    path = tmp_path / "m.skops"
    for model in (GaussianNB(), make_pipeline(PolynomialFeatures(), LogisticRegression())):
        skops.dump(model.fit(X, TWO), path)
        with pytest.raises(ModelError, match="no exact contributions: it is no linear model"):
            answered(path, CLASSES[2])


def test_code_may_say_them_and_what_is_no_number_is_left_out() -> None:
    said = as_prediction(Prediction("good", 0.9, contributions={"a": np.float32(0.5), "b": float("nan")}))
    assert isinstance(said, Prediction)
    assert said.contributions == {"a": 0.5}
    assert isinstance(as_prediction(Prediction("good", contributions={"a": "much"})), Failed)  # type: ignore[dict-item]
    assert isinstance(as_prediction(Prediction("good", contributions=[0.5])), Failed)  # type: ignore[arg-type]
