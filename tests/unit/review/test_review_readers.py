"""Reader statistics from real judgements, and the test of a fall on sequences."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from review_world import endpoint, item, judge, put, queue, read_one, said

from tenure.clock import ManualClock
from tenure.data.state import State
from tenure.deploy.review import conventions, readers
from tenure.deploy.review.queue import ReviewQueue
from tenure.scope.project import Gold
from tenure.stats.decline import decline


def rows_of(state: State, before_us: int | None = None) -> dict[str, readers.Reader]:
    with state.read() as conn:
        found = readers.readings(conn, "phones")
    return {row.reader: row for row in readers.table(found, checked_before_us=before_us)}


def test_speed_overrides_and_double_reads(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    items = [item(f"i{n}", any_state, blind=False, version="m@1") for n in range(4)]
    put(any_state, q, *items, preds=tuple(said(i.id, "good") for i in items))
    for n, seconds in enumerate((1.0, 2.0, 3.0, 4.0)):
        (lease,) = q.lease("ann")
        assert lease.suggestion is not None
        clock.advance(5)
        value = "defect" if n == 3 else "good"
        q.submit(lease.item, reader="ann", token=lease.token, value=value, key=f"k{n}", seconds=seconds)
    read_one(q, "bob", "good")  # the disagreement is read again
    read_one(q, "cat", "good")  # and adjudicated
    rows = rows_of(any_state)
    ann = rows["ann"]
    assert (ann.judgements, ann.median_s, ann.p90_s) == (4, 2.5, pytest.approx(3.7))
    assert (ann.overrides.k, ann.overrides.n, ann.overrides.few) == (1, 4, True)
    assert (ann.double.k, ann.double.n) == (0, 1)
    assert (rows["bob"].double.k, rows["bob"].double.n, rows["bob"].overrides.n) == (1, 1, 0)
    assert rows["cat"].double.n == 0  # an adjudicator is not checked against themselves


def test_gold_counts_for_the_reader_and_is_told_a_reviewer_later(any_state: State) -> None:
    spec = endpoint()
    spec = msgspec.structs.replace(spec, review=msgspec.structs.replace(spec.review, gold=Gold(share=1.0)))
    q: ReviewQueue = queue(any_state, spec)
    put(any_state, q, item("i1", any_state), item("i2", any_state))
    q.add_gold("i1", by="op", truth="good")
    (lease,) = q.lease("ann")
    judge(q, lease, "ann", "good")
    row = rows_of(any_state)["ann"]
    assert (row.gold.k, row.gold.n, row.judgements) == (1, 1, 1)
    assert rows_of(any_state, before_us=any_state.now_us())["ann"].gold.n == 0


def reading(number: int, reader: str, value: str) -> readers.Reading:
    return readers.Reading(
        id=number, item=f"i{number}", reader=reader, role="reader", value=f'"{value}"', seconds=1.0, at_us=0,
        skipped=False, gold=False, blind=True, right=None, followed=None,
    )  # fmt: skip


def test_a_habit_names_the_labels_to_define() -> None:
    rng = np.random.default_rng(5)
    found = []
    for n in range(200):
        truth = ("scratch", "crack", "good")[n % 3]
        mistaken = truth == "crack" and rng.random() < 0.4
        found += [reading(n, "ann", "scratch" if mistaken else truth), reading(n, "bob", truth)]
    got = conventions.compare(found)
    assert got.confusions[0].labels == ("crack", "scratch")
    assert got.habits[0].shown
    assert "define 'scratch' against 'crack': ann" in got.clarify or "bob says 'crack'" in got.clarify
    assert got.pairs[0].readers == ("ann", "bob")


def test_differences_both_ways_are_no_habit() -> None:
    found = []
    for n in range(60):
        x, y = ("crack", "scratch") if n % 2 else ("scratch", "crack")
        found += [reading(n, "ann", x), reading(n, "bob", y)]
    got = conventions.compare(found)
    assert not any(habit.shown for habit in got.habits)
    assert "mixed up most: 60 of 60" in got.clarify


def test_nothing_is_said_of_few_readings() -> None:
    assert conventions.compare([reading(1, "ann", "a"), reading(1, "bob", "b")]).clarify.startswith("too few")


@pytest.mark.parametrize("right", [[], [True], [False] * 50, [True] * 50])
def test_a_constant_sequence_has_not_fallen(right: list[bool]) -> None:
    assert decline(right).fallen_at is None


def test_a_fall_is_seen_soon() -> None:
    rng = np.random.default_rng(3)
    found = decline([*(rng.random(250) > 0.05), *(rng.random(200) > 0.35)])
    assert found.fallen_at is not None
    assert 250 < found.fallen_at < 350
