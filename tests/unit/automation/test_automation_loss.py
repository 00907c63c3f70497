"""What "wrong" means, by kind of answer."""

from __future__ import annotations

import math

import pytest

from tenure.deploy import loss
from tenure.deploy.loss import Said
from tenure.scope.project import LossSpec
from tenure.types import Box, Value


def box(x: float, label: str = "crack") -> Box:
    return Box(x, 0.0, x + 10.0, 10.0, label)


@pytest.mark.parametrize(
    ("truth", "said", "wrong"),
    [
        ((), (), 0.0),
        ((box(0),), (box(1),), 0.0),
        ((box(0),), (), 1.0),
        ((), (box(0),), 1.0),
        ((box(0),), (box(0, "scratch"),), 1.0),
        ((box(0),), (box(9),), 1.0),
        ((box(0), box(50)), (box(50), box(0)), 0.0),
    ],
)
def test_boxes(truth: tuple[Box, ...], said: tuple[Box, ...], wrong: float) -> None:
    assert loss.of(LossSpec(iou=0.5), Said(None, truth), Said("x", said)) == wrong


@pytest.mark.parametrize(
    ("truth", "said", "wrong"),
    [
        (3.0, 3.5, 0.0),
        (3, 3.51, 1.0),
        (3.0, math.nan, 1.0),
        (math.nan, 3.0, 1.0),
        (math.inf, math.inf, 1.0),
        (1.0, True, 1.0),
        (3.0, None, 1.0),
        (3.0, "3", 1.0),
    ],
)
def test_numbers(truth: Value, said: Value, wrong: float) -> None:
    assert loss.of(LossSpec(tolerance=0.5), Said(truth), Said(said)) == wrong


def test_text() -> None:
    by = LossSpec(word_error=0.25)
    assert loss.of(by, Said("one two three four"), Said("One two three, five.")) == 0.0
    assert loss.of(by, Said("one two three four"), Said("one two")) == 1.0
    assert loss.of(by, Said(""), Said("")) == 0.0
    assert loss.of(by, Said(""), Said("noise")) == 1.0
    assert loss.of(by, Said("one"), Said(None)) == 1.0


def test_costs_are_parts_of_the_dearest_and_unpriced_mistakes_are_the_dearest() -> None:
    by = LossSpec(costs={"defect": {"good": 10.0}, "good": {"defect": 1.0}})
    assert loss.of(by, Said("defect"), Said("good")) == 1.0
    assert loss.of(by, Said("good"), Said("defect")) == pytest.approx(0.1)
    assert loss.of(by, Said("good"), Said("good")) == 0.0
    assert loss.of(by, Said("good"), Said("other")) == 1.0
    assert loss.bounded(by)
    assert not loss.bounded(LossSpec(costs={"a": {"b": 3.0}, "b": {"a": 3.0}}))
    assert not loss.bounded(LossSpec(iou=0.5))


def test_stored_texts() -> None:
    text = '[{"x1": 0, "y1": 0, "x2": 10, "y2": 10, "label": "crack"}]'
    assert loss.stored('"bad"', text) == Said("bad", (box(0),))
    assert loss.stored("1.5", None) == loss.stored("1.5", "null") == Said(1.5)
