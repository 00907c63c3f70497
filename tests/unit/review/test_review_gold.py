"""Gold items, escalation, caps and service levels on each database."""

from __future__ import annotations

import msgspec
import pytest
import sqlalchemy as sa
from review_world import endpoint, item, judge, put, queue, read_one, said

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review.items import Leased
from tenure.deploy.review.queue import ReviewQueue
from tenure.errors import CaseError, ConflictError, MissingError
from tenure.scope.project import Cap, EndpointSpec, Gold, Review
from tenure.seeds import draw

REAL = "0123456789abcdef0000000000{:02x}deadbeef"


def spec(**review: object) -> EndpointSpec:
    plain = msgspec.structs.replace(endpoint().review, **review)
    return msgspec.structs.replace(endpoint(), review=plain)


def resolved_gold(state: State, q: ReviewQueue) -> str:
    put(state, q, item(REAL.format(1), state, version="m@1"), preds=(said(REAL.format(1), "good"),))
    lease = read_one(q, "ann", "good")
    q.add_gold(lease.item, by="op")
    return lease.item


def test_a_gold_item_looks_like_any_other_and_counts_nowhere(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state, spec(gold=Gold(share=1.0)))
    known = resolved_gold(any_state, q)
    put(any_state, q, item(REAL.format(9), any_state))
    (lease,) = q.lease("bob")
    assert lease.item not in (known, REAL.format(9))
    assert len(lease.item) == 36
    assert lease.item.startswith(REAL[:16])
    assert q.source(lease.item) == known
    clock.advance(5)
    again = q.lease("bob", n=2)
    assert [x.item for x in again if x.token == lease.token] == [lease.item]
    assert q.renew(lease.item, reader="bob", token=lease.token) == any_state.now_us() + 120_000_000
    receipt = judge(q, lease, "bob", "defect")
    assert judge(q, lease, "bob", "defect") == receipt
    assert [x.item for x in q.resolved(0)] == [known]
    with any_state.read() as conn:
        joined = sa.select(t.judgements.c.reader).join(t.review_items, t.review_items.c.id == t.judgements.c.item)
        assert conn.execute(joined).scalars().all() == ["ann"]
        assert conn.execute(sa.select(sa.func.count()).select_from(t.decisions)).scalar() == 0
    for other in again:
        q.release(other.item, reader="bob", token=other.token)
    assert {x.item for x in q.lease("ann")} == {REAL.format(9)}  # who judged it never gets it as gold
    assert q.undo("bob").item == lease.item


def test_nobody_gets_an_item_as_gold_and_as_itself_at_once(any_state: State) -> None:
    """Of two items that come at once the first is replaced by gold: not by the second, which comes as it is."""
    some = spec(gold=Gold(share=0.5))
    plain = queue(any_state, some)
    with any_state.read() as conn:
        salt = conn.execute(sa.select(t.meta.c.value).where(t.meta.c.key == "review.salt")).scalar_one()
    words = [f"token{n}" for n in range(60)]
    points = {word: draw(f"gold:{salt}", word) for word in words}
    golden = [word for word, point in points.items() if 0.25 <= point < 0.5]  # draws the second of two
    others = [word for word, point in points.items() if point >= 0.5]
    for n in range(2):
        put(any_state, plain, item(REAL.format(n), any_state))
        plain.add_gold(REAL.format(n), by="op", truth="good")
    q = ReviewQueue(
        any_state, {"phones": spec(gold=Gold(share=0.5))}, tokens=lambda n: [golden[0], others[0]][:n]
    )
    got = [q.source(one.item) for one in q.lease("bob", n=2)]
    assert sorted(got) == [REAL.format(0), REAL.format(1)]


def test_answers_about_gold_have_the_form_of_all_others(any_state: State) -> None:
    q = queue(any_state, spec(gold=Gold(share=1.0)))
    resolved_gold(any_state, q)
    put(any_state, q, item(REAL.format(8), any_state), item(REAL.format(9), any_state))
    gold, plain = q.lease("bob", n=2)
    first, second = (sorted(msgspec.to_builtins(x)) for x in (gold, plain))
    assert first == second == sorted(Leased.__struct_fields__)
    assert (gold.adjudicate, gold.blind, gold.expires_us) == (plain.adjudicate, plain.blind, plain.expires_us)
    one, two = judge(q, gold, "bob"), judge(q, plain, "bob")
    assert two.judgement == one.judgement + 1  # type: ignore[attr-defined]


