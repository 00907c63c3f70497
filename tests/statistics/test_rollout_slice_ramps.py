"""Ramps judged in eight slices at once: together they keep the one alpha, and harm in one of them is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rollout_rig import rollout
from tenure.deploy.rollout.counts import REQUESTS, Count, sliced
from tenure.deploy.rollout.judge import FAMILY, judge
from tenure.deploy.rollout.plan import Plan
from tenure.scope.project import GateSpec, SliceSpec, Step
from tenure.types import Outcome

ALPHA, RATE, LINES, LOOK, LOOKS = 0.05, 0.05, 8, 800, 30
SHARES = (0.1, 0.5)
PLAN = Plan(
    steps=(*(Step(share=s) for s in SHARES), Step(share=1.0)),
    gates=(GateSpec(bad="failed", alpha=ALPHA),),
    slices=(SliceSpec(by="line", each=LINES),),
)
RUNS = [pytest.param(60, id="short"), pytest.param(1500, id="full", marks=pytest.mark.slow)]


def tolerated(rate: float, runs: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


def ramp(rng: np.random.Generator, harm: float) -> tuple[str | None, bool]:
    """Return the gate that rolls back, or None, and whether a z-test in some slice at some look would have."""
    counts = np.zeros((len(SHARES), LINES, 4), int)
    reached: dict[str, float] = {}
    naive = False
    for look in range(LOOKS):
        step = look * len(SHARES) // LOOKS
        line, hit = rng.integers(0, LINES, LOOK), rng.random(LOOK) < SHARES[step]
        bad = rng.random(LOOK) < np.where(hit & (line == 3), RATE * harm, RATE)
        for i, mask in enumerate((bad & hit, bad & ~hit, hit, ~hit)):
            counts[step, :, i] += np.bincount(line[mask], minlength=LINES)
        naive = naive or any(z_test(cell) for cell in counts[step])
        told = judge(rollout(PLAN, step=step), rows(counts), reached, explain=False)
        for v in told:
            reached[v.gate] = max(reached.get(v.gate, 0.0), v.numbers.get("max_log_e", 0.0))
        if any(v.gate == FAMILY and v.outcome is Outcome.FAIL for v in told):
            return next(v.gate for v in told if v.outcome is Outcome.FAIL), naive
    return None, naive


def rows(counts: np.ndarray[tuple[int, int, int], np.dtype[np.int64]]) -> list[Count]:
    found = []
    for step, share in enumerate(SHARES):
        for part, (x1, x0, n1, n0) in [
            ("", counts[step].sum(axis=0)), *((f"line={i}", cell) for i, cell in enumerate(counts[step])),
        ]:  # fmt: skip
            sums = {"x1": int(x1), "x0": int(x0), "n1": int(n1), "n0": int(n0)}
            found += [
                Count(step=step, gate=sliced(gate, part), rho=share, **sums) for gate in ("failed", REQUESTS)
            ]
    return [c for c in found if c.gate != REQUESTS]


def z_test(cell: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bool:
    x1, x0, n1, n0 = (float(v) for v in cell)
    if min(n1, n0) < 20 or x1 + x0 == 0:
        return False
    p = (x1 + x0) / (n1 + n0)
    return (x1 / n1 - x0 / n0) / math.sqrt(p * (1 - p) * (1 / n1 + 1 / n0)) > 1.645


@pytest.mark.parametrize("runs", RUNS)
def test_slices_together_keep_the_one_alpha(runs: int) -> None:
    rng = np.random.default_rng(71)
    ends = [ramp(rng, 1.0) for _ in range(runs)]
    false, naive = sum(gate is not None for gate, _ in ends) / runs, sum(n for _, n in ends) / runs
    print(f"\n{LINES} slices, {runs} ramps: rolled back {false:.1%}, a z-test in each slice {naive:.1%}")
    assert false <= tolerated(ALPHA, runs)
    assert naive > 0.5


def test_harm_in_one_of_eight_is_found_and_named() -> None:
    rng = np.random.default_rng(72)
    gates = [ramp(rng, 4.0)[0] for _ in range(20)]
    print(f"\nfour times the failures on one line of eight: {gates.count('failed @ line=3')} of 20 ramps name it")
    assert gates.count("failed @ line=3") >= 18
