"""Named reactions of clients count by the age of the request; rates are compared with constants too."""

from __future__ import annotations

import numpy as np
import pytest

from rollout_rig import ALL, FIVE, HALF, NAME, SHADOW, V2, VERSIONS, ledger, plan, rollout, rows
from tenure.clock import ManualClock
from tenure.data.state import State
from tenure.deploy.rollout.advance import Verdict
from tenure.deploy.rollout.counts import Count
from tenure.deploy.rollout.judge import judge
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.plan import alone, problems
from tenure.scope.project import GateSpec
from tenure.types import Outcome

REDO = GateSpec(bad="reaction:redo", maturity=60.0)
GRACE = 71.0


def serve(made: Rollouts, candidate: list[bool], *, run: int = 1, unit: list[int] | None = None) -> int:
    """Let the log show requests; return when."""
    now = made.active(None, NAME)
    assert now is not None
    at_ns = made.state.clock.now_ns()
    columns = rows(candidate, now.plan.share(now.step), at_ns, **({} if unit is None else {"unit": unit}))
    columns["seq"] = np.arange(len(candidate), dtype="<u8")
    made.saw(now, run, columns, VERSIONS)
    return at_ns // 1000


def counted(made: Rollouts) -> list[tuple[float, int, int, int, int]]:
    with made.state.begin() as conn:
        made.reconcile(conn, NAME, made.state.now_us())
    now = made.history(NAME)[0]["id"]
    found = made.describe(now)["evidence"]
    return [(c["rho"], c["x1"], c["x0"], c["n1"], c["n0"]) for c in found if c["gate"] == REDO.bad]


def tick(made: Rollouts, clock: ManualClock, seconds: float = GRACE) -> None:
    """Let time pass and the log show it, by a request of a later run."""
    clock.advance(seconds)
    serve(made, [False], run=99)


def test_reactions_count_when_their_requests_are_mature(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL, gates=(REDO,)))
    at_us = serve(made, [True, True, False, False])
    made.heard(NAME, (1, 0), "redo", None, at_us + 5)
    made.heard(NAME, (1, 0), "redo", None, at_us + 6)  # a second one of the same request
    made.heard(NAME, (1, 1), "like", None, at_us + 5)  # another reaction
    made.heard(NAME, (1, 2), "redo", False, at_us + 5)  # taken as none
    made.heard(NAME, (1, 3), "redo", True, at_us + 60_000_001)  # too late
    made.heard(NAME, (7, 7), "redo", True, at_us)  # nobody knows that request
    assert counted(made) == []
    tick(made, clock)
    assert counted(made) == [(0.5, 1, 0, 2, 2)]
    assert counted(made) == [(0.5, 1, 0, 2, 2)]


def test_a_unit_counts_its_first_reaction_once(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL, gates=(REDO,), assign="unit"))
    at_us = serve(made, [True, True, False], unit=[5, 5, 6])
    for seq in range(3):
        made.heard(NAME, (1, seq), "redo", None, at_us + 5)
    tick(made, clock)
    assert counted(made) == [(0.5, 1, 1, 2, 1)]


def test_a_rollback_of_the_transaction_forgets_both_arms(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL, gates=(REDO,)))
    at_us = serve(made, [True, False])
    made.heard(NAME, (1, 0), "redo", None, at_us + 5)
    made.forget()
    tick(made, clock)
    assert counted(made) == []


def test_many_reactions_roll_back(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan(FIVE, ALL, gates=(REDO,)))
    at_us = serve(made, [True] * 50 + [False] * 950)
    for seq in (*range(5), *range(50, 53)):
        made.heard(NAME, (1, seq), "redo", None, at_us + 5)
    tick(made, clock)
    counted(made)
    got = made.get(number)
    assert got.state == "rolled_back"
    assert got.reason.startswith("5 redo reactions of v2@2 in 50 requests against 3 of v1@1 in 950")


def one(gate: GateSpec, x1: int, n1: int, *, step: int = 0, **fields: object) -> Verdict:
    asked = rollout(plan(FIVE, ALL, gates=(gate,), **fields), step=step)
    return judge(asked, [Count(step=step, gate=gate.bad, rho=asked.plan.share(step), x1=x1, n1=n1)], {})[0]


def test_a_constant_fails_passes_and_says_that_it_is_not_protected() -> None:
    gate = GateSpec(bad="failed", constant=0.02)
    assert one(gate, 10, 100).outcome == Outcome.FAIL
    good = one(gate, 2, 100)
    assert good.outcome == Outcome.PASS
    assert good.sentence.startswith("2 failed answers of v2@2 in 100 against a rate of 0.02: not contradicted")
    assert good.sentence.endswith("a constant, which randomisation does not protect")
    assert one(gate, 10, 100, step=1).outcome == Outcome.FAIL  # also while it answers everything
    assert one(gate, 0, 0).outcome == Outcome.NO_DATA
    assert one(gate, 2, 100, advance="shown").outcome == Outcome.WAIT
    shown = one(gate, 0, 400, advance="shown")
    assert (shown.outcome, "shown to be below 0.04" in shown.sentence) == (Outcome.PASS, True)


def test_a_first_version_keeps_its_constants() -> None:
    kept = alone(plan(SHADOW, FIVE, ALL, gates=(GateSpec(bad="failed", constant=0.02), REDO)))
    assert [g.bad for g in kept.gates] == ["failed"]
    assert problems(kept) == []


@pytest.mark.parametrize(
    ("gate", "fields", "said"),
    [
        (GateSpec(bad="reaction:redo"), {}, "needs maturity"),
        (GateSpec(bad="failed", constant=0.02), {"assign": "unit"}, "use assign: request"),
        (GateSpec(bad="failed", constant=0.6), {"advance": "shown"}, "choose a smaller margin"),
    ],
)
def test_gates_that_cannot_say_anything(gate: GateSpec, fields: dict[str, object], said: str) -> None:
    assert said in problems(plan(FIVE, ALL, gates=(gate,), **fields))[0]


@pytest.mark.parametrize(("missing", "outcome"), [("at_random", Outcome.PASS), ("worst_case", Outcome.WAIT)])
def test_missing_labels_may_have_to_hold_in_the_worst_case(missing: str, outcome: Outcome) -> None:
    gate = GateSpec(bad="wrong_decision", missing=missing)  # type: ignore[arg-type]
    counts = [
        Count(step=0, gate="wrong_decision", rho=0.05, x1=1, x0=19, n1=50, n0=950),
        Count(step=0, gate="missing_labels", rho=0.05, x1=9, x0=171, n1=59, n0=1121),
    ]
    found = judge(rollout(plan(FIVE, ALL, gates=(gate,))), counts, {})[0]
    assert found.outcome == outcome
    assert ("get the labels" in found.sentence) == (missing == "worst_case")
