"""Step, ramp or too early: the verdicts and their intervals."""

from __future__ import annotations

import numpy as np

from tenure.stats import shape


def noise(seed: int, panes: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=panes)


def test_a_clear_step_is_sudden_and_its_interval_holds_the_onset() -> None:
    found = shape.judge(noise(1, 60) + 6.0 * (np.arange(60) >= 50))
    assert found.verdict == "sudden"
    assert found.onset == 50
    assert found.earliest is not None
    assert found.latest is not None
    assert found.earliest <= 50 <= found.latest
    assert found.after - found.before > 4


def test_a_clear_ramp_is_gradual_and_its_start_is_in_the_interval() -> None:
    rise = np.clip((np.arange(90) - 45) / 30, 0, 1)
    found = shape.judge(noise(2, 90) * 0.5 + 5.0 * rise)
    assert found.verdict == "gradual"
    assert found.earliest is not None
    assert found.latest is not None
    assert found.earliest <= 46 <= found.latest


def test_nothing_is_too_early_to_tell() -> None:
    assert shape.judge(noise(3, 60)).verdict == "too early to tell"


def test_few_panes_are_too_early_to_tell() -> None:
    found = shape.judge([1.0, 2.0, 9.0])
    assert (found.verdict, found.onset) == ("too early to tell", None)


def test_a_constant_series_does_not_break() -> None:
    assert shape.judge(np.ones(40)).verdict == "too early to tell"


def test_dependence_makes_the_verdict_more_careful() -> None:
    series = noise(5, 60) + 4.0 * (np.arange(60) >= 50)
    assert shape.judge(series, deff=6.0).gap < shape.judge(series).gap
