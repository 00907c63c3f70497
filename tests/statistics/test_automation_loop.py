"""Priced mistakes and whole lives of certificates, as the service counts them: fixed seeds, a look per batch."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from tenure.deploy.automation import lineage
from tenure.deploy.automation.items import Label
from tenure.scope.project import LossSpec
from tenure.stats import certificate

BOUND, DELTA = 0.05, 0.05
COSTS = LossSpec(costs={"defect": {"good": 10.0}, "good": {"defect": 1.0}})
RUNS = [pytest.param(60, id="short"), pytest.param(1000, id="full", marks=pytest.mark.slow)]


def tolerated(rate: float, runs: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


def losses(rng: np.random.Generator, n: int, mean: float) -> npt.NDArray[np.float64]:
    """Return losses of 0, 0.1 and 1 with this mean: half of it from cheap mistakes."""
    u = rng.random(n)
    return np.where(u < mean / 2, 1.0, np.where(u < mean / 2 + 5 * mean, 0.1, 0.0))


def labels(found: npt.NDArray[np.float64]) -> list[Label]:
    return [Label(i, 1.0, float(x), False) for i, x in enumerate(found)]


def certified(counts: lineage.Counts, rng: np.random.Generator, mean: float, *, looks: int) -> int | None:
    """Return the labels until a certificate, looking after every 50."""
    for _ in range(looks):
        counts = lineage.advance(counts, [0.0], BOUND, labels(losses(rng, 50, mean)))
        if lineage.valid(counts, DELTA):
            return counts.labels
    return None


@pytest.mark.parametrize("runs", RUNS)
def test_priced_mistakes_are_rarely_claimed_too_low(runs: int) -> None:
    """The mean loss is the bound; a look after each 50 of 2,000. The fixed-size t-test breaks its promise."""
    rng = np.random.default_rng(71)
    start = lineage.start([0.0], since=0, renewal=True, by=COSTS)
    false = sum(certified(start, rng, BOUND, looks=40) is not None for _ in range(runs))
    naive = 0
    for _ in range(max(runs, 400)):
        path = losses(rng, 2000, BOUND)
        n = np.arange(50, 2001, 50)
        mean, square = path.cumsum()[n - 1] / n, (path**2).cumsum()[n - 1] / n
        error = np.sqrt(np.maximum(square - mean**2, 1e-12) / n)
        naive += bool((mean + 1.645 * error < BOUND).any())
    naive_rate = naive / max(runs, 400)
    print(f"\npriced mistakes, {runs} runs: false {false / runs:.1%}, repeated t-test {naive_rate:.1%}")
    assert false / runs <= tolerated(DELTA, runs)
    assert naive_rate > 0.15


def test_priced_mistakes_are_certified_in_time() -> None:
    rng = np.random.default_rng(72)
    start = lineage.start([0.0], since=0, renewal=True, by=COSTS)
    needed = [certified(start, rng, BOUND / 5, looks=40) for _ in range(30)]
    print(f"\npriced mistakes at a fifth: certified after {sorted(n or 9999 for n in needed)[15]} labels")
    assert sum(n is not None for n in needed) >= 28


@pytest.mark.parametrize("runs", RUNS)
def test_priced_audits_rarely_revoke_what_holds_and_notice_what_does_not(runs: int) -> None:
    rng = np.random.default_rng(73)
    found = {}
    for times in (1.0, 4.0):
        hits = []
        for _ in range(runs):
            steps = certificate.revoking_steps(losses(rng, 1500, times * BOUND), BOUND).cumsum(axis=0)
            over = np.flatnonzero(certificate.mixed(steps) >= -math.log(DELTA))
            hits.append(int(over[0]) + 1 if len(over) else None)
        found[times] = hits
    false = sum(h is not None for h in found[1.0]) / runs
    median = sorted(h or 9999 for h in found[4.0])[runs // 2]
    print(
        f"\npriced audits, {runs} runs: false revocations {false:.1%}; four times the bound after {median} audits"
    )
    assert false <= tolerated(DELTA, runs)
    assert median < 300


@pytest.mark.parametrize("runs", RUNS)
def test_a_life_with_renewals_claims_too_much_at_most_delta_per_period(runs: int) -> None:
    """Four periods at exactly the bound, each a lineage of its own over fresh audits, as renewals are."""
    rng = np.random.default_rng(74)
    periods, false = 4, 0
    for _ in range(runs):
        for _ in range(periods):
            counts = lineage.start([0.5], since=0, renewal=True)
            for _ in range(12):
                wrong = (rng.random(50) < BOUND).astype(float)
                counts = lineage.advance(counts, [0.5], BOUND, labels(wrong))
                if lineage.valid(counts, DELTA):
                    false += 1
                    break
    rate = false / (runs * periods)
    print(f"\nfalse renewals per period, {runs} lives of {periods}: {rate:.1%}")
    assert rate <= tolerated(DELTA, runs * periods)


def test_counting_in_batches_or_at_once_is_the_same() -> None:
    rng = np.random.default_rng(75)
    found = labels(losses(rng, 300, 0.1))
    start = lineage.start([0.5, 0.0], since=0, by=COSTS)
    once = lineage.advance(start, [0.5, 0.0], BOUND, found)
    parts = start
    for i in range(0, 300, 37):
        parts = lineage.advance(parts, [0.5, 0.0], BOUND, found[i : i + 37])
    assert once.cells == parts.cells
    assert once.digest == parts.digest
    assert once.log_e == pytest.approx(parts.log_e)
    assert once.log_e[1] >= certificate.bounded_loss_log_e([float(x.loss or 0.0) for x in found], BOUND) - 1e-9
