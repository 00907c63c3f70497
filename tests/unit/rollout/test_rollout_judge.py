from __future__ import annotations

import math

import pytest

from rollout_rig import ALL, FAILED, FIVE, HALF, LATE, SHADOW, WRONG, plan, rollout
from tenure.deploy.rollout.advance import Verdict
from tenure.deploy.rollout.counts import MISSING, REQUESTS, SWITCHED, Count
from tenure.deploy.rollout.judge import FAMILY, judge
from tenure.scope.project import GateSpec
from tenure.types import Outcome


def by_gate(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {v.gate: v for v in verdicts}


def test_a_fail_has_the_numbers_and_the_sentence() -> None:
    counts = [Count(step=0, gate="wrong_decision", rho=0.05, x1=5, x0=3, n1=153, n0=2907)]
    told = by_gate(judge(rollout(plan(gates=(WRONG,))), counts, {}))["wrong_decision"]
    assert told.outcome is Outcome.FAIL
    assert math.exp(told.numbers["log_e"]) == pytest.approx(3037.84, abs=0.01)  # oracle of the specification
    assert told.sentence == (
        "5 wrong decisions of v2@2 in 153 judged requests against 3 of v1@1 in 2,907: "
        "evidence 3,038 of 20 needed; roll back"
    )


def test_the_evidence_of_all_steps_is_one() -> None:
    counts = [
        Count(step=0, gate="failed", rho=0.05, x1=2, x0=10, n1=50, n0=950),
        Count(step=1, gate="failed", rho=0.25, x1=9, x0=6, n1=250, n0=750),
    ]
    told = by_gate(judge(rollout(plan(FIVE, HALF, ALL), step=1), counts, {}))
    assert math.exp(told["failed"].numbers["log_e"]) == pytest.approx(64.1296, abs=1e-3)
    assert told["failed"].outcome is Outcome.FAIL


def test_what_was_reached_counts_even_if_it_is_gone() -> None:
    counts = [Count(step=0, gate="failed", rho=0.05, x1=0, x0=3, n1=50, n0=950)]
    assert by_gate(judge(rollout(plan()), counts, {}))["failed"].outcome is Outcome.PASS
    kept = judge(rollout(plan()), counts, {FAMILY: math.log(20.0), "failed": math.log(20.0)})
    assert by_gate(kept)["failed"].outcome is Outcome.FAIL


def test_no_data_and_too_few_hold() -> None:
    told = by_gate(judge(rollout(plan()), [], {}))["failed"]
    assert told.outcome is Outcome.NO_DATA
    few = [Count(step=0, gate="failed", rho=0.05, n1=1, n0=20)]
    told = by_gate(judge(rollout(plan()), few, {}))["failed"]
    assert told.outcome is Outcome.WAIT
    assert "fewer than 2 failed answers" in told.sentence


def test_no_bad_outcome_at_all_passes_with_a_bound() -> None:
    counts = [Count(step=0, gate="failed", rho=0.05, n1=100, n0=1900)]
    told = by_gate(judge(rollout(plan()), counts, {}))["failed"]
    assert told.outcome is Outcome.PASS
    assert told.numbers["upper"] == pytest.approx(1.0 - 0.05 ** (1 / 100), abs=0.02)


def test_a_pass_says_what_would_have_been_noticed() -> None:
    counts = [Count(step=0, gate="failed", rho=0.5, x1=40, x0=40, n1=2000, n0=2000)]
    told = by_gate(judge(rollout(plan(HALF, ALL)), counts, {}))["failed"]
    assert told.outcome is Outcome.PASS
    assert 1.2 < told.numbers["noticeable"] < 4.0
    assert "would have been noticed" in told.sentence


def test_two_gates_share_one_alpha() -> None:
    """Six bad ones of six at 50 % reach 20 but not 40: beside a second, silent gate that is not enough."""
    counts = [Count(step=0, gate="failed", rho=0.5, x1=6, x0=0, n1=50, n0=50)]
    assert by_gate(judge(rollout(plan(HALF, ALL)), counts, {}))[FAMILY].outcome is Outcome.FAIL
    both = plan(HALF, ALL, gates=(FAILED, LATE))
    told = by_gate(judge(rollout(both), counts, {}))
    assert told[FAMILY].outcome is Outcome.PASS
    assert math.exp(told[FAMILY].numbers["log_e"]) == pytest.approx((21.2 + 1.0) / 2.0, abs=1e-3)
    both_bad = [*counts, Count(step=0, gate="over_latency", rho=0.5, x1=6, x0=0, n1=50, n0=50)]
    told = by_gate(judge(rollout(both), both_bad, {}))
    assert told[FAMILY].outcome is Outcome.FAIL  # neither gate alone would
    failed = [v for g, v in told.items() if g != FAMILY and v.outcome is Outcome.FAIL]
    assert len(failed) == 1
    assert "evidence 21 of 20 needed" in failed[0].sentence


def test_shown_needs_proof() -> None:
    asked = rollout(plan(HALF, ALL, advance="shown"))
    few = [Count(step=0, gate="failed", rho=0.5, x1=10, x0=10, n1=500, n0=500)]
    told = by_gate(judge(asked, few, {}))["failed"]
    assert (told.outcome, "not yet shown" in told.sentence) == (Outcome.WAIT, True)
    many = [Count(step=0, gate="failed", rho=0.5, x1=60, x0=60, n1=3000, n0=3000)]
    told = by_gate(judge(asked, many, {}))["failed"]
    assert (told.outcome, "shown to be less than 2 times" in told.sentence) == (Outcome.PASS, True)
    none = [Count(step=0, gate="failed", rho=0.5, n1=9000, n0=9000)]
    assert by_gate(judge(asked, none, {}))["failed"].outcome is Outcome.WAIT  # silence is no proof


def test_at_all_requests_there_is_nothing_to_compare() -> None:
    counts = [Count(step=2, gate="failed", rho=1.0, x1=50, n1=100)]
    told = by_gate(judge(rollout(plan(), step=2), counts, {}))
    assert told["failed"].outcome is Outcome.PASS
    assert told["failed"].numbers["log_e"] == 0.0


def test_in_the_shadow_the_only_wrong_one_counts() -> None:
    asked = rollout(plan(SHADOW, FIVE, ALL, gates=(WRONG, FAILED)))
    alike = [Count(step=0, gate="wrong_decision", rho=0.5, x1=9, x0=9, n1=200, n0=200)]
    told = by_gate(judge(asked, alike, {}))
    assert told["wrong_decision"].outcome is Outcome.PASS
    assert told["failed"].outcome is Outcome.PASS
    worse = [Count(step=0, gate="wrong_decision", rho=0.5, x1=20, x0=1, n1=200, n0=200)]
    assert by_gate(judge(asked, worse, {}))["wrong_decision"].outcome is Outcome.FAIL


def test_a_split_that_is_not_as_promised_holds() -> None:
    good = [Count(step=0, gate=REQUESTS, rho=0.1, x1=100, x0=900)]
    told = by_gate(judge(rollout(plan(gates=())), good, {}))["assignment"]
    assert (told.outcome, told.holds) == (Outcome.PASS, False)
    assert math.exp(told.numbers["log_e"]) == pytest.approx(0.406818, abs=1e-5)
    off = [Count(step=0, gate=REQUESTS, rho=0.1, x1=150, x0=850)]
    told = by_gate(judge(rollout(plan(gates=())), off, {}))["assignment"]
    assert (told.outcome, told.holds) == (Outcome.WAIT, True)
    both = [*good, Count(step=0, gate=SWITCHED, rho=0.1, x1=1)]
    assert by_gate(judge(rollout(plan(gates=())), both, {}))["assignment"].holds


def test_labels_that_go_missing_for_one_version_hold() -> None:
    alike = [Count(step=0, gate=MISSING, rho=0.5, x1=20, x0=20, n1=100, n0=100)]
    assert not by_gate(judge(rollout(plan(HALF, ALL, gates=())), alike, {}))[MISSING].holds
    for x1, x0 in ((40, 5), (5, 40)):
        unlike = [Count(step=0, gate=MISSING, rho=0.5, x1=x1, x0=x0, n1=100, n0=100)]
        assert by_gate(judge(rollout(plan(HALF, ALL, gates=())), unlike, {}))[MISSING].holds


def missing(x1: int, x0: int) -> Count:
    return Count(step=0, gate=MISSING, rho=0.5, x1=x1, x0=x0, n1=3000, n0=3000)


def test_missing_labels_count_as_bad_as_can_be_unless_the_plan_trusts_them() -> None:
    """As many missing in each arm fire no two-sided gate, but all against the candidate it is not cleared."""
    seen = Count(step=0, gate="wrong_decision", rho=0.5, x1=12, x0=10, n1=3000, n0=3000)
    usual, trusting = GateSpec(bad="wrong_decision"), GateSpec(bad="wrong_decision", missing="at_random")
    told = by_gate(judge(rollout(plan(HALF, ALL, gates=(usual,))), [seen, missing(30, 30)], {}))
    assert not told[MISSING].holds
    assert told["wrong_decision"].outcome is Outcome.WAIT
    assert "with all 30 labels that are missing against v2@2 the evidence were" in told["wrong_decision"].sentence
    numbers = told["wrong_decision"].numbers
    assert numbers["worst_log_e"] > numbers["log_limit"] > numbers["log_e"] > numbers["best_log_e"]
    assert (numbers["missing1"], numbers["missing0"]) == (30, 30)
    told = by_gate(judge(rollout(plan(HALF, ALL, gates=(trusting,))), [seen, missing(30, 30)], {}))
    assert told["wrong_decision"].outcome is Outcome.PASS
    told = by_gate(judge(rollout(plan(HALF, ALL, gates=(trusting,))), [seen, missing(45, 5)], {}))
    assert told[MISSING].holds  # trusted or not, labels that go missing for one version only hold it


def test_shown_rests_on_the_worst_case_too() -> None:
    seen = Count(step=0, gate="wrong_decision", rho=0.5, x1=60, x0=60, n1=3000, n0=3000)
    usual, trusting = GateSpec(bad="wrong_decision"), GateSpec(bad="wrong_decision", missing="at_random")
    asked = rollout(plan(HALF, ALL, gates=(usual,), advance="shown"))
    assert by_gate(judge(asked, [seen], {}))["wrong_decision"].outcome is Outcome.PASS
    held = by_gate(judge(asked, [seen, missing(40, 40)], {}))["wrong_decision"]
    assert held.outcome is Outcome.WAIT
    assert "also with the 40 labels that are missing against it" in held.sentence
    asked = rollout(plan(HALF, ALL, gates=(trusting,), advance="shown"))
    assert by_gate(judge(asked, [seen, missing(40, 40)], {}))["wrong_decision"].outcome is Outcome.PASS
