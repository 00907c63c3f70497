"""The level of the paired comparison, by exact enumeration where possible."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import multinomial

from tenure.stats import agreement, champion


def level(n: int, discordance: float, margin: float, threshold: float) -> float:
    """Return the exact chance that Tango's test shows "not worse" when the difference is exactly the margin."""
    p_b, p_c = (discordance + margin) / 2, (discordance - margin) / 2
    top = int(n * discordance + 8 * math.sqrt(n * discordance) + 12)
    total = 0.0
    for b in range(min(top, n) + 1):
        c = np.arange(min(top, n - b) + 1)
        hit = [agreement.tango(b, int(x), n, margin).p < threshold for x in c]
        rows = np.stack([np.full_like(c, b), c, n - b - c], axis=1)
        mass = multinomial.pmf(rows, n, [p_b, max(p_c, 0.0), 1 - p_b - max(p_c, 0.0)])
        total += float(mass[hit].sum())
    return total


CELLS = [(300, 0.05, 0.02), (300, 0.05, 0.04), (300, 0.01, 0.005), (300, 0.01, 0.01), (1000, 0.05, 0.02)]
SLOW_CELLS = [(1000, 0.01, 0.005), (1000, 0.01, 0.01), (champion.MIN_PAIRS, 0.1, 0.03), (1000, 0.05, 0.04)]


@pytest.mark.parametrize(
    ("n", "discordance", "margin"), [*CELLS, *(pytest.param(*c, marks=pytest.mark.slow) for c in SLOW_CELLS)]
)
def test_the_paired_test_keeps_five_percent_at_the_margin(n: int, discordance: float, margin: float) -> None:
    rate = level(n, discordance, margin, 0.05)
    print(f"\nexact level of the paired test, n={n}, discordance {discordance}, margin {margin}: {rate:.2%}")
    assert rate <= 0.05


@pytest.mark.parametrize("cell", [(champion.MIN_PAIRS, 0.05, 0.02), (300, 0.02, 0.02)])
def test_twenty_candidates_in_a_row_on_one_set(cell: tuple[int, float, float]) -> None:
    """All are worse by exactly the margin; the union bound over the exact levels stays below 5 %."""
    spent = sum(level(*cell, champion.attempt_level(0.05, k)) for k in range(1, 21))
    naive = 1.0 - (1.0 - level(*cell, 0.05)) ** 20
    print(f"\n20 candidates at the margin, {cell}: promoted at most {spent:.1%}; at 5 % each: {naive:.0%}")
    assert spent <= 0.05
    assert naive > 0.10


def test_equal_models_are_shown_equal() -> None:
    rng = np.random.default_rng(41)
    counts = rng.multinomial(1000, [0.03, 0.03, 0.94], 300)
    shown = np.mean(
        [champion.compare(int(b), int(c), 1000, margin=0.03).verdict == "not worse" for b, c, _ in counts]
    )
    print(f"\nequal models, n=1000, margin 3 %: shown in {shown:.0%}")
    assert shown > 0.9


@pytest.mark.parametrize("runs", [pytest.param(400, id="short"), pytest.param(3000, marks=pytest.mark.slow)])
def test_bets_on_pairs_keep_their_level_at_every_look(runs: int) -> None:
    rng = np.random.default_rng(42)
    hits = 0
    for _ in range(runs):
        steps = rng.multinomial(40, [0.045, 0.025, 0.93], 50).cumsum(axis=0)
        hits += any(
            agreement.tango_betting(int(b), int(c), int(b + c + r), 0.02) >= math.log(20) for b, c, r in steps
        )
    print(f"\nbets on pairs at the margin, {runs} runs: {hits / runs:.1%}")
    assert hits / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_slices_are_called_worse_rarely() -> None:
    """Ten equal slices: the chance that any is called worse."""
    rng = np.random.default_rng(43)
    found = 0
    for _ in range(1000):
        b = rng.binomial(40, 0.5, 10)
        found += "worse" in champion.slices({str(i): (int(x), int(40 - x)) for i, x in enumerate(b)}).values()
    print(f"\nten equal slices, any called worse: {found / 1000:.1%}")
    assert found / 1000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize("runs", [pytest.param(300, id="short"), pytest.param(2000, marks=pytest.mark.slow)])
def test_priced_mistakes_are_compared_by_their_price(runs: int) -> None:
    """The challenger errs less often but dearer: its mean loss is worse by exactly the margin.

    Counting mistakes shows it "not worse" nearly always; bets on the differences of losses do not.
    """
    rng, n, margin = np.random.default_rng(44), 2000, 0.02
    counted = priced = power = 0
    for _ in range(runs):
        old = np.where(rng.random(n) < 0.10, 0.1, 0.0)  # mean 0.01
        new = np.where(rng.random(n) < 0.03, 1.0, 0.0)  # mean 0.03
        good = np.where(rng.random(n) < 0.05, 0.1, 0.0)
        b, c = int(((new > 0) & (old == 0)).sum()), int(((old > 0) & (new == 0)).sum())
        counted += champion.compare(b, c, n, margin=margin).verdict == "not worse"
        priced += champion.compare_losses(new - old, margin=margin).verdict == "not worse"
        power += champion.compare_losses(good - old, margin=margin).verdict == "not worse"
    print(f"\nworse by the margin, {runs} runs: by counts {counted / runs:.0%}, by losses {priced / runs:.1%}")
    print(f"better: shown in {power / runs:.0%}")
    assert priced / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert counted / runs > 0.9
    assert power / runs > 0.9
