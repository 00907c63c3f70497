"""Work whose time is over: nothing dead comes before what is waited for, and nobody stays unanswered."""

from __future__ import annotations

import itertools
import json

import pytest
import sqlalchemy as sa
from review_world import endpoint, item, judge, put, read_one, said

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review.leases import OLDEST
from tenure.deploy.review.queue import ReviewQueue
from tenure.scope.project import EndpointSpec, Fallback, Output, Review, SecondReader, Serve
from tenure.seeds import draw

AFTER_S = 30.0


def queue(state: State, spec: EndpointSpec) -> ReviewQueue:
    """A queue whose leases all go by the order of the queue, none by age alone."""
    tokens = (f"l_{n}" for n in itertools.count() if draw("oldest", f"l_{n}") >= OLDEST)
    return ReviewQueue(state, {"phones": spec}, tokens=lambda n: list(itertools.islice(tokens, n)))


def spec(*, fallback: bool = True, **review: object) -> EndpointSpec:
    made = Review(second_reader=SecondReader(disagreements=1.0, agreements=0.0), **review)  # type: ignore[arg-type]
    serve = Serve(on_timeout=Fallback(decide="defect", after=AFTER_S)) if fallback else Serve()
    return EndpointSpec(input="image", output=Output(labels=("good", "defect")), serve=serve, review=made)


def pending(id_: str, state: State, **more: object) -> object:
    """An unsure answer at `partial`: a client waits until the deadline."""
    deadline = state.now_us() + int(AFTER_S * 1e6)
    base = {"pending": True, "deadline_us": deadline, "level": "partial", "blind": False}
    return item(id_, state, **(base | more))


def expire(q: ReviewQueue, state: State) -> int:
    with state.begin() as conn:
        return q.expire(conn, state.now_us())


def field(state: State, id_: str, name: str) -> object:
    with state.read() as conn:
        return conn.execute(sa.select(t.review_items.c[name]).where(t.review_items.c.id == id_)).scalar_one()


def decided(state: State) -> dict[str, tuple[str, object]]:
    with state.read() as conn:
        return {d.id: (d.by, json.loads(d.value)) for d in conn.execute(sa.select(t.decisions)).all()}


def order(q: ReviewQueue, n: int, reader: str = "ann") -> list[str]:
    return [lease.item for lease in q.lease(reader, n=n, adjudicator=True)]


def late_world(state: State, clock: ManualClock, **review: object) -> ReviewQueue:
    """Two clients were answered by the fallback, one of them drawn for evidence; then other work came."""
    q = queue(state, spec(**review))
    put(state, q, pending("gone", state), pending("drawn", state, lottery=True, blind=True))
    clock.advance(AFTER_S)
    assert expire(q, state) == 2
    assert expire(q, state) == 0
    put(state, q, item("audit", state, kind="audit", level="partial"), pending("waits", state))
    return q


def test_a_client_gets_the_fallback_and_its_item_goes_behind_all_live_work(
    any_state: State, clock: ManualClock
) -> None:
    q = late_world(any_state, clock)
    assert decided(any_state) == {"gone": ("fallback", "defect"), "drawn": ("fallback", "defect")}
    assert order(q, 4) == ["waits", "drawn", "audit", "gone"]


def test_the_share_of_the_oldest_never_picks_what_nobody_waits_for(state: State, clock: ManualClock) -> None:
    late_world(state, clock)
    q = ReviewQueue(state, {"phones": spec()})
    firsts = set()
    for n in range(60):  # one lease in ten goes by age alone
        (lease,) = q.lease(f"reader{n}", n=1)
        firsts.add(lease.item)
        q.release(lease.item, reader=f"reader{n}", token=lease.token)
    assert firsts == {"waits", "drawn"}


def test_an_item_behind_is_still_read_and_its_truth_is_kept(any_state: State, clock: ManualClock) -> None:
    q = late_world(any_state, clock)
    for _ in range(4):
        read_one(q, "ann")
    assert {x.item for x in q.resolved(0)} == {"gone", "drawn", "audit", "waits"}
    assert decided(any_state)["gone"] == ("fallback", "defect")


def test_on_fallback_close_ends_what_nobody_waits_for_but_not_evidence(
    any_state: State, clock: ManualClock
) -> None:
    q = queue(any_state, spec(on_fallback="close"))
    put(any_state, q, pending("gone", any_state), pending("drawn", any_state, lottery=True, blind=True))
    (held,) = [x for x in q.lease("ann", n=2) if x.item == "gone"]
    clock.advance(AFTER_S)
    expire(q, any_state)
    assert [field(any_state, i, "state") for i in ("gone", "drawn")] == ["expired", "open"]
    judge(q, held, "ann", "good")  # who had begun is not robbed of the work
    assert field(any_state, "gone", "state") == "resolved"
    assert decided(any_state)["gone"] == ("fallback", "defect")


