from __future__ import annotations

import pytest

from rollout_rig import ALL, FIVE, plan, rollout
from tenure.deploy.rollout.advance import Progress, Verdict, advance, waits
from tenure.deploy.rollout.command import commanded, kind_of
from tenure.deploy.rollout.plan import Plan, blue_green, default_plan, evidence_key, plan_from_spec, problems
from tenure.scope.project import GateSpec, RolloutSpec, Step
from tenure.types import Outcome

ENOUGH = Progress(requests=10**6, labels=10**6)


def said(outcome: Outcome, gate: str = "failed", *, holds: bool = False) -> Verdict:
    return Verdict(gate=gate, outcome=outcome, sentence=f"{gate} says {outcome}", holds=holds)


@pytest.mark.parametrize("outcome", [Outcome.WAIT, Outcome.NO_DATA])
def test_wait_and_no_data_hold(outcome: Outcome) -> None:
    assert advance(rollout(plan()), [said(outcome)], ENOUGH, 10**12) is None
    assert advance(rollout(plan()), [], ENOUGH, 10**12) is None  # no verdict is not a pass


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_fail_rolls_back(state: str) -> None:
    move = advance(rollout(plan(), state=state), [said(Outcome.FAIL)], Progress(), 0)
    assert move is not None
    assert (move.state, move.step, move.reason) == ("rolled_back", 0, "failed says fail")
    assert move.numbers["gates"]["failed"]["outcome"] == "fail"


@pytest.mark.parametrize("state", ["draft", "completed", "rolled_back", "cancelled"])
def test_what_does_not_run_does_not_move(state: str) -> None:
    assert advance(rollout(plan(), state=state), [said(Outcome.FAIL)], ENOUGH, 10**12) is None


def test_a_pass_goes_one_step() -> None:
    move = advance(rollout(plan()), [said(Outcome.PASS)], ENOUGH, 10**12)
    assert move is not None
    assert (move.state, move.step) == ("running", 1)
    last = advance(rollout(plan(), step=2), [said(Outcome.PASS)], ENOUGH, 10**12)
    assert last is not None
    assert (last.state, last.step) == ("completed", 2)
    assert advance(rollout(plan(), state="paused"), [said(Outcome.PASS)], ENOUGH, 10**12) is None


@pytest.mark.parametrize(
    ("step", "progress", "now_us", "waiting"),
    [
        (Step(share=0.05, min=50), Progress(requests=999), 0, "1 more requests"),
        (Step(share=0.05, min=50), Progress(requests=1000), 0, None),
        (Step(share=0.05, min_labels=5), Progress(labels=3), 0, "2 more judged"),
        (Step(share=0.05, bake=60.0), Progress(), 59_000_000, "1 s more"),
        (Step(share=0.05, bake=60.0), Progress(), 60_000_000, None),
        (Step(share=0.05, approve=True), Progress(), 0, "approval"),
    ],
)
def test_what_a_step_waits_for(step: Step, progress: Progress, now_us: int, waiting: str | None) -> None:
    asked = rollout(plan(step, ALL))
    missing = waits(asked, [said(Outcome.PASS)], progress, now_us)
    assert (advance(asked, [said(Outcome.PASS)], progress, now_us) is None) == (waiting is not None)
    assert missing == [] if waiting is None else waiting in missing[0]


def test_a_doubt_pauses_once() -> None:
    doubt = said(Outcome.WAIT, "assignment", holds=True)
    move = advance(rollout(plan()), [said(Outcome.PASS), doubt], ENOUGH, 0)
    assert move is not None
    assert (move.state, move.numbers["held_by"]) == ("paused", ["assignment"])
    resumed = Progress(requests=10**6, accepted=frozenset({"assignment"}))
    after = advance(rollout(plan()), [said(Outcome.PASS), doubt], resumed, 0)
    assert after is not None
    assert after.state == "running"


def test_commands_and_their_states() -> None:
    states = ("draft", "running", "paused", "completed", "rolled_back", "cancelled")
    names = ("start", "pause", "resume", "promote", "rollback", "cancel")
    works = {(s, n) for s in states for n in names if commanded(rollout(plan(), state=s), n, "")}
    assert works == {
        ("draft", "start"), ("draft", "cancel"),
        ("running", "pause"), ("running", "promote"), ("running", "rollback"), ("running", "cancel"),
        ("paused", "resume"), ("paused", "rollback"), ("paused", "cancel"),
    }  # fmt: skip


def test_moves_have_names() -> None:
    here = rollout(plan())
    move = commanded(here, "promote", "")
    assert move is not None
    assert (kind_of(here, move), move.step) == ("advanced", 1)
    last = rollout(plan(), step=2)
    done = commanded(last, "promote", "")
    assert done is not None
    assert kind_of(last, done) == "completed"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Plan(steps=()), "last step must be share: 100%"),
        (plan(Step(share=0.5), Step(share=0.2), ALL), "shares must rise"),
        (plan(FIVE), "last step must be share: 100%"),
        (plan(FIVE, Step(shadow=1.0), ALL), "only the first step"),
        (plan(FIVE, Step(), ALL), "either shadow or share"),
        (plan(FIVE, ALL, gates=(GateSpec(bad="failed"), GateSpec(bad="failed"))), "two gates count failed"),
        (plan(ALL), "no step splits the traffic"),
    ],
)
def test_plans_that_can_show_nothing_are_refused(bad: Plan, why: str) -> None:
    assert why in "; ".join(problems(bad))


def test_few_units_cannot_be_split_by_unit() -> None:
    sticky = plan(Step(share=0.25), ALL, assign="unit")
    assert problems(sticky) == []
    assert problems(sticky, units=4)[0].startswith(
        "4 units split by unit cannot show anything: use assign: request or unit_epoch"
    )
    assert "begin at a share of" in problems(plan(assign="unit"), units=1000)[0]
    assert problems(sticky, units=1000) == []
    assert problems(plan(assign="unit_epoch"), units=4) == []
    whole = plan(ALL, gates=(GateSpec(bad="failed"),), assign="unit")  # nothing is split, and nobody is there yet
    assert all("units" not in told for told in problems(whole, units=0))


@pytest.mark.parametrize("case", ["new", "assist", "replace"])
def test_the_usual_plans_are_sound(case: str) -> None:
    assert problems(default_plan(case)) == []  # type: ignore[arg-type]
    assert problems(blue_green()) == problems(blue_green(min_labels=100)) == []
    assert plan_from_spec(RolloutSpec(), case).steps == default_plan(case).steps  # type: ignore[arg-type]


def test_evidence_is_about_candidate_stable_and_gates() -> None:
    keys = {
        evidence_key("b", "a", ()), evidence_key("a", "b", ()), evidence_key("b", None, ()),
        evidence_key("b", "a", (GateSpec(bad="failed"),)),
        evidence_key("b", "a", (GateSpec(bad="failed", alpha=0.1),)),
    }  # fmt: skip
    assert len(keys) == 5
