"""The invariants V1-V6 on the real queue, for any order of what people, shadows, clocks and the controller do."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter, defaultdict
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review import store
from tenure.deploy.review.items import ItemPrediction, Leased, NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.deploy.review.resolve import Resolved, resolve
from tenure.errors import ConflictError
from tenure.scope.project import EndpointSpec, Fallback, Output, Review, SecondReader, Serve
from tenure.seeds import draw

pytestmark = pytest.mark.timeout(400)  # a pass takes seconds; shrinking a failure takes minutes

_CLOCK = ManualClock()
_FOLDER = tempfile.TemporaryDirectory()
_STATE = State.open(Path(_FOLDER.name) / "state.db", _CLOCK)
with _STATE.begin() as _conn:  # a fixed salt: the same steps draw the same second readers
    _conn.execute(t.meta.insert().values(key="review.salt", value="fixed"))

READERS = st.sampled_from(["ann", "bob", "cat", "dan"])
VALUES = st.sampled_from(["good", "defect"])
READ = sa.select(t.judgements).order_by(t.judgements.c.id)

SPEC = EndpointSpec(
    input="image",
    output=Output(labels=("good", "defect")),
    serve=Serve(on_timeout=Fallback(decide="defect", after=30.0)),
    review=Review(lease=20.0, second_reader=SecondReader(disagreements=0.8, agreements=0.3)),
)


class ReviewMachine(RuleBasedStateMachine):
    items = Bundle("items")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        with _STATE.begin() as conn:
            for table in (t.review_items, t.item_predictions, t.leases, t.judgements, t.decisions):
                conn.execute(table.delete())
        number = count()
        # The token of a lease also draws whether age alone chooses its item: the same steps draw the same.
        self.queue = ReviewQueue(
            _STATE, {"phones": SPEC}, tokens=lambda n: [f"l_{next(number)}" for _ in range(n)]
        )
        self.added = 0
        self.rows: dict[int, Any] = {}
        self.decisions: dict[str, Any] = {}
        self.highest = 0
        self.seen: set[int] = set()
        self.delivered: dict[str, Any] = {}
        self.outcomes: dict[str, str] = {}

    @initialize(target=items)
    def start(self) -> Any:
        return multiple(self._add(pending=True, wait=5), self._add(pending=False), self._add(pending=True))

    @rule(
        target=items,
        pending=st.booleans(),
        blind=st.booleans(),
        required=st.sampled_from([1, 1, 2]),
        wait=st.sampled_from([0, 5, 40]),
    )
    def add(self, pending: bool, blind: bool, required: int, wait: int) -> str:
        return self._add(pending=pending, blind=blind, required=required, wait=wait)

    def _add(self, *, pending: bool, blind: bool = True, required: int = 1, wait: int = 0) -> str:
        self.added += 1
        id_ = f"i{self.added}"
        now = _STATE.now_us()
        new = NewItem(
            id=id_, endpoint="phones", kind="uncertain", media_type="image/png", created_us=now, version="m@1",
            blind=blind, required=required, pending=pending, deadline_us=now + wait * 1_000_000 if wait else 0,
        )  # fmt: skip
        with _STATE.begin() as conn:
            assert self.queue.add(conn, [new, new]) == 1
            assert self.queue.add(conn, [new]) == 0
        return id_

    @rule(item=items, version=st.sampled_from(["m@1", "m@2"]), value=VALUES)
    def predict(self, item: str, version: str, value: str) -> None:
        said = ItemPrediction(item=item, version=version, role="shadow", value=value, at_us=0)
        with _STATE.begin() as conn:
            self.queue.add_predictions(conn, [said])

    @rule(target=leases, reader=READERS, n=st.integers(1, 3))
    def lease(self, reader: str, n: int) -> Any:
        judged = self._judged(reader)
        got = self.queue.lease(reader, n=n)
        assert len({x.item for x in got}) == len(got) <= n
        for one in got:
            assert one.item not in judged  # V2
            assert not hasattr(one, "kind")  # V5
            assert one.suggestion is None or not one.blind
        return multiple(*((reader, one) for one in got))

    @rule(held=leases, value=VALUES)
    def submit(self, held: tuple[str, Leased], value: str) -> None:
        reader, lease = held
        before = self._decision(lease.item)
        try:
            receipt = self.queue.submit(
                lease.item, reader=reader, token=lease.token, value=value, key=f"{lease.token}:{value}"
            )
        except ConflictError:
            assert self._decision(lease.item) == before
        else:
            assert not receipt.late or self._decision(lease.item) == before
            stands = {j["id"] for j in self._standing()[lease.item]}
            if receipt.judgement in stands:  # a retry may tell of one that was taken back since
                self._cannot_judge_again(reader, lease)

    @rule(reader=READERS, value=VALUES, pause=st.sampled_from([0.0, 0.0, 4.9, 6.0]))
    def read(self, reader: str, value: str, pause: float) -> None:
        """Lease, take one's time, and judge: what happens most."""
        for lease in self.queue.lease(reader):
            _CLOCK.advance(pause)
            self.submit((reader, lease), value)

    @rule(held=consumes(leases))
    def skip(self, held: tuple[str, Leased]) -> None:
        reader, lease = held
        with contextlib.suppress(ConflictError):
            self.queue.skip(lease.item, reader=reader, token=lease.token, reason="blurred")

    @rule(held=consumes(leases))
    def release(self, held: tuple[str, Leased]) -> None:
        self.queue.release(held[1].item, reader=held[0], token=held[1].token)

    @rule(target=leases, reader=READERS)
    def undo(self, reader: str) -> Any:
        try:
            return reader, self.queue.undo(reader)
        except ConflictError:
            return multiple()

    @rule(seconds=st.sampled_from([1.0, 4.9, 21.0]))
    def wait(self, seconds: float) -> None:
        _CLOCK.advance(seconds)

    @rule(down=st.sampled_from([0.0, 0.0, 4.97]))
    def tick(self, down: float) -> None:
        """The controller looks, perhaps after having been down for a while."""
        _CLOCK.advance(down)
        now = _STATE.now_us()
        with _STATE.begin() as conn:
            due = self.queue.undelivered(conn, now)
            assert all(d.by == "person" and (not d.deadline_us or now <= d.deadline_us - 50_000) for d in due)
            self.queue.mark_logged(conn, [d.id for d in due])
            self.queue.expire(conn, now)
        for d in due:
            assert self.delivered.get(d.id) is None
            self.delivered[d.id] = d.value

    @rule(item=items, value=VALUES)
    def outcome(self, item: str, value: str) -> None:
        with _STATE.begin() as conn:
            if self.queue.resolve_by_outcome(conn, item, value):
                self.outcomes[item] = value

    @invariant()
    def v1_one_live_lease_per_wanted_judgement(self) -> None:
        now = _STATE.now_us()
        live = sa.select(t.leases.c.item).where(t.leases.c.expires_us > now)
        with _STATE.read() as conn:
            held = Counter(conn.execute(live).scalars())
            rows = conn.execute(sa.select(t.review_items.c.id, t.review_items.c.required)).all()
        assert all(held[row.id] <= max(row.required, 1) for row in rows)

    @invariant()
    def v2_a_reader_judges_an_item_once(self) -> None:
        for id_, judgements in self._standing().items():
            readers = Counter(j["reader"] for j in judgements)
            assert all(n == 1 for n in readers.values()), id_

    @invariant()
    def v3_judgements_never_change(self) -> None:
        with _STATE.read() as conn:
            rows = {row["id"]: dict(row) for row in conn.execute(READ).mappings()}
        assert all(rows[number] == row for number, row in self.rows.items())
        self.rows = rows

    @invariant()
    def v4_the_state_follows_from_the_judgements(self) -> None:
        with _STATE.read() as conn:
            salt = conn.execute(sa.select(t.meta.c.value).where(t.meta.c.key == "review.salt")).scalar_one()
            for row in conn.execute(sa.select(t.review_items)).mappings().all():
                case = store.case_of(conn, row, SPEC.review, salt=salt)
                assert case.draw == draw(f"second:{salt}", row["id"])
                standing = resolve(case)
                if row["source"] == "outcome":
                    continue
                assert (row["state"] == "resolved") == isinstance(standing, Resolved)
                if isinstance(standing, Resolved):
                    assert (json.loads(row["truth"]), row["source"]) == (standing.truth, standing.source)

    @invariant()
    def what_the_world_told_stands(self) -> None:
        told = {x.item: x.truth for x in self.queue.resolved(0) if x.source == "outcome"}
        assert told == self.outcomes

    @invariant()
    def resolution_is_a_cursor(self) -> None:
        orders = [x.resolution for x in self.queue.resolved(0)]
        assert len(orders) == len(set(orders))
        fresh = set(orders) - self.seen
        assert all(number > self.highest for number in fresh)  # a reader at `highest` misses nothing
        self.seen |= fresh
        self.highest = max([self.highest, *fresh])

    @invariant()
    def v6_one_decision_and_it_stands(self) -> None:
        with _STATE.read() as conn:
            rows = {row["id"]: dict(row) for row in conn.execute(sa.select(t.decisions)).mappings()}
        for id_, old in self.decisions.items():
            new = rows[id_]
            if old["logged"]:
                assert new == old  # what is in the log is never changed
            elif new["by"] == "person":
                assert new["value"] == old["value"]
        for id_, value in self.delivered.items():
            assert (rows[id_]["by"], json.loads(rows[id_]["value"])) == ("person", value)
        self.decisions = rows

    def _cannot_judge_again(self, reader: str, lease: Leased) -> None:
        with pytest.raises(ConflictError) as caught:
            self.queue.submit(
                lease.item, reader=reader, token=lease.token, value="good", key=f"{lease.token}:again"
            )
        assert caught.value.code == "judged_already"

    def _standing(self) -> dict[str, list[Any]]:
        with _STATE.read() as conn:
            ids = conn.execute(sa.select(t.review_items.c.id)).scalars().all()
            found = defaultdict(list)
            for id_ in ids:
                found[id_] = store.standing_judgements(conn, id_)
        return found

    def _judged(self, reader: str) -> set[str]:
        return {i for i, js in self._standing().items() if any(j["reader"] == reader for j in js)}

    def _decision(self, item: str) -> Any:
        with _STATE.read() as conn:
            row = conn.execute(sa.select(t.decisions).where(t.decisions.c.id == item)).mappings().first()
        return None if row is None else dict(row)


TestReview = ReviewMachine.TestCase
TestReview.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
