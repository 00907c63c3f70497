"""Means watched at every look, with unequal units: the e-value keeps its level, a plain z-test does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tenure.stats import means

RUNS = [pytest.param(200, id="short"), pytest.param(1500, id="full", marks=pytest.mark.slow)]


def tolerated(rate: float, runs: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


def looks(rng: np.random.Generator, shift: float) -> list[tuple[float, float]]:
    """Return (difference, standard error) at 20 looks of two arms of 2,000 unequal units, values capped."""
    cap = math.exp(2.93)  # the 99.9 % quantile of the values
    found = []
    for arm in range(2):
        activity = rng.lognormal(0.0, 0.7, 2000)
        level = rng.normal(0.0, 0.3, 2000)
        rows = np.zeros(2000)
        sums = np.zeros(2000)
        path = []
        for _ in range(20):
            unit = rng.choice(2000, 2000, p=activity / activity.sum())
            value = np.minimum(rng.lognormal(level[unit], 0.9), cap) + shift * arm
            rows += np.bincount(unit, minlength=2000)
            sums += np.bincount(unit, weights=value, minlength=2000)
            path.append(means.clustered_mean(rows[rows > 0], sums[rows > 0]))
        found.append(path)
    pairs = zip(found[1], found[0], strict=True)
    return [means.difference(a, b) for a, b in pairs if a and b and a.armed and b.armed]


@pytest.mark.parametrize("runs", RUNS)
def test_means_keep_their_level(runs: int) -> None:
    rng = np.random.default_rng(31)
    ours = naive = covered = waited = 0
    for _ in range(runs):
        path = looks(rng, 0.0)
        waited += not path
        ours += any(means.two_sided_log_e(d / se, (0.15 / se) ** 2) >= math.log(20) for d, se in path)
        naive += any(abs(d / se) > 1.96 for d, se in path)
        covered += all(low <= 0.0 <= high for low, high in (means.band(d, se, 0.15, 0.05) for d, se in path))
    print(
        f"\nmeans, {runs} runs: false {ours / runs:.1%}, z-test at every look {naive / runs:.1%},"
        f" band holds {covered / runs:.1%}, never armed {waited / runs:.1%}"
    )
    assert ours / runs <= tolerated(0.05, runs)
    assert naive / runs > 0.10
    assert covered == runs - ours
    assert waited <= 0.1 * runs


def test_a_shifted_mean_is_found() -> None:
    rng = np.random.default_rng(32)
    found = 0
    for _ in range(60):
        path = looks(rng, 0.15)
        found += any(means.one_sided_log_e(d / se, (0.15 / se) ** 2) >= math.log(20) for d, se in path)
    print(f"\na shift of 0.15 (a tenth of the mean) is found in {found} of 60 runs")
    assert found >= 57
