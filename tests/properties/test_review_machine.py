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
from tenure.deploy.review import leases as turns
from tenure.deploy.review import store
from tenure.deploy.review.items import ItemPrediction, Leased, NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.deploy.review.resolve import Expired, Resolved, resolve
from tenure.errors import CaseError, ConflictError, MissingError
from tenure.scope.project import Cap, EndpointSpec, Fallback, Gold, Output, Review, SecondReader, Serve
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

CAP = 9
BLANK = (t.review_items, t.item_predictions, t.leases, t.judgements, t.decisions, t.gold_items, t.gold_draws)
REVIEWS = st.builds(
    Review,
    lease=st.just(20.0),
    second_reader=st.just(SecondReader(disagreements=0.8, agreements=0.3)),
    gold=st.builds(Gold, share=st.sampled_from([0.0, 0.4])),
    cap=st.builds(Cap, per_hour=st.sampled_from([None, None, CAP])),
    within=st.sampled_from([None, 60.0]),
    on_late=st.sampled_from(["escalate", "last", "close"]),
    on_fallback=st.sampled_from(["last", "close"]),
    adjudication=st.sampled_from(["anyone", "adjudicator"]),
    escalate_after=st.sampled_from([None, 1, 2]),
)


def endpoint(review: Review) -> EndpointSpec:
    return EndpointSpec(
        input="image",
        output=Output(labels=("good", "defect")),
        serve=Serve(on_timeout=Fallback(decide="defect", after=30.0)),
        review=review,
    )


