from __future__ import annotations

from typing import Any

import pytest

from tenure.deploy.review.resolve import Case, Conflict, Expired, Open, Reading, Resolved, resolve, same


def case(*values: str, predictions: tuple[str, ...] = (), **fields: Any) -> Case:
    readings = tuple(Reading(f"r{n}", v) for n, v in enumerate(values))
    return Case(**({"required": 1, "readings": readings, "predictions": predictions} | fields))


def test_nothing_read_needs_its_readers() -> None:
    assert resolve(case()) == Open(1, False)
    assert resolve(case(required=3)) == Open(3, False)


def test_without_any_model_one_reader_suffices() -> None:
    assert resolve(case("good")) == Resolved("good", (), "single")


def test_any_version_that_differs_calls_for_a_second_reader() -> None:
    assert resolve(case("good", predictions=("good", "defect"))) == Open(1, True)
    assert resolve(case("good", "good", predictions=("defect",))) == Resolved("good", (), "agreed")
    assert resolve(case("good", "defect", predictions=("defect",))) == Conflict()


@pytest.mark.parametrize(("draw", "again"), [(0.04, True), (0.05, False), (0.9, False)])
def test_agreements_are_read_again_by_their_share(draw: float, again: bool) -> None:
    standing = resolve(case("good", predictions=("good",), draw=draw, agreements=0.05))
    assert isinstance(standing, Open) == again


def test_the_adjudicator_has_the_last_word() -> None:
    readings = (Reading("a", "good"), Reading("b", "defect"), Reading("c", "good", adjudicator=True))
    assert resolve(Case(required=1, readings=readings)) == Resolved("good", (), "adjudicated")


def test_a_second_reader_who_saw_the_model_does_not_count() -> None:
    readings = (Reading("a", "good", blind=False), Reading("b", "defect", blind=False))
    assert resolve(Case(required=1, readings=readings, predictions=("defect",))) == Open(1, True)


def test_three_skips_close_an_item_that_nobody_waits_for() -> None:
    assert resolve(case(skips=3)) == Expired()
    assert resolve(case(skips=3, pending=True)) == Open(1, False)
    assert resolve(case("good", skips=3)) == Resolved("good", (), "single")


def test_truth_values_are_not_numbers() -> None:
    assert same(1, 1.0)
    assert not same(1, True)
    assert not same("1", 1)