def test_below_partial_every_blind_item_is_evidence(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state, spec(on_fallback="close"))
    put(
        any_state,
        q,
        pending("blind", any_state, level="assist", blind=True),
        pending("seen", any_state, level="assist"),
    )
    clock.advance(AFTER_S)
    expire(q, any_state)
    assert [field(any_state, i, "state") for i in ("blind", "seen")] == ["open", "expired"]


@pytest.mark.parametrize(
    ("on_late", "expected"),
    [("escalate", ["late", "fresh"]), ("last", ["fresh", "late"]), ("close", ["fresh"])],
)
def test_an_item_not_judged_within(
    any_state: State, clock: ManualClock, on_late: str, expected: list[str]
) -> None:
    q = queue(any_state, spec(within=60.0, on_late=on_late))
    put(any_state, q, item("late", any_state))
    clock.advance(61)
    put(any_state, q, item("fresh", any_state))
    expire(q, any_state)
    expire(q, any_state)
    counts = q.counts("phones")
    assert (counts.missed, counts.escalated) == (1, int(on_late == "escalate"))
    assert order(q, 2) == expected


def test_an_escalated_item_that_is_closed_as_late_stays_the_adjudicators_in_the_counts(
    any_state: State, clock: ManualClock
) -> None:
    q = queue(any_state, spec(within=60.0, on_late="last"))
    put(any_state, q, item("i1", any_state))
    (lease,) = q.lease("ann")
    q.escalate("i1", reader="ann", token=lease.token, reason="unclear")
    clock.advance(61)
    expire(q, any_state)
    assert field(any_state, "i1", "escalated") == 1


@pytest.mark.parametrize("on_late", ["escalate", "last", "close"])
def test_a_client_without_a_deadline_is_never_put_off(any_state: State, clock: ManualClock, on_late: str) -> None:
    q = queue(any_state, spec(fallback=False, within=60.0, on_late=on_late))
    put(any_state, q, item("waits", any_state, pending=True, level="partial"))
    clock.advance(61)
    expire(q, any_state)
    assert q.lease("ann") == []  # an adjudicator's now
    (lease,) = q.lease("dan", adjudicator=True)
    judge(q, lease, "dan", "good")
    assert decided(any_state) == {"waits": ("person", "good")}


def test_a_waiting_item_that_nobody_can_judge_goes_to_an_adjudicator(any_state: State) -> None:
    q = queue(any_state, endpoint())
    put(any_state, q, item("waits", any_state, pending=True), preds=(said("waits", "good"),))
    for reader in ("ann", "bob", "cat"):
        (lease,) = q.lease(reader)
        q.skip("waits", reader=reader, token=lease.token, reason="blurred")
    assert q.lease("eve") == []
    (lease,) = q.lease("dan", adjudicator=True)
    judge(q, lease, "dan", "good")
    assert decided(any_state) == {"waits": ("person", "good")}


def test_a_reader_never_meets_an_item_again_whose_gold_they_read(any_state: State) -> None:
    q = queue(any_state, spec())
    put(any_state, q, item("i1", any_state))
    q.add_gold("i1", by="op", truth="good")
    with any_state.begin() as conn:
        conn.execute(
            t.gold_draws.insert().values(id="alias", item="i1", endpoint="phones", reader="ann", at_us=0)
        )
    assert q.lease("ann") == []
    assert [x.item for x in q.lease("bob")] == ["i1"]


def test_who_got_an_item_before_it_was_escalated_reads_it_like_any_other(any_state: State) -> None:
    q = queue(any_state, spec(readers=2))
    put(any_state, q, item("i1", any_state))
    (anns,) = q.lease("ann")
    (bobs,) = q.lease("bob")
    q.escalate("i1", reader="ann", token=anns.token, reason="unclear")
    judge(q, bobs, "bob", "good")
    assert field(any_state, "i1", "state") == "judged"  # one reading, not the last word
    (dans,) = q.lease("dan", adjudicator=True)
    judge(q, dans, "dan", "defect")
    assert (field(any_state, "i1", "source"), field(any_state, "i1", "truth")) == ("adjudicated", '"defect"')


def test_an_adjudicator_who_takes_back_is_still_one(any_state: State) -> None:
    q = queue(any_state, spec())
    put(any_state, q, item("i1", any_state))
    (lease,) = q.lease("ann")
    q.escalate("i1", reader="ann", token=lease.token, reason="unclear")
    (dans,) = q.lease("dan", adjudicator=True)
    judge(q, dans, "dan", "defect")
    again = q.undo("dan")
    judge(q, again, "dan", "good")
    assert (field(any_state, "i1", "source"), field(any_state, "i1", "truth")) == ("adjudicated", '"good"')


def test_taking_an_escalation_back_does_not_put_a_late_item_off_again(
    any_state: State, clock: ManualClock
) -> None:
    q = queue(any_state, spec(within=60.0))
    put(any_state, q, item("i1", any_state))
    (lease,) = q.lease("ann")
    clock.advance(61)
    expire(q, any_state)
    q.escalate("i1", reader="ann", token=lease.token, reason="unclear")
    q.undo("ann")
    assert field(any_state, "i1", "escalated") == 1
