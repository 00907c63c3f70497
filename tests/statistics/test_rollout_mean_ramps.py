"""Mean gates on whole ramps of sticky units with heavy activity: false rollbacks stay rare, harm is found.

The worlds are those of the count gates, in test_stats_gate.py; the values are lognormal and capped at their
99.9 % quantile. Everything after the draw is production code: sums, judge and family. Where few units carry most
requests the gate never arms: it is safe there, finds nothing, and says so; hence also a world of more even units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from rollout_rig import rollout
from tenure.deploy.rollout.counts import Moments
from tenure.deploy.rollout.judge import FAMILY, judge
from tenure.deploy.rollout.plan import Plan
from tenure.deploy.rollout.values import STEPS
from tenure.deploy.router import Assign
from tenure.scope.project import GateSpec, Step
from tenure.stats.means import Sums, clustered_mean, mean_of_sums, row_sums
from tenure.types import Outcome

ALPHA = 0.05
SPREAD = 0.9
CAP = math.exp(3.0902 * SPREAD)  # 99.9 % quantile of the values
MEAN = math.exp(SPREAD**2 / 2.0)
RAMP = (0.01, 0.05, 0.10, 0.25, 0.50)
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GATE = GateSpec(mean="number", harm="up", cap=CAP, margin=0.1 * MEAN, alpha=ALPHA)


def tolerated(rate: float, runs: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


@dataclass
class World:
    """How units come, and how they are drawn.

    `level` is the standard deviation of the units' own levels, `trend` how much the values grow over the ramp.
    """

    units: int
    assign: Assign = "unit"
    activity: float = 1.5
    level: float = 0.5
    trend: float = 0.5
    requests: int = 100_000
    looks: int = 8  # in each step


WORLDS = {
    "2,000 units": World(2000),
    "2,000 even units": World(2000, activity=0.5),
    "200 units": World(200),
    "20,000 units": World(20_000),
    "by request": World(2000, assign="request"),
    "4 lines by epoch": World(4, assign="unit_epoch", activity=0.2),
}
EPOCHS = 400
FALSE = [
    pytest.param("2,000 units", 20_000, 4, 40, id="short-2,000"),
    pytest.param("2,000 even units", 20_000, 4, 60, id="short-even"),
    pytest.param("by request", 20_000, 8, 60, id="short-request"),
    pytest.param("4 lines by epoch", 20_000, 8, 60, id="short-lines"),
    *(
        pytest.param(name, 100_000, 8, 2000, id=name, marks=pytest.mark.slow)
        for name in WORLDS
        if "20,000" not in name
    ),
    pytest.param("20,000 units", 100_000, 8, 300, id="20,000 units", marks=pytest.mark.slow),
]
FOUND = [
    pytest.param("by request", 1.1, 25, id="short"),
    pytest.param("by request", 1.1, 400, id="request", marks=pytest.mark.slow),
    pytest.param("2,000 even units", 1.5, 20, id="short-even"),
    pytest.param("2,000 even units", 1.2, 400, id="2,000 even units", marks=pytest.mark.slow),
    pytest.param("4 lines by epoch", 1.5, 400, id="4 lines by epoch", marks=pytest.mark.slow),
]


class Run:
    """One simulated rollout through the production judge; also what a z-test over requests would have said."""

    def __init__(self, rng: np.random.Generator, world: World, harm: float) -> None:
        self.rng, self.world, self.harm = rng, world, harm
        ramp = (0.25, 0.5) if world.units < 10 else RAMP
        steps = (*(Step(share=s) for s in ramp), Step(share=1.0))
        self.plan = Plan(steps=steps, gates=(GATE,), assign=world.assign)
        self.activity = rng.lognormal(0.0, world.activity, world.units)
        self.level = rng.normal(0.0, world.level, world.units)
        self.draw = rng.random(world.units)
        self.epoch = rng.random((world.units, EPOCHS))
        self.naive = False
        self.reached: dict[str, float] = {}
        self.moments: dict[tuple[int, int], Sums] = {}

    def ends(self) -> bool:
        """Say whether it was rolled back."""
        looks = self.world.looks * (len(self.plan.steps) - 1)
        for step in range(len(self.plan.steps) - 1):
            cells = np.zeros((2, 2, self.world.units * EPOCHS if self.world.units < 10 else self.world.units))
            pooled = [np.zeros(0), np.zeros(0)]
            for look in range(step * self.world.looks, (step + 1) * self.world.looks):
                at = look / looks
                turn, hit, value = self.batch(step, at, at + 1.0 / looks)
                self.gather(step, turn, hit, value, cells)
                pooled = [np.concatenate([pooled[arm], value[hit == bool(arm)]]) for arm in (0, 1)]
                self.naive = self.naive or z_test(pooled[1], pooled[0])
                if self.judged(step):
                    return True
        return False

    def batch(self, step: int, start: float, end: float) -> tuple[Ints, npt.NDArray[np.bool_], Floats]:
        """Return what a stretch of time brings: (unit, epoch) as one number, whose, value."""
        world, share = self.world, self.plan.share(step)
        n = int(world.requests * (end - start))
        at = self.rng.uniform(start, end, n)
        epoch = (at * EPOCHS).astype(np.int64)
        unit = self.rng.choice(world.units, n, p=self.activity / self.activity.sum())
        if world.assign == "request":
            hit = self.rng.random(n) < share
        elif world.assign == "unit":
            hit = self.draw[unit] < share
        else:
            hit = self.epoch[unit, epoch] < share
        value = self.rng.lognormal(self.level[unit], SPREAD) * (1.0 + world.trend * at)
        return unit + world.units * epoch, hit, np.minimum(value * np.where(hit, self.harm, 1.0), CAP)

    def gather(
        self, step: int, turn: Ints, hit: npt.NDArray[np.bool_], value: Floats, cells: Floats
    ) -> None:  # fmt: skip
        steps = np.rint(value / CAP * STEPS).astype(np.int64)
        for arm in (0, 1):
            mine = hit == bool(arm)
            if self.world.assign == "request":
                self.moments[step, arm] = self.moments.get((step, arm), Sums()) + row_sums(steps[mine])
                continue
            unit = turn[mine] % cells.shape[2]
            cells[arm, 0] += np.bincount(unit, minlength=cells.shape[2])
            cells[arm, 1] += np.bincount(unit, weights=steps[mine], minlength=cells.shape[2])
            self.moments[step, arm] = of_units(cells[arm][:, cells[arm, 0] > 0])

    def judged(self, step: int) -> bool:
        found = [Moments(step=s, gate=GATE.name, arm=a, sums=sums) for (s, a), sums in self.moments.items()]
        told = judge(rollout(self.plan, step=step), [], self.reached, moments=found, explain=False)
        for v in told:
            self.reached[v.gate] = max(self.reached.get(v.gate, 0.0), v.numbers.get("max_log_e", 0.0))
        return any(v.gate == FAMILY and v.outcome is Outcome.FAIL for v in told)


def of_units(rows: Floats) -> Sums:
    """Return the sums of units, (2, units) of n and y, in whole numbers."""
    n, y = (np.array(row.astype(np.int64).tolist(), object) for row in rows)
    nn, ny, yy = n * n, n * y, y * y
    powers = (n, y, nn, ny, yy, nn * nn, nn * ny, ny * ny, ny * yy, yy * yy)
    return Sums(rows.shape[1], *(int(power.sum()) for power in powers)) if rows.shape[1] else Sums()


def z_test(one: Floats, two: Floats) -> bool:
    """Say whether the z-test of all requests of a step, at every look, calls the candidate worse."""
    if min(len(one), len(two)) < 100:
        return False
    se = math.sqrt(one.var() / len(one) + two.var() / len(two))
    return bool((one.mean() - two.mean()) / se > 1.645)


@pytest.mark.parametrize(("name", "requests", "looks", "runs"), FALSE)
def test_false_rollbacks_of_a_mean_stay_within_alpha(name: str, requests: int, looks: int, runs: int) -> None:
    world = replace(WORLDS[name], requests=requests, looks=looks)
    rng = np.random.default_rng(61)
    false = naive = 0
    for _ in range(runs):
        run = Run(rng, world, 1.0)
        false += run.ends()
        naive += run.naive
    print(f"\n{name}, {runs} ramps: rolled back {false / runs:.1%}, z-test over requests {naive / runs:.1%}")
    assert false / runs <= tolerated(ALPHA, runs)
    assert naive / runs > 0.10  # the same ramps have teeth


@pytest.mark.parametrize(("name", "harm", "runs"), FOUND)
def test_a_mean_that_grows_is_found(name: str, harm: float, runs: int) -> None:
    rng = np.random.default_rng(62)
    found = sum(Run(rng, WORLDS[name], harm).ends() for _ in range(runs)) / runs
    print(f"\n{name}, {runs} ramps, {harm} times the mean: found {found:.1%}")
    assert found >= 0.9


def test_the_simulated_sums_are_the_plain_formula() -> None:
    rng = np.random.default_rng(63)
    rows = np.stack([rng.integers(1, 50, 200), rng.integers(0, 10**7, 200)]).astype(float)
    exact, plain = mean_of_sums(of_units(rows)), clustered_mean(*rows)
    assert exact is not None
    assert plain is not None
    assert exact.variance == pytest.approx(plain.variance)
    assert exact.effective == pytest.approx(plain.effective)
