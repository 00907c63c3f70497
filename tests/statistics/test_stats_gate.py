"""Simulated rollouts: false rollbacks stay within alpha when requests of a unit go together; harm is found.

Every test that could pass by never firing also shows that the naive count fails and that real harm is found.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from tenure.stats import gate, mismatch

RAMP = np.array([0.01, 0.05, 0.10, 0.25, 0.50])
REQUESTS = 100_000
EPOCHS = 100
ALPHA = 0.05
LOOKS = 120

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RUNS = [pytest.param(400, id="short"), pytest.param(2000, id="full", marks=pytest.mark.slow)]
FEW_RUNS = [pytest.param(100, id="short"), pytest.param(500, id="full", marks=pytest.mark.slow)]


def tolerated(rate: float, runs: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


Hits = npt.NDArray[np.bool_]
Events = tuple[Floats, Hits, Floats]
"""Of each counted bad outcome: chance of the candidate, whether it was the candidate's, time in [0, 1)."""


class Ramp:
    """The bad requests of one simulated rollout, in order of time.

    They are drawn at the rate of a candidate that is `harm` times as bad; `thin` takes away what the stable
    version would have got right.
    """

    def __init__(self, rng: np.random.Generator, world: str, harm: float = 1.0) -> None:
        units = {"frail": 2000, "alike": 2000, "few": 200, "many": 20_000, "lines": 4}[world]
        self.shares = np.full(5, 0.25) if world == "lines" else RAMP
        activity = rng.lognormal(0.0, 1.5, units)
        rate = np.full(units, 0.02)
        if world not in ("alike", "lines"):
            rate = np.where(rng.random(units) < 0.05, 0.3, 0.002)
        expected = REQUESTS * activity / activity.sum() * np.minimum(rate * harm, 1.0)
        self.rng, self.harm = rng, harm
        self.unit = np.repeat(np.arange(units), rng.poisson(expected))
        self.time = np.sort(rng.random(len(self.unit)))
        rng.shuffle(self.unit)
        self.draw = rng.random(units)

    @property
    def step(self) -> Ints:
        return (self.time * 5).astype(np.int64)

    def sticky(self) -> Hits:
        """Say which bad requests were the candidate's when each unit is drawn once."""
        return np.asarray(self.draw[self.unit] < self.shares[self.step])

    def thin(self, hit: Hits) -> tuple[Ints, Hits]:
        """Return which bad requests remain: all of the candidate's, one in `harm` of the others; and whose."""
        kept = np.flatnonzero(hit | (self.rng.random(len(hit)) < 1.0 / self.harm))
        return kept, hit[kept]

    def naive(self) -> Events:
        kept, hit = self.thin(self.sticky())
        return self.shares[self.step[kept]], hit, self.time[kept]

    def once(self) -> Events:
        kept, hit = self.thin(self.sticky())
        _, first = np.unique(self.unit[kept], return_index=True)
        return self.shares[self.step[kept][first]], hit[first], self.time[kept][first]

    def per_step(self) -> Events:
        kept, hit = self.thin(self.sticky())
        key, first = np.unique(self.unit[kept] * 5 + self.step[kept], return_index=True)
        unit, step = key // 5, key % 5
        again = np.r_[False, unit[1:] == unit[:-1]]
        before = np.where(again, self.shares[np.r_[0, step[:-1]]], 0.0)
        secret = self.draw[unit] >= before
        rho = np.array(
            [
                gate.conditional_share(now, last if seen else None)
                for now, last, seen in zip(self.shares[step], before, again, strict=True)
            ]
        )
        return rho[secret], hit[first][secret], self.time[kept][first][secret]

    def per_epoch(self) -> Events:
        cell = self.unit * EPOCHS + (self.time * EPOCHS).astype(np.int64)
        known, which = np.unique(cell, return_inverse=True)
        kept, hit = self.thin(self.rng.random(len(known))[which] < self.shares[self.step])
        _, first = np.unique(cell[kept], return_index=True)
        return self.shares[self.step[kept][first]], hit[first], self.time[kept][first]


def worst(events: Events) -> float:
    """Return the largest log e-value over all looks, by the gate's own arithmetic on counts."""
    rho, hit, time = events
    order = np.argsort(time)
    classes, which = np.unique(np.round(rho[order], 9), return_inverse=True)
    if not len(classes):
        return 0.0
    member = which[:, None] == np.arange(len(classes))
    ends = np.unique(np.linspace(0, len(rho), LOOKS).astype(int))[1:] - 1
    x1 = (member & hit[order][:, None]).cumsum(axis=0)[ends].astype(float)
    both = member.cumsum(axis=0)[ends].astype(float)
    return float(gate._log_e(classes, x1, both - x1, gate.HARM, 1.0).max())


