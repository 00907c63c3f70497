"""Judgements of a webhook on each database: stored, corrected, waiting, taken back."""

from __future__ import annotations

from typing import Any

import pytest

from tenure.data.state import State
from tenure.deploy.review import store
from tenure.deploy.review.items import NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.maintain.exchange import events, label_studio, taking, waiting
from tenure.maintain.exchange.entry import Taken
from tenure.scope.project import EndpointSpec, Output

OUTPUT = Output(labels=("good", "defect"))


def event(item: str, value: str, at: str, **more: Any) -> list[Taken]:
    result = label_studio.results(value, (), OUTPUT, None)
    made = {"id": "a_1", "completed_by": 7, "updated_at": f"2026-05-01T{at}:00Z", "result": result, **more}
    task = {"data": {"tenure_item": item, "tenure_shown": False}}
    return events.read({"action": "ANNOTATION_UPDATED", "annotation": made, "task": task}, OUTPUT).taken


@pytest.fixture
def queue(any_state: State) -> ReviewQueue:
    made = ReviewQueue(any_state, {"desk": EndpointSpec(input="text", output=OUTPUT)})
    base = {"endpoint": "desk", "kind": "uncertain", "media_type": "text/plain", "record": "x"}
    with any_state.begin() as conn:
        made.add(conn, [NewItem(id=f"q{n}", created_us=n, **base) for n in range(2)])  # type: ignore[arg-type]
    return made


def said(state: State, item: str) -> list[str]:
    with state.read() as conn:
        return [row["value"] for row in store.standing_judgements(conn, item)]


def test_a_judgement_lives_and_ends_alike_on_each_database(any_state: State, queue: ReviewQueue) -> None:
    state = any_state
    assert taking.take(state, queue, "desk", event("q0", "good", "10:00")).stored == 1
    report = taking.take(state, queue, "desk", event("q0", "defect", "11:00"))
    assert (report.stored, report.corrected) == (1, 1)
    assert said(state, "q0") == ['"defect"']
    assert taking.take_back(state, queue, "desk", ["a%1", "ax1"]).refused == {"not_found": 2}
    assert taking.take_back(state, queue, "desk", ["a_1"]).stored == 1
    assert taking.take_back(state, queue, "desk", ["a_1"]).known == 1
    assert taking.take_back(state, queue, "other", ["a_1"]).refused == {"not_found": 1}
    assert said(state, "q0") == []


def test_what_waits_is_kept_dropped_and_resumed_on_each_database(any_state: State, queue: ReviewQueue) -> None:
    state = any_state
    leased = {one.item: one for one in queue.lease("ann", n=2)}
    for item in ("q0", "q1"):
        held: list[Taken] = []
        report = taking.take(state, queue, "desk", event(item, "good", "10:00", id=f"b_{item}"), held=held)
        assert (report.waiting, len(held)) == (1, 1)
        waiting.keep(state, "desk", held + held)
    assert waiting.drop(state, "desk", ["b_q0", "bxq1"]) == {"b_q0"}
    assert waiting.resume(state, queue) == 0
    queue.release("q1", reader="ann", token=leased["q1"].token)
    assert waiting.resume(state, queue) == 1
    assert (said(state, "q0"), said(state, "q1")) == ([], ['"good"'])
