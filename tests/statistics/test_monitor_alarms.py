"""The promise of drift alarms by simulation: at most H / A false alarms in H panes, with an estimated reference.

A method that takes the reference's shares for the truth ("plug-in") fails the same worlds, which shows that the
simulation has teeth; shifts are found within a few panes, which shows that the detector is not merely silent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.special import ndtr

from tenure.stats import detector
from tenure.stats.detector import Terms

CELLS, ROWS, THRESHOLD, HORIZON = 10, 100, 2_000.0, 200
BETS = 2 * (CELLS - 1)
EDGES = np.arange(1, CELLS) / CELLS


@dataclass(frozen=True)
class World:
    """Pane means follow an AR(1) of `memory`; `sd` is their part of the rows' standard deviation."""

    panes: int
    memory: float = 0.0
    sd: float = 0.0
    rows: int = ROWS

    def tails(self, rng: np.random.Generator, panes: int, shift: float = 0.0) -> np.ndarray:
        """Return (panes, bets) counts below and above each decile of a standard normal row."""
        level = np.zeros(panes)
        if self.sd:
            step = rng.normal(size=panes) * np.sqrt(1 - self.memory**2)
            level[0] = rng.normal()
            for i in range(1, panes):
                level[i] = self.memory * level[i - 1] + step[i]
        level = self.sd * level[:, None] + shift
        x = level + np.sqrt(1 - self.sd**2) * rng.normal(size=(panes, self.rows))
        cells = np.searchsorted(EDGES, ndtr(x), side="right")
        counts = (cells[:, :, None] == np.arange(CELLS)).sum(axis=1)
        below = np.cumsum(counts, axis=1)[:, :-1]
        return np.concatenate([below, self.rows - below], axis=1)


def first_alarm(hits: np.ndarray, rows: int, bets: detector.Bets) -> int | None:
    log_m = detector.start(hits.shape[1])
    n = np.full(hits.shape[1], rows)
    for i, k in enumerate(hits):
        log_m = detector.step(log_m, detector.log_e(k, n, bets.bound, bets.deff), n > 0)
        if detector.board(log_m, bets.armed) >= np.log(THRESHOLD):
            return i + 1
    return None


def fitted(hits: np.ndarray, rows: int, tolerance: float) -> detector.Bets:
    terms = Terms(THRESHOLD, detector.REFERENCE_RISK / BETS, BETS, 1e6, tolerance)
    return detector.fit(hits, np.full(hits.shape, rows), terms)


def plug_in(hits: np.ndarray, rows: int) -> detector.Bets:
    """Take the reference's shares for the truth, as drift tools do."""
    share = hits.sum(axis=0) / (rows * len(hits))
    ones = np.ones(BETS)
    return detector.Bets(share, ones, ones, share, ones > 0, ones, ones)


def as_if_independent(bets: detector.Bets, tolerance: float) -> detector.Bets:
    """Keep the upper bound but count every row for one, as if rows did not hang together."""
    risk = detector.REFERENCE_RISK / BETS
    bound = detector.clopper_pearson_upper(bets.share * bets.rows, bets.rows, risk) + tolerance
    return replace(bets, bound=bound, deff=np.ones(BETS), armed=np.ones(BETS, dtype=bool))


@dataclass(frozen=True)
class Rates:
    """Shares of runs with a false alarm, and the share of bets that were armed."""

    kept: float
    naive: float
    independent: float
    armed: float


def rates(world: World, *, runs: int, tolerance: float, seed: int) -> Rates:
    rng = np.random.default_rng(seed)
    alarms = np.zeros(3)
    armed = []
    for _ in range(runs):
        reference, live = world.tails(rng, world.panes), world.tails(rng, HORIZON)
        bets = fitted(reference, world.rows, tolerance)
        armed.append(bets.armed.mean())
        tried = (bets, plug_in(reference, world.rows), as_if_independent(bets, tolerance))
        alarms += [first_alarm(live, world.rows, b) is not None for b in tried]
    kept, naive, independent = (alarms / runs).tolist()
    return Rates(kept, naive, independent, float(np.mean(armed)))


def allowed(runs: int) -> float:
    q = HORIZON / THRESHOLD
    return float(q + 3 * np.sqrt(q * (1 - q) / runs))


@dataclass(frozen=True)
class Case:
    """A world, its tolerance, and the least that the faulty methods must do wrong (0 = not asked)."""

    world: World
    tolerance: float
    naive: float = 0.0
    independent: float = 0.0


CASES = {
    "iid, 2,000 rows": Case(World(20), 0.0, naive=0.3),
    "iid, 20,000 rows": Case(World(200), 0.0),
    "memory .8": Case(World(200, 0.8, 0.25), 0.0, naive=0.5, independent=0.5),
    "memory .8 with tolerance": Case(World(200, 0.8, 0.25), 0.03, naive=0.2, independent=0.2),
    "memory .5": Case(World(100, 0.5, 0.25), 0.02, naive=0.5, independent=0.2),
    "small panes": Case(World(60, rows=20), 0.02, naive=0.2),
}


def check(name: str, *, runs: int, seed: int) -> None:
    case = CASES[name]
    found = rates(case.world, runs=runs, tolerance=case.tolerance, seed=seed)
    print(f"{name}: allowed {HORIZON / THRESHOLD:.0%}, {found}")
    assert found.armed > 0.3
    assert found.kept <= allowed(runs)
    assert found.naive >= case.naive
    assert found.independent >= case.independent


@pytest.mark.parametrize("name", CASES)
def test_false_alarms_keep_the_promise(name: str) -> None:
    check(name, runs=40, seed=7)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CASES)
def test_false_alarms_keep_the_promise_in_full(name: str) -> None:
    check(name, runs=1_000, seed=11)


@pytest.mark.parametrize(("shift", "panes", "within"), [(0.3, 200, 40), (1.0, 200, 5), (3.0, 30, 2)])
def test_a_shift_is_found_within_a_few_panes(shift: float, panes: int, within: int) -> None:
    """Shifts are in standard deviations of a row; 3 is what halving the light does."""
    rng = np.random.default_rng(3)
    delays = []
    for _ in range(20):
        bets = fitted(World(panes).tails(rng, panes), ROWS, 0.02)
        delays.append(first_alarm(World(panes).tails(rng, HORIZON, shift=shift), ROWS, bets) or HORIZON)
    print(f"shift {shift}: median delay {np.median(delays):.0f} panes, worst {max(delays)}")
    assert np.median(delays) <= within
    assert sum(d < HORIZON for d in delays) >= 19