class ReviewMachine(RuleBasedStateMachine):
    items = Bundle("items")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        with _STATE.begin() as conn:
            for table in BLANK:
                conn.execute(table.delete())
        self.added = 0
        self.rows: dict[int, Any] = {}
        self.decisions: dict[str, Any] = {}
        self.highest = 0
        self.seen: set[int] = set()
        self.delivered: dict[str, Any] = {}
        self.outcomes: dict[str, str] = {}
        self.asked: set[str] = set()

    @initialize(target=items, review=REVIEWS)
    def start(self, review: Review) -> Any:
        self.review = review
        number = count()
        # The token of a lease also draws whether age alone chooses its item: the same steps draw the same.
        self.queue = ReviewQueue(
            _STATE, {"phones": endpoint(review)}, tokens=lambda n: [f"l_{next(number)}" for _ in range(n)]
        )
        return multiple(self._add(pending=True, wait=5), self._add(pending=False), self._add(pending=True))

    @rule(
        target=items,
        pending=st.booleans(),
        blind=st.booleans(),
        required=st.sampled_from([1, 1, 2]),
        wait=st.sampled_from([0, 5, 40]),
        level=st.sampled_from(["assist", "partial"]),
    )
    def add(self, pending: bool, blind: bool, required: int, wait: int, level: str) -> str:
        return self._add(pending=pending, blind=blind, required=required, wait=wait, level=level)

    def _add(
        self, *, pending: bool, blind: bool = True, required: int = 1, wait: int = 0, level: str = "partial"
    ) -> str:
        self.added += 1
        id_ = f"i{self.added}"
        now = _STATE.now_us()
        new = NewItem(
            id=id_, endpoint="phones", kind="uncertain", media_type="image/png", created_us=now, version="m@1",
            blind=blind, required=required, pending=pending, level=level,
            deadline_us=now + wait * 1_000_000 if wait else 0,
        )  # fmt: skip
        if pending:
            self.asked.add(id_)
        with _STATE.begin() as conn:
            assert self.queue.add(conn, [new, new]) == 1
            assert self.queue.add(conn, [new]) == 0
        return id_

    @rule(item=items, version=st.sampled_from(["m@1", "m@2"]), value=VALUES)
    def predict(self, item: str, version: str, value: str) -> None:
        said = ItemPrediction(item=item, version=version, role="shadow", value=value, at_us=0)
        with _STATE.begin() as conn:
            self.queue.add_predictions(conn, [said])

    @rule(target=leases, reader=READERS, n=st.integers(1, 3), adjudicator=st.booleans())
    def lease(self, reader: str, n: int, adjudicator: bool) -> Any:
        return multiple(*((reader, one) for one in self._lease(reader, n, adjudicator=adjudicator)))

    def _lease(self, reader: str, n: int, *, adjudicator: bool = False) -> list[Leased]:
        judged, held = self._judged(reader), self._held(reader)
        live = self._live(reader, adjudicator=adjudicator)
        try:
            got = self.queue.lease(reader, n=n, adjudicator=adjudicator)
        except CaseError:
            assert self._acts(reader) + len(held) >= CAP
            return []
        assert len({x.item for x in got}) == len(got) <= n
        fresh = [x for x in got if x.item not in held]
        assert len(fresh) + len(held) + self._acts(reader) <= CAP or not self.review.cap.per_hour or not fresh
        for one in got:
            assert self._source(one.item) not in judged  # V2
            assert not hasattr(one, "kind")  # V5
            assert one.suggestion is None or not one.blind
            row = self._row(one.item)
            assert row is None or adjudicator or one.item in held or not row["escalated"]
        self._nothing_dead_before_live(fresh, live)
        return got

    def _nothing_dead_before_live(self, fresh: list[Leased], live: set[str]) -> None:
        rows = [self._row(x.item) for x in fresh]
        if any(row is not None and row["priority"] < turns.BEHIND / 2 for row in rows):
            swapped = sum(row is None for row in rows)  # a gold item went out in the place of a live one
            assert len(live - {x.item for x in fresh}) <= swapped

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
        for lease in self._lease(reader, 1):
            _CLOCK.advance(pause)
            self.submit((reader, lease), value)

    @rule(held=consumes(leases))
    def skip(self, held: tuple[str, Leased]) -> None:
        reader, lease = held
        with contextlib.suppress(ConflictError):
            self.queue.skip(lease.item, reader=reader, token=lease.token, reason="blurred")

    @rule(held=consumes(leases))
    def escalate(self, held: tuple[str, Leased]) -> None:
        reader, lease = held
        with contextlib.suppress(ConflictError):
            self.queue.escalate(lease.item, reader=reader, token=lease.token, reason="unclear")

    @rule(item=items, value=st.none() | VALUES)
    def add_gold(self, item: str, value: str | None) -> None:
        """Any item with a given truth, or one whose truth is known."""
        try:
            self.queue.add_gold(item, by="op", truth=value)
        except CaseError:
            assert (value, self._row(item)["state"] == "resolved") == (None, False)

    @rule(item=items)
    def retire_gold(self, item: str) -> None:
        with contextlib.suppress(MissingError):
            self.queue.retire_gold(item, by="op")
        assert item not in self.queue.gold_ids("phones")

    @rule(held=consumes(leases))
    def release(self, held: tuple[str, Leased]) -> None:
        self.queue.release(held[1].item, reader=held[0], token=held[1].token)

    @rule(target=leases, reader=READERS)
    def undo(self, reader: str) -> Any:
        try:
            return reader, self.queue.undo(reader)
        except ConflictError:
            return multiple()

    @rule(seconds=st.sampled_from([1.0, 4.9, 21.0, 61.0]))
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
        self._nobody_is_left_waiting(now)
        for d in due:
            assert self.delivered.get(d.id) is None
            self.delivered[d.id] = d.value

    def _nobody_is_left_waiting(self, now: int) -> None:
        """Every client whose deadline passed has a decision, and none without a deadline was given up."""
        with _STATE.read() as conn:
            decided = set(conn.execute(sa.select(t.decisions.c.id)).scalars())
            for row in conn.execute(sa.select(t.review_items)).mappings():
                asked = row["id"] in self.asked
                over = asked and 0 < row["deadline_us"] <= now
                assert not over or (row["id"] in decided and not row["pending"])
                assert not row["pending"] or row["state"] != "expired"
                if row["pending"] and not row["deadline_us"] and row["missed_us"]:
                    assert row["escalated"]
                if row["pending"] and not row["deadline_us"] and row["state"] in ("open", "judged"):
                    held = sa.exists().where(t.leases.c.item == row["id"], t.leases.c.expires_us > now)
                    late = [j for j in store.standing_judgements(conn, row["id"]) if j["late"]]
                    assert row["escalated"] or not late or conn.execute(sa.select(held)).scalar()

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
        met: Counter[tuple[str, str]] = Counter()
        for id_, judgements in self._standing().items():
            met.update((self._source(id_), j["reader"]) for j in judgements)
            readers = {j["reader"] for j in judgements if j["role"] == "reader"}
            assert all(j["reader"] not in readers for j in judgements if j["role"] == "adjudicator")
        assert all(n == 1 for n in met.values()), met

    @invariant()
    def gold_counts_nowhere(self) -> None:
        with _STATE.read() as conn:
            aliases = set(conn.execute(sa.select(t.gold_draws.c.id)).scalars())
            for table in (t.review_items, t.decisions):
                assert aliases.isdisjoint(conn.execute(sa.select(table.c.id)).scalars())
            roles = sa.select(t.judgements.c.role).where(t.judgements.c.item.in_(aliases))
            assert set(conn.execute(roles).scalars()) <= {"gold"}
            drawn = conn.execute(sa.select(t.gold_draws.c.item, t.gold_draws.c.reader)).all()
        assert len(drawn) == len(set(drawn))  # nobody meets a gold item twice

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
                case = store.case_of(conn, row, self.review, salt=salt)
                assert case.draw == draw(f"second:{salt}", row["id"])
                standing = resolve(case)
                if row["source"] == "outcome":
                    continue
                assert (row["state"] == "resolved") == isinstance(standing, Resolved)
                assert (row["state"] == "expired") == isinstance(standing, Expired)
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
        """Return what stands of each item, and of each gold item under the id that its reader got."""
        found: dict[str, list[Any]] = defaultdict(list)
        with _STATE.read() as conn:
            for id_ in conn.execute(sa.select(t.judgements.c.item).distinct()).scalars().all():
                found[id_] = store.standing_judgements(conn, id_)
        return found

    def _source(self, id_: str) -> str:
        return self.queue.source(id_)

    def _judged(self, reader: str) -> set[str]:
        return {self._source(i) for i, js in self._standing().items() if any(j["reader"] == reader for j in js)}

    def _acts(self, reader: str) -> int:
        """Return how many judgements and skips of the last hour count for the reader's cap."""
        mine = (t.judgements.c.reader == reader, t.judgements.c.at_us > _STATE.now_us() - 3_600_000_000)
        with _STATE.read() as conn:
            skips = conn.execute(sa.select(t.judgements.c.skip).where(*mine)).scalars().all()
        return sum(skip != store.UNDO for skip in skips)

    def _held(self, reader: str) -> set[str]:
        mine = (t.leases.c.reader == reader, t.leases.c.expires_us > _STATE.now_us())
        with _STATE.read() as conn:
            return set(conn.execute(sa.select(t.leases.c.item).where(*mine)).scalars())

    def _live(self, reader: str, *, adjudicator: bool) -> set[str]:
        """Return the free items of this reader that somebody still waits for."""
        now, i = _STATE.now_us(), t.review_items.c
        useful = sa.or_(i.pending == 0, i.deadline_us == 0, i.deadline_us > now + 250_000)
        query = turns._free(reader, now).where(useful, i.priority > turns.BEHIND / 2)
        if not adjudicator:
            strict = ["phones"] if self.review.adjudication == "adjudicator" else []
            query = query.where(turns._for_anyone(strict))
        with _STATE.read() as conn:
            return {row["id"] for row in conn.execute(query).mappings()}

    def _row(self, item: str) -> Any:
        """Return an item's row; None for a gold item's id."""
        with _STATE.read() as conn:
            query = sa.select(t.review_items).where(t.review_items.c.id == item)
            return conn.execute(query).mappings().first()

    def _decision(self, item: str) -> Any:
        with _STATE.read() as conn:
            row = conn.execute(sa.select(t.decisions).where(t.decisions.c.id == item)).mappings().first()
        return None if row is None else dict(row)


TestReview = ReviewMachine.TestCase
TestReview.settings = settings(
    max_examples=40, stateful_step_count=35, deadline=None, suppress_health_check=list(HealthCheck)
)
