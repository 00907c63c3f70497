"""The learnt latency: right about the line, above it as often as promised, and quick to learn anew."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tenure.deploy.serving.predict.pace import QUANTILE, WARM, Pace
from tenure.seeds import generator


def run(pace: Pace, *, per_item: float, fixed: float, batches: int, seed: int = 1) -> float:
    """Feed batches with a skewed noise of 10 %; return the share that took longer than `high_us` had said."""
    rng = generator(seed)
    late = 0
    for _ in range(batches):
        n = int(rng.integers(1, 65))
        spent = (fixed + per_item * n) * float(rng.lognormal(0.0, 0.1))
        late += spent > pace.high_us(n)
        pace.learn(n, spent)
    return late / batches


@pytest.mark.parametrize(("per_item", "fixed"), [(30.0, 500.0), (1000.0, 0.0), (1.0, 5000.0)])
def test_it_learns_the_cost_of_an_item_and_of_a_batch(per_item: float, fixed: float) -> None:
    pace = Pace(64)
    run(pace, per_item=per_item, fixed=fixed, batches=400)
    for n in (1, 32, 64):
        expected = (per_item * n + fixed) * math.exp(0.005)
        assert abs(pace.expected_us(n) - expected) < 0.15 * (per_item * 32 + fixed)


@pytest.mark.parametrize("seed", range(4))
def test_one_in_a_hundred_batches_takes_longer_than_it_said(seed: int) -> None:
    """Within a half and three times the promised 1 %, over 4,000 batches after 1,000 to learn."""
    pace = Pace(64)
    run(pace, per_item=30.0, fixed=500.0, batches=1000, seed=seed)
    late = run(pace, per_item=30.0, fixed=500.0, batches=4000, seed=seed + 100)
    assert (1 - QUANTILE) / 2 < late < (1 - QUANTILE) * 3


def test_the_mean_alone_would_break_the_promise_half_the_time() -> None:
    rng, pace = generator(3), Pace(64)
    run(pace, per_item=30.0, fixed=500.0, batches=1000)
    spent = [(500 + 30 * 32) * float(rng.lognormal(0.0, 0.1)) for _ in range(1000)]
    assert 0.3 < np.mean([s > pace.expected_us(32) for s in spent]) < 0.7


def test_a_batch_is_as_large_as_its_deadline_allows_and_never_empty() -> None:
    pace = Pace(64)
    run(pace, per_item=100.0, fixed=1000.0, batches=500)
    assert pace.size(64, math.inf) == 64
    assert pace.size(3, math.inf) == 3
    sizes = [pace.size(64, budget) for budget in (0, 1000, 3000, 6000, 100_000)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1
    assert 1 <= sizes[2] < 25
    assert sizes[-1] == 64
    assert pace.high_us(sizes[3]) <= 6000 * 1.02


def test_until_it_is_warm_it_probes_up_and_halves_on_a_miss() -> None:
    pace = Pace(64)
    sizes = []
    for met in (True, True, False, True, True, True, True):
        sizes.append(pace.size(64, 1e6))
        pace.learn(sizes[-1], 100.0, met=met)
    assert sizes == [4, 8, 16, 8, 16, 32, 64]
    assert pace.batches < WARM


def test_a_model_that_slows_down_is_learnt_within_a_hundred_batches() -> None:
    pace = Pace(64)
    run(pace, per_item=10.0, fixed=100.0, batches=500)
    run(pace, per_item=100.0, fixed=1000.0, batches=150, seed=2)
    assert abs(pace.expected_us(32) - 4200) < 0.2 * 4200


def test_waiting_work_is_told_in_time_and_nothing_is_free() -> None:
    pace = Pace(64)
    assert pace.queue_us(0) == 0.0
    assert pace.queue_us(10) > 0, "before the first batch a guess stands in"
    for _ in range(50):
        pace.learn(1, 2000.0)
    assert pace.queue_us(500) == pytest.approx(500 * 2000.0)
    assert min(pace.line()) >= 0.0
