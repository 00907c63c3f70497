"""Fifteen incidents of other tools, each as what must not happen here, on the real ledger.

Each docstring names the public report. The table that leads from report to test is in
docs/explanation/rollout-incidents.md; a test keeps the two alike.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rollout_rig import ALL, HALF, NAME, V1, V2, V3, feed, ledger, plan
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.rollout import store
from tenure.deploy.rollout.ledger import Moved, Rollouts
from tenure.deploy.rollout.routing import RolloutRouting
from tenure.errors import ConflictError, MissingError
from tenure.scope.project import Step

PAGE = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "rollout-incidents.md"


def look(made: Rollouts) -> list[Moved]:
    with made.state.begin() as conn:
        return made.reconcile(conn, NAME, made.state.now_us())


def route(made: Rollouts) -> RolloutRouting:
    with made.state.read() as conn:
        return made.routing(conn, NAME)


def verdicts(made: Rollouts, number: str) -> dict[str, Any]:
    with made.state.read() as conn:
        step = store.load(conn, number).step
        return {gate: v for (at, gate), v in store.verdicts(conn, number).items() if at == step}


def last_move(made: Rollouts, number: str) -> dict[str, Any]:
    found: dict[str, Any] = made.describe(number)["moves"][-1]
    return found


def test_without_traffic_nothing_is_rolled_back(state: State, clock: ManualClock) -> None:
    """argo-rollouts#1905: no metric values, so the canary was rolled back though it never saw a request."""
    made = ledger(state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    clock.advance(7 * 86_400.0)
    assert look(made) == []
    feed(made, bad1=0, n1=0, bad0=1, n0=60)
    assert look(made) == []
    assert verdicts(made, number)["failed"].outcome.value == "no_data"
    feed(made, bad1=0, n1=0, bad0=10, n0=2000)  # the route is broken: an operator has to look
    assert [m.kind for m in look(made)] == ["paused"]
    made.resume(number, by="ann", reason="route mended")
    feed(made, bad1=1, n1=110, bad0=20, n0=2090)
    assert [m.kind for m in look(made)] == ["advanced"]


def test_a_failed_verdict_is_not_overwritten_by_a_later_success(state: State) -> None:
    """argo-rollouts#1411: `failed (3) > failureLimit (2)`, yet a later success let the rollout complete."""
    made = ledger(state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    feed(made, bad1=6, n1=50, bad0=3, n0=950)
    with state.begin() as conn:  # the verdict is written, and the process dies before the move
        made._looks.verdicts(conn, store.load(conn, number), state.now_us())
    again = Rollouts(state, made.endpoints)
    feed(again, bad1=0, n1=5000, bad0=900, n0=95_000)
    assert verdicts(again, number)["failed"].outcome.value == "fail"
    assert [m.kind for m in look(again)] == ["rolled_back"]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("paused", [False, True])
def test_after_a_rollback_no_share_stays_with_the_candidate(state: State, at: int, paused: bool) -> None:
    """argo-rollouts#4841: after an abort a canary weight above zero stayed for good."""
    made = ledger(state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    for _ in range(at):
        made.promote(number, by="ann")
    if paused:
        made.pause(number, by="ann")
    assert route(made).share == (0.05, 0.5, 1.0)[at]
    made.rollback(number, by="ann", reason="odd")
    got = route(made)
    assert (got.stable, got.candidate, got.share, got.shadows, got.rollout) == (V1, None, 0.0, (), None)


def test_share_and_loaded_versions_change_as_one(state: State) -> None:
    """argo-rollouts PR#4612: a rollback sent 70 % of requests to a canary that was scaled for 5 %."""
    made = ledger(state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    seen = [route(made)]
    for command in ("promote", "promote", "rollback"):
        getattr(made, command)(number, by="ann", reason="test")
        seen.append(route(made))
    for got in seen:  # one value names shares and versions: who gets requests is loaded, in each of them
        loaded = {got.stable, got.candidate, *got.shadows, *got.warm}
        assert {V1, V2} <= loaded
        assert got.share == 0.0 or got.candidate == V2
    assert [got.share for got in seen] == [0.05, 0.5, 1.0, 0.0]


def test_an_abort_without_a_rollout_leaves_the_stable_version_alone(state: State) -> None:
    """argo-rollouts#1292: `abort` with no rollout in progress scaled the stable version to nothing."""
    made = ledger(state)
    before = route(made)
    with pytest.raises(MissingError):
        made.rollback("r-none", by="ann", reason="panic")
    with state.begin() as conn:
        assert made.force_rollback(conn, NAME, "alarm", "tenure") is None
        assert made.hold(conn, NAME, "alarm", "tenure") is None
    assert route(made) == before
    number = made.start(NAME, V2, by="ann", plan=plan(ALL, gates=()))
    assert [m.kind for m in look(made)] == ["completed"]
    done = route(made)
    for command in ("rollback", "cancel", "pause", "resume", "promote"):
        with pytest.raises(ConflictError):
            getattr(made, command)(number, by="ann", reason="too late")
    assert route(made) == done


def test_an_abort_during_a_pause_counts(state: State, clock: ManualClock) -> None:
    """argo-rollouts#1152: an abort during a pause was ignored and the canary was promoted."""
    made = ledger(state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    made.pause(number, by="ann")
    made.rollback(number, by="ann", reason="no")
    ended = made.get(number)
    clock.advance(86_400.0)
    assert look(made) == []
    with pytest.raises(ConflictError):
        made.resume(number, by="ann")
    assert made.get(number) == ended
    assert (route(made).stable, route(made).candidate) == (V1, None)


def test_a_broken_stable_version_does_not_block_its_repair(state: State) -> None:
    """argo-rollouts#1774 and #3110: the stable version was broken, and so the fix could not be shipped."""
    made = ledger(state)
    made.start(NAME, V2, by="ann", plan=plan())
    for n1, n0 in ((50, 950), (500, 500), (10, 0)):
        feed(made, bad1=0, n1=n1, bad0=n0, n0=n0)  # every answer of the stable version fails
        assert [m.kind for m in look(made)] in (["advanced"], ["completed"])
    assert route(made).stable == V2
    with state.begin() as conn:  # or at once, without a rollout
        made.set_stable(conn, NAME, V3, "ann")
    assert route(made).stable == V3


def test_going_back_meets_a_warm_version(state: State, clock: ManualClock) -> None:
    """argo-rollouts#3888: the way back from 100 % overloaded a stable version that had gone cold."""
    made = ledger(state)
    made.start(NAME, V2, by="ann", plan=plan(keep_warm=3600.0))
    for n1, n0 in ((50, 950), (500, 500)):
        feed(made, bad1=0, n1=n1, bad0=0, n0=n0)
        look(made)
    assert (route(made).share, route(made).stable) == (1.0, V1)  # no request, but loaded
    feed(made, bad1=0, n1=10, bad0=0, n0=0)
    assert [m.kind for m in look(made)] == ["completed"]
    assert (route(made).stable, route(made).warm) == (V2, (V1,))
    clock.advance(3599.0)
    with state.begin() as conn:
        assert route(made).warm == (V1,)
        made.set_stable(conn, NAME, V1, "ann")
    assert route(made).stable == V1


def test_an_analysis_that_breaks_is_no_success(state: State) -> None:
    """argo-rollouts#4393: an AnalysisRun succeeded although its job had failed."""
    made = ledger(state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    feed(made, bad1=0, n1=50, bad0=10, n0=950)
    e = t.evidence.c
    with state.begin() as conn:  # evidence that cannot be: judging it has to break
        conn.execute(t.evidence.update().where(e.rollout == number, e.gate == "failed").values(x1=-1))
    before = made.get(number)
    with pytest.raises(ValueError, match="counts"):
        look(made)
    assert made.get(number) == before
    assert verdicts(made, number) == {}
    with state.begin() as conn:
        conn.execute(t.evidence.update().where(e.rollout == number, e.gate == "failed").values(x1=0))
    made.forget()
    assert [m.kind for m in look(made)] == ["advanced"]


def test_traffic_that_stops_midway_neither_fails_nor_advances(state: State, clock: ManualClock) -> None:
    """flagger#1035, #1011 and #1689: no traffic failed the deployment, or it advanced without any."""
    made = ledger(state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    feed(made, bad1=0, n1=50, bad0=10, n0=950)
    assert [m.kind for m in look(made)] == ["advanced"]
    for _ in range(30):
        clock.advance(86_400.0)
        assert look(made) == []
    feed(made, bad1=0, n1=3, bad0=0, n0=2)  # a trickle is not enough either
    assert look(made) == []
    got = made.get(number)
    assert (got.state, got.step, route(made).share) == ("running", 1, 0.5)
    assert "could not be told from chance" in verdicts(made, number)["failed"].sentence


def test_a_failure_during_promotion_harms_nobody(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """flagger#1898, #1932 and PR#1931: a failure while promoting sent all to the broken primary."""
    made = ledger(state)
    number = made.start(NAME, V2, by="ann", plan=plan(ALL, gates=()))
    before = route(made)

    def dies(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "set_stable", dies)  # between the move and the new stable version
        with pytest.raises(OSError, match="disk"):
            look(made)
    assert made.get(number).state == "running"
    assert route(made) == before
    again = Rollouts(state, made.endpoints)
    assert [m.kind for m in look(again)] == ["completed"]
    assert (route(again).stable, route(again).warm) == (V2, (V1,))
    second = again.start(NAME, V3, by="ann", plan=plan(ALL, gates=()))
    again.rollback(second, by="ann", reason="worse")
    assert route(again).stable == V2  # the version that was in force then, by name; not a role's older holder


def test_another_version_starts_without_the_evidence_of_the_last(state: State) -> None:
    """flagger#30: a new revision during the analysis resumed the old one's and was promoted unproven."""
    made = ledger(state)
    first = made.start(NAME, V2, by="ann", plan=plan())
    feed(made, bad1=0, n1=50, bad0=10, n0=950)
    with pytest.raises(ConflictError, match="end it first"):
        made.start(NAME, V3, by="ann", plan=plan())
    made.rollback(first, by="ann", reason="V3 is ready")
    second = made.start(NAME, V3, by="ann", plan=plan())
    assert look(made) == []
    a, b = made.get(first), made.get(second)
    assert (b.step, a.evidence_key != b.evidence_key, a.salt != b.salt) == (0, True, True)
    with state.read() as conn:
        query = sa.select(sa.func.count()).select_from(t.evidence).where(t.evidence.c.rollout == second)
        assert conn.execute(query).scalar_one() == 0


def test_every_rollback_keeps_the_numbers_that_caused_it(state: State) -> None:
    """flagger#1810: it rolled back and showed no value of the metric."""
    made = ledger(state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    feed(made, bad1=6, n1=50, bad0=3, n0=950)
    look(made)
    move = last_move(made, number)
    told = move["numbers"]["gates"]["failed"]
    assert {k: told[k] for k in ("x1", "n1", "x0", "n0")} == {"x1": 6, "n1": 50, "x0": 3, "n0": 950}
    assert told["log_e"] >= told["log_limit"]
    assert re.search(r"6 failed answers of v2@2 in 50 .* against 3 of v1@1 in 950", move["reason"])
    with state.read() as conn:
        detail = conn.execute(
            sa.select(t.audit.c.detail).where(t.audit.c.action == "rollout.rolled_back")
        ).scalar_one()
    assert json.loads(detail)["reason"] == move["reason"]


def test_counts_decide_and_not_ranks_of_minutes(state: State) -> None:
    """kayenta#780, #426, #744, spinnaker#6278: Mann-Whitney passed 100 against 1, and rare errors."""
    made = ledger(state)
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL))
    for minute in range(10):  # 100 against 1 in seven of ten minutes
        feed(made, bad1=100 if minute < 7 else 1, n1=1000, bad0=1, n0=1000)
    assert [m.kind for m in look(made)] == ["rolled_back"]
    sparse = made.start(NAME, V2, by="ann", plan=plan())
    for bad in (0, 1, 2, 1, 0, 0):
        feed(made, bad1=bad, n1=50, bad0=0, n0=950)
    assert [m.kind for m in look(made)] == ["rolled_back"]
    assert "4 failed answers of v2@2 in 300 requests against 0" in made.get(sparse).reason
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL))
    feed(made, bad1=4, n1=200, bad0=0, n0=200)  # at half of the traffic four of four are chance, once in sixteen
    assert [m.kind for m in look(made)] == ["advanced"]


def test_one_failure_among_few_is_no_verdict_and_no_route_leaks(state: State) -> None:
    """kayenta#521, kserve#2130, suna PR#3403: unexplained verdicts, leaked routes, one failure as "20 %"."""
    made = ledger(state)
    for version in (V2, V3, V2):
        number = made.start(NAME, version, by="ann", plan=plan(Step(share=0.25, min=50), ALL))
        feed(made, bad1=1, n1=5, bad0=0, n0=15)  # one transient failure
        assert look(made) == []
        said = verdicts(made, number)["failed"]
        assert said.outcome.value in ("wait", "pass")
        assert re.search(r"\d", said.sentence)
        made.rollback(number, by="ann", reason="next")
        got = route(made)
        assert (got.stable, got.candidate, got.share, got.shadows) == (V1, None, 0.0, ())
    assert len(route(made).warm) == 2


def test_the_page_names_every_incident_and_its_test() -> None:
    page = PAGE.read_text(encoding="utf-8")
    mine = {n: f for n, f in globals().items() if n.startswith("test_") and f.__doc__}
    assert len(mine) == 15
    for name, function in mine.items():
        line = next((row for row in page.splitlines() if f"`{name}`" in row), "")
        for number in re.findall(r"#\d+", (function.__doc__ or "").partition(":")[0]):
            assert number in line, f"{name}: {number} is not in its row of {PAGE.name}"
