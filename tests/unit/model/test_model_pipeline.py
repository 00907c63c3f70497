"""Stages one after the other: what fails stops, what works goes on, and each stage's time is known."""

import math
from typing import Any

import numpy as np
import pytest

from tenure.clock import ManualClock
from tenure.errors import ModelError
from tenure.model.answer import Scores
from tenure.model.pipeline import Pipeline
from tenure.model.stage import adapt
from tenure.scope.project import Output
from tenure.types import Failed, Prediction


def split(texts: list[str]) -> list[Any]:
    return [Failed("empty") if not text else text.split() for text in texts]


def count(words: list[list[str]]) -> list[Prediction]:
    return [Prediction(len(w), 0.5) for w in words]


def test_values_pass_from_stage_to_stage() -> None:
    pipeline = Pipeline([("split", adapt(split)), ("count", adapt(count))])
    assert pipeline.names == ("split", "count")
    assert [r.prediction for r in pipeline.run(["a b", "c"])] == [Prediction(2, 0.5), Prediction(1, 0.5)]


def test_an_item_that_a_stage_fails_does_not_reach_the_next() -> None:
    seen: list[int] = []

    def counting(words: list[list[str]]) -> list[Prediction]:
        seen.append(len(words))
        return count(words)

    results = Pipeline([("split", adapt(split)), ("count", adapt(counting))]).run(["a", "", "b c"])
    assert [r.prediction for r in results] == [
        Prediction(1, 0.5),
        Failed("stage split: empty"),
        Prediction(2, 0.5),
    ]
    assert seen == [2]
    assert Pipeline([("split", adapt(split)), ("count", adapt(counting))]).run([""])[0].stage_us[1] == 0
    assert seen == [2]


def test_a_batchs_time_is_divided_among_its_living_items() -> None:
    clock = ManualClock()

    def slow(texts: list[str]) -> list[Any]:
        clock.advance(0.003)
        return [Failed("no") if t == "x" else t for t in texts]

    def slower(texts: list[str]) -> list[str]:
        clock.advance(0.010)
        return texts

    results = Pipeline([("a", adapt(slow)), ("b", adapt(slower))], clock=clock).run(["u", "x", "v"])
    assert [r.stage_us for r in results] == [(1000, 5000), (1000, 0), (1000, 5000)]


def test_a_broken_contract_fails_the_batch_and_raises_nothing() -> None:
    results = Pipeline([("lazy", adapt(lambda _: ["one"]))]).run(["a", "b"])
    assert all(isinstance(r.prediction, Failed) and "expected 2, got 1" in r.prediction.reason for r in results)


def test_an_answer_outside_the_endpoints_output_fails() -> None:
    pipeline = Pipeline([("echo", adapt(lambda batch: batch))], output=Output(labels=("good",)))
    good, bad = pipeline.run(["good", "ugly"])
    assert good.prediction == Prediction("good")
    assert isinstance(bad.prediction, Failed)
    assert "expected one of good" in bad.prediction.reason


def test_a_pipeline_needs_a_stage_and_an_empty_batch_is_empty() -> None:
    with pytest.raises(ModelError):
        Pipeline([])
    assert len(Pipeline([("echo", adapt(lambda batch: batch))]).run([])) == 0


@pytest.mark.parametrize(
    ("chance", "answered"),
    [
        (0.0, 0.0), (-0.0, 0.0), (1e-45, 1e-45), (1.0, 1.0), (1 + 5e-7, 1.0), (-5e-7, 0.0),
        (1.1, None), (-0.1, None), (math.nan, None), (math.inf, None), (-math.inf, None),
    ],
)  # fmt: skip
def test_a_chance_outside_of_0_to_1_fails_its_row_alone(chance: float, answered: float | None) -> None:
    failed_or_first, second = Scores.of(("a", "b"), np.array([[chance, 0.0], [0.25, 0.75]], np.float32))
    assert second == Prediction("b", 0.75, {"a": 0.25, "b": 0.75})
    if answered is None:
        assert isinstance(failed_or_first, Failed)
    else:
        assert isinstance(failed_or_first, Prediction)
        assert failed_or_first.probabilities == {"a": np.float32(answered), "b": 0.0}