def test_gold_needs_a_truth_and_can_be_retired(any_state: State) -> None:
    q = queue(any_state, spec(gold=Gold(share=1.0)))
    put(any_state, q, item("i1", any_state), item("i2", any_state))
    with pytest.raises(CaseError, match="not resolved"):
        q.add_gold("i1", by="op")
    with pytest.raises(CaseError, match="no label"):
        q.add_gold("i1", by="op", truth="odd")
    q.add_gold("i1", by="op", truth="good")
    q.retire_gold("i1", by="op")
    with pytest.raises(MissingError):
        q.retire_gold("i1", by="op")
    assert q.gold_ids("phones") == []
    assert q.lease("bob")[0].item == "i1"


def test_gold_never_puts_a_near_deadline_off(any_state: State) -> None:
    q = queue(any_state, spec(gold=Gold(share=1.0)))
    resolved_gold(any_state, q)
    soon = any_state.now_us() + 60_000_000
    put(any_state, q, item("i1", any_state, pending=True, deadline_us=soon))
    assert q.lease("bob")[0].item == "i1"


def test_an_escalated_item_is_an_adjudicators(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("i1", any_state))
    (lease,) = q.lease("ann")
    q.escalate("i1", reader="ann", token=lease.token, reason="two faults at once")
    assert q.lease("bob") == []
    assert q.lease("ann", adjudicator=True) == []
    assert q.counts("phones").escalated == 1
    (final,) = q.lease("dan", adjudicator=True)
    assert final.adjudicate
    assert final.blind
    judge(q, final, "dan", "defect")
    assert [(x.truth, x.source) for x in q.resolved(0)] == [("defect", "adjudicated")]


def test_an_escalation_can_be_taken_back(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("i1", any_state))
    (lease,) = q.lease("ann")
    q.escalate("i1", reader="ann", token=lease.token, reason="odd")
    assert q.undo("ann").item == "i1"
    assert q.counts("phones").escalated == 0


def test_skips_escalate_and_only_an_adjudicator_gives_up(any_state: State) -> None:
    q = queue(any_state, spec(escalate_after=2))
    put(any_state, q, item("i1", any_state))
    for name in ("ann", "bob"):
        (lease,) = q.lease(name)
        q.skip("i1", reader=name, token=lease.token, reason="dark")
    assert q.lease("cat") == []
    (final,) = q.lease("dan", adjudicator=True)
    q.skip("i1", reader="dan", token=final.token, reason="dark")
    assert q.counts("phones").open == 0
    assert q.resolved(0) == []


def test_conflicts_can_be_kept_for_adjudicators(any_state: State) -> None:
    q = queue(any_state, spec(readers=2, adjudication="adjudicator"))
    put(any_state, q, item("i1", any_state))
    read_one(q, "ann", "good")
    read_one(q, "bob", "defect")
    assert q.lease("cat") == []
    assert q.lease("cat", adjudicator=True)[0].adjudicate


def test_a_cap_says_until_when(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state, spec(cap=Cap(per_hour=2)))
    put(any_state, q, *(item(f"i{n}", any_state) for n in range(4)))
    assert len(q.lease("ann", n=4)) == 2
    assert len(q.lease("ann", n=4)) == 2  # the same again
    for lease in q.lease("ann", n=4):
        judge(q, lease, "ann")
    with pytest.raises(CaseError, match=r"more from \d{4}-") as caught:
        q.lease("ann")
    assert (caught.value.status, caught.value.code) == (429, "review_cap")
    assert q.lease("bob")
    clock.advance(3601)
    assert len(q.lease("ann")) == 1


def test_active_seconds_are_not_more_than_the_time_since_the_lease(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("i1", any_state))
    (lease,) = q.lease("ann")
    clock.advance(4)
    q.submit("i1", reader="ann", token=lease.token, value="good", key="k", seconds=900.0)
    with any_state.read() as conn:
        assert conn.execute(sa.select(t.judgements.c.seconds)).scalar() == 4.0


def test_several_judgements_can_be_taken_back_in_turn(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, *(item(f"i{n}", any_state) for n in range(3)))
    for _ in range(3):
        read_one(q, "ann")
    assert [q.undo("ann").item for _ in range(3)] == ["i2", "i1", "i0"]
    with pytest.raises(ConflictError, match="take back"):
        q.undo("ann")


def test_costs_order_the_queue(any_state: State) -> None:
    q = queue(any_state, spec(costs={"good": 10.0}))
    preds = tuple(said(i, v) for i, v in (("i1", "defect"), ("i2", "good")))
    put(any_state, q, item("i1", any_state), item("i2", any_state), preds=preds)
    with any_state.read() as conn:
        found = dict(conn.execute(sa.select(t.review_items.c.id, t.review_items.c.priority)).all())  # type: ignore[arg-type]
    assert found == pytest.approx({"i1": 0.3, "i2": 3.0})


def test_defaults_change_nothing() -> None:
    assert Review() == Review(gold=Gold(share=0.0), cap=Cap(), within=None, costs={})
