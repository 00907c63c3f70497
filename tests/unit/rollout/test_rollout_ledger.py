from __future__ import annotations

import pytest
import sqlalchemy as sa

from rollout_rig import ALL, FIVE, HALF, NAME, SHADOW, V1, V2, V3, feed, ledger, plan
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State, verify_audit
from tenure.deploy.rollout.ledger import Moved, Rollouts
from tenure.errors import ConflictError, MissingError


def reconcile(made: Rollouts) -> list[Moved]:
    with made.state.begin() as conn:
        return made.reconcile(conn, NAME, made.state.now_us())


def test_a_good_candidate_climbs_and_becomes_stable(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan(SHADOW, FIVE, HALF, ALL, keep_warm=3600.0))
    shares = []
    for n1, n0 in ((0, 100), (50, 950), (500, 500), (100, 0)):
        with any_state.read() as conn:
            route = made.routing(conn, NAME)
        shares.append((route.share, route.shadows))
        feed(made, bad1=0, n1=n1, bad0=3 if n0 else 0, n0=n0)
        moved = reconcile(made)
        assert len(moved) == 1
        clock.advance(1.0)
    assert shares == [(0.0, (V2,)), (0.05, ()), (0.5, ()), (1.0, ())]
    assert (moved[0].kind, moved[0].candidate) == ("completed", V2)
    with any_state.read() as conn:
        route = made.routing(conn, NAME)
        assert (route.stable, route.candidate, route.share, route.warm) == (V2, None, 0.0, (V1,))
        assert conn.execute(sa.select(t.versions.c.id).where(t.versions.c.state == "live")).scalars().all() == [
            V2
        ]
        assert verify_audit(conn) is None
    clock.advance(3600.0)
    with any_state.read() as conn:
        assert made.routing(conn, NAME).warm == ()
    told = made.describe(number)
    assert [s["state"] for s in told["ladder"]] == ["done"] * 4
    assert told["answered"] == {"requests": 650, "labelled": 0, "wrong": 0}
    assert [m["to_state"] for m in told["moves"]] == ["running"] * 4 + ["completed"]
    assert told["moves"][2]["numbers"]["gates"]["failed"]["x0"] == 3


def test_a_bad_candidate_falls_back_and_says_why(any_state: State) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    feed(made, bad1=5, n1=50, bad0=3, n0=950)
    assert [m.kind for m in reconcile(made)] == ["rolled_back"]
    assert reconcile(made) == []
    got = made.get(number)
    assert got.state == "rolled_back"
    assert got.reason.startswith("5 failed answers of v2@2 in 50 requests against 3 of v1@1 in 950")
    with any_state.read() as conn:
        route = made.routing(conn, NAME)
    assert (route.stable, route.candidate, route.share, route.warm) == (V1, None, 0.0, (V2,))
    assert made.describe(number)["ladder"][0]["state"] == "left"


def test_trying_again_is_counted_and_salted_anew(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    first = made.start(NAME, V2, by="ann", plan=plan())
    made.rollback(first, by="ann", reason="odd")
    made.rollback(first, by="ann", reason="odd")  # again does nothing
    second = made.start(NAME, V2, by="ann", plan=plan())
    a, b = made.get(first), made.get(second)
    assert (a.attempt, b.attempt, a.salt != b.salt) == (1, 2, True)
    made.cancel(second, by="ann")
    clock.advance(1.0)
    third = made.start(NAME, V3, by="ann", plan=plan())
    assert made.get(third).attempt == 1
    assert made.history(NAME)[0]["id"] == third


def test_commands_in_wrong_states_are_refused(any_state: State) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    with pytest.raises(ConflictError, match=r"is running; one at a time"):
        made.start(NAME, V3, by="ann")
    with pytest.raises(ConflictError, match=r"is running; resume works while it is paused"):
        made.resume(number, by="ann")
    made.pause(number, by="ann", reason="lunch")
    with pytest.raises(ConflictError, match=r"is paused; promote works while it is running"):
        made.promote(number, by="ann")
    made.rollback(number, by="ann")
    with pytest.raises(ConflictError, match=r"is rolled_back; cancel works while"):
        made.cancel(number, by="ann")
    with pytest.raises(MissingError, match="no rollout"):
        made.pause("r-x", by="ann")


def test_starts_that_cannot_be(any_state: State) -> None:
    made = ledger(any_state)
    for candidate, stable, error in (
        (V1, None, ConflictError),
        (V2, V3, ConflictError),
        ("v9", None, MissingError),
    ):
        with pytest.raises(error):
            made.start(NAME, candidate, by="ann", stable=stable)
    with pytest.raises(ConflictError, match="4 units split by unit cannot show anything"):
        made.start(NAME, V2, by="ann", plan=plan(assign="unit"), units=4)
    with pytest.raises(MissingError, match="no endpoint"):
        made.start("other", V2, by="ann")
    assert made.active(None, NAME) is None


def test_alarms_hold_and_roll_back(any_state: State) -> None:
    made = ledger(any_state)
    with any_state.begin() as conn:
        assert made.hold(conn, NAME, "drift", "tenure") is None
        assert made.force_rollback(conn, NAME, "drift", "tenure") is None
    number = made.start(NAME, V2, by="ann", plan=plan())
    with any_state.begin() as conn:
        held = made.hold(conn, NAME, "drift", "tenure")
        assert held is not None
        assert held.kind == "paused"
        assert made.hold(conn, NAME, "drift", "tenure") is None
        assert made.routing(conn, NAME).share == 0.05  # the share stays
    feed(made, bad1=0, n1=50, bad0=3, n0=950)
    assert reconcile(made) == []
    with any_state.begin() as conn:
        moved = made.force_rollback(conn, NAME, "drift", "tenure")
        assert moved is not None
    assert made.get(number).state == "rolled_back"


def test_harm_is_seen_while_paused(any_state: State) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    made.pause(number, by="ann")
    feed(made, bad1=5, n1=50, bad0=3, n0=950)
    assert [m.kind for m in reconcile(made)] == ["rolled_back"]


def test_a_first_version_has_nobody_to_be_compared_with(any_state: State) -> None:
    made = ledger(any_state, stable=None)
    number = made.start(NAME, V1, by="ann", plan=plan(SHADOW, FIVE, ALL))
    assert [s.share for s in made.get(number).plan.steps] == [None, 1.0]
    assert [m.kind for m in (*reconcile(made), *reconcile(made))] == ["advanced", "completed"]
    with any_state.read() as conn:
        assert made.stable(conn, NAME) == V1


def test_a_split_in_doubt_pauses_and_resuming_answers_it(any_state: State) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    feed(made, bad1=0, n1=300, bad0=3, n0=700)
    assert [m.kind for m in reconcile(made)] == ["paused"]
    made.resume(number, by="ann", reason="the log of one worker was lost")
    assert [m.kind for m in reconcile(made)] == ["advanced"]


def test_set_stable_is_refused_while_a_rollout_is_active(any_state: State) -> None:
    made = ledger(any_state)
    made.start(NAME, V2, by="ann", plan=plan())
    with any_state.begin() as conn, pytest.raises(ConflictError, match="end it first"):
        made.set_stable(conn, NAME, V3, "ann")


def test_nothing_new_writes_nothing(any_state: State) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    feed(made, bad1=0, n1=1, bad0=0, n0=20)
    reconcile(made)
    before = made.describe(number)["verdicts"]
    any_state.clock.advance(5.0)  # type: ignore[attr-defined]
    reconcile(made)
    again = Rollouts(any_state, made.endpoints)  # a restart
    reconcile(again)
    assert made.describe(number)["verdicts"] == before
