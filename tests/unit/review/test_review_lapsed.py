"""Leases that are shorter than judging takes: no work is lost in vain, and no client waits for good."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from review_world import endpoint, item, judge, put, queue

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review.items import Leased
from tenure.deploy.review.queue import ReviewQueue
from tenure.errors import ConflictError

LEASE_S = 120.0
READERS = ("ann", "bob", "cat")


def rows(state: State, table: sa.Table, order: str = "id") -> list[sa.RowMapping]:
    with state.read() as conn:
        return list(conn.execute(sa.select(table).order_by(table.c[order])).mappings())


def tick(state: State, q: ReviewQueue) -> None:
    with state.begin() as conn:
        q.expire(conn, state.now_us())


def all_late(state: State, clock: ManualClock, q: ReviewQueue) -> dict[str, Leased]:
    """Let each reader judge after their lease, while the next one holds the item; the last one goes away."""
    held = {}
    for name in READERS:
        (held[name],) = q.lease(name)
        clock.advance(LEASE_S + 1)
    q.lease("dan")
    for name in READERS:
        with pytest.raises(ConflictError, match="another took its place") as caught:
            judge(q, held[name], name, "good" if name == "ann" else "defect")
        assert caught.value.code == "lease_expired"
    return held


def test_a_judgement_after_its_lease_counts_while_its_place_is_free(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, pending=True))
    (slow,) = q.lease("ann")
    clock.advance(LEASE_S + 1)
    receipt = judge(q, slow, "ann", "good")
    assert not receipt.late  # type: ignore[attr-defined]
    assert judge(q, slow, "ann", "good") == receipt
    assert [(d["id"], d["value"], d["reader"]) for d in rows(any_state, t.decisions)] == [("a", '"good"', "ann")]
    assert q.lease("bob") == []


def test_a_skip_after_its_lease_counts_while_its_place_is_free(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state))
    (slow,) = q.lease("ann")
    clock.advance(LEASE_S + 1)
    q.skip("a", reader="ann", token=slow.token)
    assert q.lease("ann") == []
    (fast,) = q.lease("bob")
    clock.advance(LEASE_S + 1)
    q.lease("cat")
    with pytest.raises(ConflictError, match="has ended"):
        q.skip("a", reader="bob", token=fast.token)


def test_the_place_is_gone_when_others_judged_the_item(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state))
    (slow,) = q.lease("ann")
    clock.advance(LEASE_S + 1)
    judge(q, q.lease("bob")[0], "bob", "good")
    with pytest.raises(ConflictError, match="another took its place"):
        judge(q, slow, "ann", "good")
    assert [(j["reader"], j["late"]) for j in rows(any_state, t.judgements)] == [("bob", 0), ("ann", 1)]


def test_a_client_is_answered_though_every_reader_was_late(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, pending=True))
    held = all_late(any_state, clock, q)
    tick(any_state, q)
    assert rows(any_state, t.decisions) == []  # dan was promised that a judgement of theirs counts
    clock.advance(LEASE_S + 1)
    assert [q.lease(name) for name in READERS] == [[], [], []]  # nobody judges an item twice
    tick(any_state, q)
    tick(any_state, q)
    assert [(d["value"], d["reader"]) for d in rows(any_state, t.decisions)] == [('"good"', "ann")]
    found = rows(any_state, t.judgements)
    assert [(j["reader"], j["late"], j["supersedes"]) for j in found] == [
        ("ann", 1, None), ("bob", 1, None), ("cat", 1, None), ("ann", 0, found[0]["id"]),
    ]  # fmt: skip
    assert judge(q, held["ann"], "ann", "good").judgement == found[0]["id"]  # type: ignore[attr-defined]


def test_as_many_late_judgements_count_as_are_wanted(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state, endpoint(readers=2))
    put(any_state, q, item("a", any_state, pending=True))
    held = {name: q.lease(name)[0] for name in ("ann", "bob")}
    clock.advance(LEASE_S + 1)
    for name in ("dan", "eve"):
        q.lease(name)
    for name, lease in held.items():
        with pytest.raises(ConflictError):
            judge(q, lease, name, "good")
    clock.advance(LEASE_S + 1)
    tick(any_state, q)
    counted = [j["reader"] for j in rows(any_state, t.judgements) if not j["late"]]
    assert counted == ["ann", "bob"]
    assert [(d["value"]) for d in rows(any_state, t.decisions)] == ['"good"']


def test_a_late_judgement_is_not_forgotten_while_its_client_waits(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state, endpoint(lease=4000.0))
    put(any_state, q, item("a", any_state, pending=True), item("b", any_state))
    (slow,) = q.lease("ann")
    clock.advance(4001)
    q.lease("bob")
    with pytest.raises(ConflictError):
        judge(q, slow, "ann", "good")
    clock.advance(3900)
    tick(any_state, q)
    clock.advance(101)
    tick(any_state, q)
    assert [(d["value"], d["reader"]) for d in rows(any_state, t.decisions)] == [('"good"', "ann")]
    clock.advance(3601)
    tick(any_state, q)
    assert rows(any_state, t.leases, "item") == []


def test_only_an_adjudicator_settles_after_their_lease(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, pending=True))
    (mine,) = q.lease("ann")
    q.escalate("a", reader="ann", token=mine.token, reason="odd")
    (final,) = q.lease("eve", adjudicator=True)
    clock.advance(LEASE_S + 1)
    judge(q, final, "eve", "defect")
    assert [(j["reader"], j["role"]) for j in rows(any_state, t.judgements)][-1] == ("eve", "adjudicator")
    assert [(d["value"]) for d in rows(any_state, t.decisions)] == ['"defect"']
