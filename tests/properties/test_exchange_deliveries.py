"""Deliveries of Label Studio in any order, twice or never: each judgement stands once, in its newest form."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review import store
from tenure.deploy.review.items import NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.maintain.exchange import events, label_studio, taking
from tenure.scope.project import EndpointSpec, Output, Review

OUTPUT = Output(labels=("good", "defect"))
SPEC = EndpointSpec(input="text", output=OUTPUT, review=Review(readers=2))
ITEMS = itertools.count()
Step = tuple[str, int, int, bool]

KINDS = st.sampled_from(["made", "made", "made", "gone"])
steps = st.lists(st.tuples(KINDS, st.sampled_from([1, 2]), st.integers(1, 4), st.booleans()), max_size=12)


def answer(annotation: int, version: int) -> str:
    """Return what a form of an annotation says: forms 1 and 2 the same, 3 and 4 the other."""
    return OUTPUT.labels[(version > 2) ^ (annotation == 2)]


def told(item: str, number: int, step: Step) -> dict[str, Any]:
    kind, annotation, version, shown = step
    if kind == "gone":
        return {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": number + annotation}]}
    made = {
        "id": number + annotation, "completed_by": annotation, "updated_at": f"2026-05-01T10:0{version}:00Z",
        "result": label_studio.results(answer(annotation, version), (), OUTPUT, None),
        "parent_prediction": 5 if shown else None,
    }  # fmt: skip
    task = {"id": 1, "data": {"tenure_item": item, "tenure_shown": False}}
    return {"action": "ANNOTATION_UPDATED", "annotation": made, "task": task}


@dataclass
class Expected:
    """What should be stored of one annotation: the simplest program that says so."""

    version: int = 0
    blind: bool = True
    seen: set[int] = field(default_factory=set)
    gone: bool = False

    def made(self, annotation: int, version: int, shown: bool) -> str:
        if version in self.seen:
            return "known"
        if self.gone:
            return "withdrawn"
        changes = not self.seen or answer(annotation, version) != answer(annotation, self.version)
        if self.seen and (version < self.version or not (changes or (self.blind and shown))):
            return "known"
        self.seen.add(version)
        self.version, self.blind = version, self.blind and not shown
        return "stored"

    def deleted(self) -> str:
        if not self.seen:
            return "not_found"
        was, self.gone = self.gone, True
        return "known" if was else "stored"


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=steps)
@example(steps=[("made", 1, 3, False), ("made", 1, 1, True), ("gone", 1, 1, False), ("made", 1, 3, False)])
@example(steps=[("made", 1, 1, False), ("made", 2, 1, False), ("made", 1, 4, True), ("made", 2, 1, False)])
def test_what_stands_is_the_newest_form_of_what_was_not_deleted(state: State, steps: list[Step]) -> None:
    queue = ReviewQueue(state, {"desk": SPEC})
    number = next(ITEMS)
    item, number = f"i{number}", number * 10
    with state.begin() as conn:
        new = NewItem(
            id=item, endpoint="desk", kind="uncertain", media_type="text/plain", created_us=1, record="x"
        )
        queue.add(conn, [new])
    expected = {1: Expected(), 2: Expected()}
    for step in steps:
        kind, annotation, version, shown = step
        event = events.read(told(item, number, step), OUTPUT)
        report = taking.take(state, queue, "desk", event.taken)
        if kind == "gone":
            report = taking.take_back(state, queue, "desk", event.gone)
        one = expected[annotation]
        wanted = one.deleted() if kind == "gone" else one.made(annotation, version, shown)
        got = {"stored": report.stored, "known": report.known, **report.refused}
        assert {what: n for what, n in got.items() if n} == {wanted: 1}, (step, report)
    with state.read() as conn:
        standing = store.standing_judgements(conn, item)
        rows = conn.execute(sa.select(t.judgements).where(t.judgements.c.item == item)).mappings().all()
        row = conn.execute(sa.select(t.review_items).where(t.review_items.c.id == item)).mappings().one()
    found = {j["reader"]: (json.loads(j["value"]), bool(j["blind"])) for j in standing}
    assert len(found) == len(standing)  # nobody is two readers
    assert found == {
        f"label_studio:{a}": (answer(a, e.version), e.blind)
        for a, e in expected.items()
        if e.seen and not e.gone
    }  # fmt: skip
    assert len(rows) == sum(len(e.seen) + e.gone for e in expected.values())  # nothing that was said is lost
    counted = {value for number, (value, blind) in enumerate(found.values()) if number == 0 or blind}
    assert (row["state"] == "conflict") == (len(counted) == 2)
    assert (row["state"] == "open") == (not standing)
