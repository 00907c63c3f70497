"""Whole ramps through the real judge and state machine: a good candidate arrives, a bad one falls back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from tenure.deploy.rollout.advance import Progress, Rollout, advance
from tenure.deploy.rollout.counts import REQUESTS, Count
from tenure.deploy.rollout.judge import judge
from tenure.deploy.rollout.plan import Plan
from tenure.scope.project import GateSpec, Step

ALPHA = 0.05
LOOK = 250  # requests between two looks
LOOKS = 60
RATES = {"failed": 0.02, "over_latency": 0.05}
PLAN = Plan(
    steps=(
        Step(share=0.05, min=100),
        Step(share=0.25, min=500),
        Step(share=0.5, min=1500),
        Step(share=1.0),
    ),
    gates=tuple(GateSpec(bad=gate, alpha=ALPHA) for gate in RATES),
)

RUNS = [pytest.param(150, id="short"), pytest.param(2000, id="full", marks=pytest.mark.slow)]


def tolerated(rate: float, runs: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


@dataclass
class End:
    """How a ramp ended, and whether a z-test at every look would have rolled it back."""

    state: str
    naive: bool
    requests: int


def ramp(rng: np.random.Generator, harm: float) -> End:
    """Run one rollout whose candidate fails `harm` times as often; outcomes of the two gates are dependent."""
    now = Rollout(
        id="r", endpoint="e", candidate="v2", stable="v1", plan=PLAN, evidence_key="", state="running", step=0,
        step_started_us=0, salt="", attempt=1, reason="", created_us=0, updated_us=0, created_by="",
    )  # fmt: skip
    sums: dict[tuple[int, str], list[int]] = {}
    reached: dict[str, float] = {}
    naive, requests, here = False, 0, 0
    for _ in range(LOOKS):
        share = PLAN.share(now.step)
        hit = rng.random(LOOK) < share
        luck = rng.random(LOOK)
        counted = {REQUESTS: np.ones(LOOK, bool)}
        for gate, rate in RATES.items():
            worse = harm if gate == "failed" else 1.0
            counted[gate] = luck < np.where(hit, rate * worse, rate)
        for gate, bad in counted.items():
            row = sums.setdefault((now.step, gate), [0, 0, 0, 0])
            for i, mask in enumerate((bad & hit, bad & ~hit, hit, ~hit)):
                row[i] += int(mask.sum())
        requests, here = requests + LOOK, here + LOOK
        counts = [
            Count(step=s, gate=g, rho=PLAN.share(s), x1=r[0], x0=r[1], n1=r[2], n0=r[3])
            for (s, g), r in sums.items()
        ]
        naive = naive or any(z_test([c for c in counts if c.gate == gate]) for gate in RATES)
        verdicts = judge(now, counts, reached, explain=False)
        for v in verdicts:
            if "max_log_e" in v.numbers:
                reached[v.gate] = max(reached.get(v.gate, 0.0), v.numbers["max_log_e"])
        move = advance(now, verdicts, Progress(requests=here, accepted=frozenset({"assignment"})), requests)
        if move is None:
            continue
        if move.state != "running":
            return End(move.state, naive, requests)
        assert move.step == now.step + 1
        now, here = moved(now, move.step), 0
    return End("running", naive, requests)


def moved(now: Rollout, step: int) -> Rollout:
    fields = {name: getattr(now, name) for name in Rollout.__struct_fields__}
    return Rollout(**(fields | {"step": step}))


def z_test(counts: list[Count]) -> bool:
    """Say whether the pooled one-sided z-test at ALPHA / 2 calls the candidate worse, as dashboards do."""
    split = [c for c in counts if 0.0 < c.rho < 1.0]
    x1, x0 = sum(c.x1 for c in split), sum(c.x0 for c in split)
    n1, n0 = sum(c.n1 for c in split), sum(c.n0 for c in split)
    if min(n1, n0) == 0 or x1 + x0 == 0:
        return False
    p = (x1 + x0) / (n1 + n0)
    z = (x1 / n1 - x0 / n0) / math.sqrt(p * (1 - p) * (1 / n1 + 1 / n0))
    return z > 1.96


@pytest.mark.parametrize("runs", RUNS)
def test_a_candidate_that_is_no_worse_arrives(runs: int) -> None:
    rng = np.random.default_rng(21)
    ends = [ramp(rng, harm=1.0) for _ in range(runs)]
    false = sum(e.state == "rolled_back" for e in ends) / runs
    done = sum(e.state == "completed" for e in ends) / runs
    naive = sum(e.naive for e in ends) / runs
    print(f"\n{runs} ramps, no harm: rolled back {false:.1%}, completed {done:.1%}, z-test {naive:.1%}")
    assert false <= tolerated(ALPHA, runs)
    assert done >= 1.0 - tolerated(ALPHA, runs)
    assert naive > tolerated(ALPHA, runs)  # the same test has teeth: a z-test at every look fails it


@pytest.mark.parametrize("runs", RUNS)
def test_five_times_the_failures_are_caught(runs: int) -> None:
    rng = np.random.default_rng(22)
    ends = [ramp(rng, harm=5.0) for _ in range(runs)]
    caught = sum(e.state == "rolled_back" for e in ends) / runs
    seen = int(np.median([e.requests for e in ends]))
    print(f"\n{runs} ramps, five times the failures: caught {caught:.1%} after a median of {seen:,} requests")
    assert caught >= 0.95
