"""A rate against a constant, looked at again and again: the promise holds, and a test of one look does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from tenure.stats.constant import above_log_e, below_log_e

ALPHA, CONSTANT, LOOKS, EACH = 0.05, 0.02, 40, 100
RUNS = [pytest.param(400, id="short"), pytest.param(2000, id="full", marks=pytest.mark.slow)]


def tolerated(runs: int) -> float:
    return ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def paths(rate: float, runs: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).binomial(EACH, rate, (runs, LOOKS)).cumsum(axis=1)


def ever(found: np.ndarray, said: object) -> float:
    assert callable(said)
    hits = [any(said(int(x), (i + 1) * EACH) for i, x in enumerate(path)) for path in found]
    return sum(hits) / len(hits)


def worse(x: int, n: int) -> bool:
    return above_log_e(x, n, CONSTANT) >= -math.log(ALPHA)


def better(x: int, n: int) -> bool:
    return below_log_e(x, n, CONSTANT) >= -math.log(ALPHA)


def naive(x: int, n: int) -> bool:
    return bool(binom.sf(x - 1, n, CONSTANT) <= ALPHA)


@pytest.mark.parametrize("runs", RUNS)
def test_exactly_the_constant_is_seldom_called_worse(runs: int) -> None:
    found = paths(CONSTANT, runs, 31)
    false, other = ever(found, worse), ever(found[:400], naive)
    print(f"\n{runs} runs at the constant: e-process {false:.1%}, binomial test at every look {other:.1%}")
    assert false <= tolerated(runs)
    assert ever(found, better) <= tolerated(runs)
    assert other > tolerated(runs)


@pytest.mark.parametrize("runs", RUNS)
def test_twice_the_constant_is_found_and_half_of_it_shown(runs: int) -> None:
    caught, shown = ever(paths(2 * CONSTANT, runs, 32), worse), ever(paths(CONSTANT / 2, runs, 33), better)
    print(f"\n{runs} runs: twice the constant caught {caught:.1%}, half of it shown {shown:.1%}")
    assert caught >= 0.95
    assert shown >= 0.9