def test_the_vectorised_look_is_the_gate() -> None:
    rho, x1, x0 = np.array([0.05, 0.25]), np.array([[2.0, 9.0]]), np.array([[10.0, 6.0]])
    counts = [gate.Cell(0.05, 2, 10), gate.Cell(0.25, 9, 6)]
    assert gate._log_e(rho, x1, x0, gate.HARM, 1.0)[0] == pytest.approx(gate.harm_log_e(counts))


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("world", ["frail", "alike", "few", "many", "lines"])
def test_false_rollbacks_stay_within_alpha(world: str, runs: int) -> None:
    runs = runs // 4 if world == "many" else runs
    rng = np.random.default_rng(11)
    limit = -math.log(ALPHA)
    modes = ("naive", "once", "per_step", "per_epoch")
    hits = dict.fromkeys(modes, 0)
    for _ in range(runs):
        ramp = Ramp(rng, world)
        for mode in modes:
            hits[mode] += worst(getattr(ramp, mode)()) >= limit
    rates = {mode: hits[mode] / runs for mode in modes}
    print(f"\nfalse rollbacks, {world}, {runs} runs:", {m: f"{r:.1%}" for m, r in rates.items()})
    assert rates.pop("naive") > 0.10  # counting requests is wrong under sticky routing
    assert all(rate <= tolerated(ALPHA, runs) for rate in rates.values())


@pytest.mark.parametrize("runs", FEW_RUNS)
def test_a_fivefold_error_rate_is_found(runs: int) -> None:
    rng = np.random.default_rng(12)
    found = dict.fromkeys(("once", "per_step", "per_epoch"), 0)
    for _ in range(runs):
        ramp = Ramp(rng, "frail", harm=5.0)
        for mode in found:
            found[mode] += worst(getattr(ramp, mode)()) >= -math.log(ALPHA)
    print(f"\nx5 found, {runs} runs:", {m: f"{n / runs:.0%}" for m, n in found.items()})
    assert all(n / runs >= 0.95 for n in found.values())


@pytest.mark.parametrize("runs", RUNS)
def test_a_candidate_that_only_delays_is_not_rolled_back(runs: int) -> None:
    """The null of once-per-step counting when bad outcomes come later in the candidate: argued, so simulated."""
    rng = np.random.default_rng(13)
    hits = 0
    for _ in range(runs):
        ramp = Ramp(rng, "frail")
        late = ramp.draw[ramp.unit] < ramp.shares[ramp.step]
        time = ramp.time + late * rng.exponential(0.1, len(late))
        order = np.argsort(time)
        kept = order[time[order] < 1.0]
        ramp.unit, ramp.time = ramp.unit[kept], time[kept]
        hits += worst(ramp.per_step()) >= -math.log(ALPHA)
    print(f"\nfalse rollbacks of a delaying candidate, {runs} runs: {hits / runs:.1%}")
    assert hits / runs <= tolerated(ALPHA, runs)


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(("margin", "share"), [(1.0, 0.05), (0.25, 0.5)])
def test_false_advances_stay_within_delta(margin: float, share: float, runs: int) -> None:
    """At a true ratio of 1 + margin, 3,000 bad outcomes looked at throughout."""
    rng = np.random.default_rng(14)
    top = 1.0 + margin
    theta = share * top / (share * top + 1.0 - share)
    ends = np.arange(30, 3001, 30)
    x1 = (rng.random((runs, 3000)) < theta).cumsum(axis=1)[:, ends - 1].astype(float)
    ratios = np.geomspace(0.05, top / 1.02, 64)
    rho = np.array([share])
    log_e = gate._log_e(rho, x1[..., None], (ends - x1)[..., None], ratios, top)
    one = [gate.Cell(share, int(x1[0, -1]), int(3000 - x1[0, -1]))]
    assert log_e[0, -1] == pytest.approx(gate.shown_log_e(one, margin))
    rate = float((log_e.max(axis=1) >= -math.log(0.05)).mean())
    print(f"\nfalse advances at margin {margin}, share {share}, {runs} runs: {rate:.1%}")
    assert rate <= tolerated(0.05, runs)


@pytest.mark.parametrize("runs", RUNS)
def test_mismatch_counts_units_not_requests(runs: int) -> None:
    rng = np.random.default_rng(15)
    share, limit = 0.1, math.log(1000)
    by_unit = by_request = lost = 0
    ends = np.linspace(0, 20_000, 41).astype(int)[1:]
    for _ in range(runs):
        activity = rng.lognormal(0.0, 1.5, 2000)
        unit = rng.choice(2000, 20_000, p=activity / activity.sum())
        hit = rng.random(2000)[unit] < share
        _, first = np.unique(unit, return_index=True)
        fresh = np.zeros(20_000, bool)
        fresh[first] = True
        dropped = fresh & ~(hit & (rng.random(20_000) < 0.5))  # half of the candidate's logs are lost
        by_request += _largest(hit, np.ones(20_000, bool), ends, share) >= limit
        by_unit += _largest(hit, fresh, ends, share) >= limit
        lost += _largest(hit, dropped, ends, share) >= limit
    print(
        f"\nfalse holds, {runs} runs: requests {by_request / runs:.1%}, units {by_unit / runs:.2%};"
        f" lost logs found {lost / runs:.1%}"
    )
    assert by_request / runs > 0.10
    assert by_unit / runs <= tolerated(0.001, runs)
    assert lost / runs >= 0.95


def _largest(hit: Hits, used: Hits, ends: Ints, share: float) -> float:
    x1 = (hit & used).cumsum()[ends - 1]
    n = used.cumsum()[ends - 1]
    return max(
        mismatch.mismatch_log_e((share, 1 - share), (int(a), int(b - a))) for a, b in zip(x1, n, strict=True)
    )
