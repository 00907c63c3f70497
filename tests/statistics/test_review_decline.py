"""The false-alarm rate of the test whether a reader has fallen, looked at after every answer, and its power."""

from __future__ import annotations

import numpy as np
import pytest

from tenure.stats.decline import decline
from tenure.stats.interval import clopper_pearson


def alarms(rate: float, *, runs: int, answers: int, alpha: float) -> int:
    rng = np.random.default_rng(int(rate * 1000))
    return sum(decline(list(rng.random(answers) > rate), alpha=alpha).fallen_at is not None for _ in range(runs))


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_false_alarms_short(rate: float) -> None:
    assert clopper_pearson(alarms(rate, runs=60, answers=300, alpha=0.05), 60)[0] <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rate", [0.005, 0.02, 0.05, 0.1, 0.3, 0.5])
def test_false_alarms(rate: float) -> None:
    assert clopper_pearson(alarms(rate, runs=1500, answers=600, alpha=0.05), 1500)[0] <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_power() -> None:
    rng = np.random.default_rng(7)
    found = [decline([*(rng.random(250) > 0.05), *(rng.random(400) > 0.3)]).fallen_at for _ in range(200)]
    seen = [at for at in found if at is not None and at > 250]
    assert len(seen) >= 190
    assert np.median(seen) - 250 < 100
