"""Errors that reader and model share: hidden from single readings, found where agreements are read again."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import bdtr

from tenure.deploy.automation import lineage, rereads
from tenure.deploy.automation.items import Label
from tenure.deploy.automation.rereads import Reread, Rereads

BOUND, SHARED, DELTA = 0.015, 0.003, 0.05
RUNS = [pytest.param(150, id="short"), pytest.param(1000, id="full", marks=pytest.mark.slow)]


def labels(rng: np.random.Generator, n: int, *, found: float, hidden: float, share: float) -> list[Label]:
    """Return labels where the model errs visibly and, among agreements, together with the reader."""
    out = []
    for i in range(n):
        if rng.random() < found:
            out.append(Label(i, 0.5, 1.0, False))
        elif rng.random() < share:
            wrong = bool(rng.random() < hidden)
            out.append(Label(i, 0.5, float(wrong), False, reread=Reread(wrong)))
        else:
            out.append(Label(i, 0.5, 0.0, True))
    return out


def start(plan: Rereads | None) -> lineage.Counts:
    return lineage.start([0.0], since=0, starts=(0,), again=plan)


def test_shared_errors_are_claimed_away_without_second_readings_and_not_with_them() -> None:
    """The model errs in 2 %; the reader shares half of it; the bound is 1.5 %, of which 0.3 % may be shared."""
    rng = np.random.default_rng(91)
    plan, one, both = Rereads(SHARED, 0.5), 0, 0
    for _ in range(20):
        found = labels(rng, 6000, found=0.005, hidden=0.01, share=0.5)
        single = [Label(x.number, x.score, 0.0 if x.reread else x.loss, True) for x in found]
        one += bool(lineage.valid(lineage.advance(start(None), [0.0], BOUND, single), DELTA))
        both += bool(lineage.valid(lineage.advance(start(plan), [0.0], BOUND, found), DELTA))
    print(f"\nfalse of 20: against one reader {one}, with agreements read again {both}")
    assert one == 20
    assert both <= 2


@pytest.mark.parametrize("runs", RUNS)
def test_agreements_at_their_bound_are_rarely_passed(runs: int) -> None:
    """P(wrong | agreed) is the bound; a look after each of 4,000 agreements read again; half of delta."""
    rng = np.random.default_rng(92)
    false = naive = 0
    for _ in range(runs):
        wrong = rng.random(4000) < SHARED
        found = [(i, 0.5, Reread(bool(w))) for i, w in enumerate(wrong)]
        old = rereads.advance(rereads.start(Rereads(SHARED, 1.0), 1), [0.0], found)
        false += old.log_e[0] >= -math.log(DELTA / 2)
        naive += bool((bdtr(wrong.cumsum(), np.arange(1, 4001), SHARED) <= DELTA / 2).any())
    level = DELTA / 2
    print(f"\npassed at the bound, {runs} runs: {false / runs:.1%}; fixed-size test repeated {naive / runs:.1%}")
    assert false / runs <= level + 3 * math.sqrt(level * (1 - level) / runs)
    assert naive / runs > level + 3 * math.sqrt(level * (1 - level) / runs)


def test_the_price_without_a_shared_error() -> None:
    rng = np.random.default_rng(93)
    counts, read = start(Rereads(SHARED, 1.0)), 0
    while not lineage.valid(counts, DELTA):
        found = labels(rng, 50, found=0.002, hidden=0.0, share=1.0)
        counts = lineage.advance(counts, [0.0], BOUND, found)
        read = counts.rereads.n[0] if counts.rereads else 0
        assert read < 3000
    assert 1350 < read < 1500
    few = labels(rng, 2000, found=0.0, hidden=0.0, share=0.05)
    counts = lineage.advance(start(Rereads(SHARED, 0.05)), [0.0], BOUND, few)
    told = lineage.note(counts, bound=BOUND, delta=DELTA, side="*", wanted=10)
    assert "more agreements read again" in told
