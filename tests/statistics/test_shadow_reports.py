"""Shadow reports keep their promises: one look, repeated looks, and bounds over re-read strata.

Each check also shows that the naive way fails in the same world, and that real evidence is found.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import gammaln, xlogy

from tenure.deploy.shadow import judges
from tenure.deploy.shadow.cases import Case, Said
from tenure.deploy.shadow.settings import MIN_PLANNED, Settings
from tenure.scope.project import SecondReader
from tenure.stats import agreement, interval, reread
from tenure.stats.reread import Stratum

RISK = 0.05
RUNS = [pytest.param(400, id="short"), pytest.param(4000, id="full", marks=pytest.mark.slow)]
Ints = npt.NDArray[np.int64]


def tolerated(rate: float, runs: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


def exact_level(n: int, margin: float, discordant: float) -> float:
    """The chance that Tango's test shows non-inferiority at a true difference of `margin`: no simulation."""
    model, person = (discordant + margin) / 2, (discordant - margin) / 2
    top = int(n * discordant + 8 * math.sqrt(n * discordant) + 8)
    total = 0.0
    for b in range(top + 1):
        for c in range(top + 1):
            if agreement.tango(b, c, n, margin).p < RISK:
                ways = gammaln(n + 1) - gammaln(b + 1) - gammaln(c + 1) - gammaln(n - b - c + 1)
                chance = ways + xlogy(b, model) + xlogy(c, person) + xlogy(n - b - c, 1 - discordant)
                total += math.exp(chance)
    return total


@pytest.mark.parametrize(
    ("n", "margin", "discordant"),
    [(300, 0.005, 0.01), (300, 0.01, 0.01), (300, 0.005, 0.05), (300, 0.02, 0.05), (300, 0.05, 0.05),
     (1000, 0.005, 0.01), (1000, 0.01, 0.01), (1000, 0.005, 0.05), (1000, 0.02, 0.05), (1000, 0.05, 0.05)],
)  # fmt: skip
def test_the_planned_look_keeps_its_level(n: int, margin: float, discordant: float) -> None:
    assert exact_level(n, margin, discordant) <= 0.054
    assert n >= MIN_PLANNED


def ends(rng: np.random.Generator, n: int, *, difference: float, discordant: float) -> Ints:
    chances = [(discordant + difference) / 2, (discordant - difference) / 2]
    return rng.choice([1, -1, 0], n, p=[*chances, 1 - discordant]).astype(np.int64)


def peeks(x: Ints, margin: float) -> bool:
    """Tango's test at every 50th item, as somebody does who waits for the good day."""
    at = np.arange(MIN_PLANNED, len(x) + 1, 50)
    b, c = np.cumsum(x == 1)[at - 1], np.cumsum(x == -1)[at - 1]
    return any(agreement.tango(int(i), int(j), int(n), margin).p < RISK for i, j, n in zip(b, c, at, strict=True))


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(("margin", "discordant"), [(0.01, 0.01), (0.02, 0.05), (0.05, 0.15)])
def test_looking_again_and_again_shows_nothing_false(margin: float, discordant: float, runs: int) -> None:
    rng = np.random.default_rng(7)
    worlds = [ends(rng, 4000, difference=margin, discordant=discordant) for _ in range(runs)]
    goal = -math.log(RISK)
    bets = np.mean([agreement.betting_path(x, np.ones(len(x)), margin) >= goal for x in worlds])
    assert bets <= tolerated(RISK, runs)
    assert np.mean([peeks(x, margin) for x in worlds]) > 0.10


def test_looking_again_and_again_finds_what_is_true() -> None:
    rng = np.random.default_rng(8)
    worlds = [ends(rng, 4000, difference=0.0, discordant=0.05) for _ in range(200)]
    shown = [agreement.betting_path(x, np.ones(len(x)), 0.02) >= -math.log(RISK) for x in worlds]
    assert np.mean(shown) > 0.95


def reported(x: Ints, rng: np.random.Generator, chance: float) -> bool:
    """The report's own bet when a disagreement is read again with `chance` only."""
    again = rng.random(len(x)) < chance
    truth = {1: "person", -1: "model", 0: "neither"}
    cases = [
        Case(
            item=f"{i}", number=i, unit="", model=Said("model" if d else "same"),
            person=Said("person" if d else "same"), truth=Said(truth[d]) if d and drawn else None,
            differed=d != 0,
        )
        for i, (d, drawn) in enumerate(zip(x.tolist(), again.tolist(), strict=True))
    ]  # fmt: skip
    settings = Settings(margin=0.03, second=SecondReader(disagreements=chance))
    return judges.always(cases, lambda a, b: a.value == b.value, settings).outcome == "pass"


@pytest.mark.parametrize(
    "runs", [pytest.param(150, id="short"), pytest.param(1500, id="full", marks=pytest.mark.slow)]
)
def test_disagreements_that_are_read_again_by_chance_are_weighted(runs: int) -> None:
    rng = np.random.default_rng(9)
    false = [reported(ends(rng, 1500, difference=0.03, discordant=0.1), rng, 0.5) for _ in range(runs)]
    true = [reported(ends(rng, 1500, difference=-0.03, discordant=0.05), rng, 0.5) for _ in range(30)]
    assert np.mean(false) <= tolerated(RISK, runs)
    assert np.mean(true) > 0.9


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(("differ", "wrong", "both"), [(0.05, 0.5, 0.005), (0.02, 0.4, 0.0), (0.15, 0.6, 0.02)])
def test_bounds_over_strata_hold(differ: float, wrong: float, both: float, runs: int) -> None:
    rng = np.random.default_rng(10)
    truth = differ * wrong + (1 - differ) * both
    over = under = forgot = 0
    for _ in range(runs):
        apart = int(rng.binomial(1000, differ))
        bad, read = int(rng.binomial(apart, wrong)), int(rng.binomial(1000 - apart, 0.05))
        strata = [Stratum(apart, apart, bad), Stratum(1000 - apart, read, int(rng.binomial(read, both)))]
        found = reread.rate(strata)
        if found.upper is not None and found.lower is not None:
            over, under = over + (found.upper < truth), under + (found.lower > truth)
        forgot += interval.upper(bad, 1000, 0.95) < truth  # as if agreements were right
    assert max(over, under) / runs <= tolerated(RISK, runs)
    assert both < 0.005 or forgot / runs > 0.10


def test_no_common_error_seen_still_leaves_a_bound() -> None:
    found = reread.rate([Stratum(0, 0, 0), Stratum(1000, 100, 0)])
    assert found.upper == pytest.approx(1 - RISK ** (1 / 100))
    assert reread.rate([Stratum(10, 10, 5), Stratum(90, 0, 0)]).upper is None
