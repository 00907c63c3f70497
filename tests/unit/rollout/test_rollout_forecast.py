"""When a step can be decided: from what is missing and the traffic so far, or not said at all."""

from __future__ import annotations

import pytest

from rollout_rig import ALL, FAILED, NAME, V2, WRONG, feed, item, ledger, plan, rollout
from tenure.clock import ManualClock
from tenure.data.state import State
from tenure.deploy.rollout.advance import Progress, Verdict
from tenure.deploy.rollout.counts import Count
from tenure.deploy.rollout.forecast import Forecast, forecast
from tenure.deploy.rollout.judge import judge
from tenure.scope.project import GateSpec, Step
from tenure.types import Outcome

SECOND = 1_000_000
STEP = Step(share=0.05, min=200)  # 4,000 requests of both versions


def seen(step: Step, progress: Progress, *verdicts: Verdict, after_s: int = 100) -> Forecast:
    return forecast(rollout(plan(step, ALL)), verdicts, progress, after_s * SECOND)


def test_requests_at_the_traffic_so_far() -> None:
    found = seen(STEP, Progress(requests=1000))
    assert (found.requests, found.seconds) == (3000, 300.0)
    assert found.sentence == "decidable in about 3,000 requests, about 5 minutes at the traffic of this step"
    assert seen(STEP, Progress(requests=4000)).sentence == "every count that the step wants is there"
    assert seen(STEP, Progress()).seconds is None
    assert seen(Step(share=0.05, bake=7300.0), Progress()).sentence.startswith("decidable in about 2 hours")


def test_labels_come_at_their_own_rate() -> None:
    step = Step(share=0.5, min_labels=30)
    assert seen(step, Progress(requests=1000, labels=10)).requests == 2000
    assert seen(step, Progress(requests=1000)).requests is None  # no label came: nothing to go by


@pytest.mark.parametrize("gate", [FAILED, WRONG])
def test_a_gate_says_how_many_it_misses(gate: GateSpec) -> None:
    asked = rollout(plan(Step(share=0.05), ALL, gates=(gate,)))
    counts = [Count(step=0, gate=gate.bad, rho=0.05, n1=1, n0=19)]
    verdict = judge(asked, counts, {})[0]
    assert (verdict.outcome, verdict.numbers["missing"]) == (Outcome.WAIT, 20)
    found = forecast(asked, [verdict], Progress(requests=200), 100 * SECOND)
    assert found.requests == (20 if gate is FAILED else 200)  # a tenth of the requests was judged


def test_a_proof_is_continued_as_it_grew() -> None:
    numbers = {"shown_log_e": 1.0, "shown_log_limit": 3.0}
    waits = Verdict(gate="failed", outcome=Outcome.WAIT, sentence="not yet shown", numbers=numbers)
    assert seen(Step(share=0.05), Progress(requests=100), waits).requests == 200
    none = Verdict(gate="failed", outcome=Outcome.WAIT, sentence="", numbers=numbers | {"shown_log_e": -0.2})
    assert "too early to say" in seen(Step(share=0.05), Progress(requests=100), none).sentence


def test_a_rollout_shows_what_is_outstanding_and_whom_it_asks(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    waiting = Step(share=0.5, min=100, approve=True)
    number = made.start(NAME, V2, by="ann", plan=plan(waiting, ALL, gates=(WRONG,), second_person=True))
    with any_state.begin() as conn:
        for n in range(3):
            item(conn, n, truth=None, rollout=number, share=0.5, created_us=made.state.now_us())
        made.count_labels(conn, made.get(number))
    feed(made, bad1=0, n1=50, bad0=0, n0=50)
    clock.advance(60.0)
    told = made.describe(number)
    assert told["outstanding"] == {"wrong_decision": 3}
    assert told["asks"] == "anybody but ann approves step 1"
    assert told["forecast"]["requests"] == 100
    made.rollback(number, by="ann")
    assert (made.describe(number)["asks"], made.describe(number)["forecast"]) == (None, None)
