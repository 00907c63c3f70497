"""Lineages as the service moves them: a look after every batch, a grid from a pilot, missing labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tenure.deploy.automation import lineage
from tenure.deploy.automation.items import Label

BOUND, DELTA = 0.05, 0.05
RUNS = [pytest.param(80, id="short"), pytest.param(1000, id="full", marks=pytest.mark.slow)]


def labels_of(scores: np.ndarray, wrong: np.ndarray, missing: np.ndarray | None = None) -> list[Label]:  # type: ignore[type-arg]
    gone = np.zeros(len(scores), bool) if missing is None else missing
    return [
        Label(i, float(s), None if g else bool(w), True)
        for i, (s, w, g) in enumerate(zip(scores, wrong, gone, strict=True))
    ]


def fixed(rng: np.random.Generator, planned: int = 1500) -> tuple[lineage.Counts, tuple[float, ...]]:
    counts = lineage.pilot(lineage.Counts(), rng.random(500).tolist(), 500)
    found = lineage.grid_of(counts, bound=BOUND, delta=DELTA, wanted=500, planned=planned)
    assert found is not None
    return lineage.start(found.thresholds, since=0, starts=found.starts), found.thresholds


@pytest.mark.parametrize("runs", RUNS)
def test_a_lineage_claims_too_much_rarely_however_often_it_is_asked(runs: int) -> None:
    """All thresholds are true at the bound; the lineage is asked after every 25 of 2,000 labels."""
    rng = np.random.default_rng(51)
    false = 0
    for _ in range(runs):
        counts, cuts = fixed(rng)
        for _ in range(80):
            batch = labels_of(rng.random(25), rng.random(25) < BOUND * 1.0001)
            counts = lineage.advance(counts, cuts, BOUND, batch)
            if lineage.valid(counts, DELTA):
                false += 1
                break
    print(f"\nfalse certificates of a lineage, {runs} runs: {false / runs:.1%}")
    assert false / runs <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / runs)


def test_good_models_are_certified_in_time() -> None:
    rng = np.random.default_rng(52)
    needed = []
    for _ in range(20):
        counts, cuts = fixed(rng)
        while not lineage.valid(counts, DELTA) and counts.labels < 3000:
            scores = rng.random(25)
            wrong = rng.random(25) < 0.3 * np.exp(-8.0 * scores)
            counts = lineage.advance(counts, cuts, BOUND, labels_of(scores, wrong))
        needed.append(counts.labels)
    print(f"\na good model is certified after a median of {np.median(needed):.0f} labels")
    assert max(needed) < 1500


def test_score_selected_labels_would_lie() -> None:
    """Why A7: at partial, unsure items are all judged and sure ones rarely, so pooling hides confident errors.

    True error of everything: 4 %, bound 2 %. The fair (lottery) sample refuses; the pooled one certifies.
    """
    rng = np.random.default_rng(53)
    pooled = fair = 0
    for _ in range(40):
        scores = rng.random(6000)
        wrong = rng.random(6000) < np.where(scores > 0.5, 0.08, 0.001)
        judged = (scores <= 0.5) | (rng.random(6000) < 0.1)
        lottery = rng.random(6000) < 0.3
        for name, chosen in (("pooled", judged), ("fair", lottery)):
            counts = lineage.start([0.0], since=0, renewal=True)
            counts = lineage.advance(counts, [0.0], 0.02, labels_of(scores[chosen], wrong[chosen]))
            hit = bool(lineage.valid(counts, DELTA))
            pooled, fair = pooled + (hit and name == "pooled"), fair + (hit and name == "fair")
    print(f"\nfalse certificates at 4 % true error and 2 % bound: pooled {pooled} of 40, lottery {fair} of 40")
    assert pooled > 36
    assert fair == 0


def test_missing_labels_never_help() -> None:
    rng = np.random.default_rng(54)
    empty, cuts = fixed(rng)
    scores, wrong = rng.random(800), rng.random(800) < 0.02
    whole = lineage.advance(empty, cuts, BOUND, labels_of(scores, wrong))
    holes = lineage.advance(empty, cuts, BOUND, labels_of(scores, wrong, rng.random(800) < 0.03))
    assert all(a <= b for a, b in zip(holes.log_e, whole.log_e, strict=True))
    assert set(lineage.valid(holes, DELTA)) <= set(lineage.valid(whole, DELTA))


def test_batches_do_not_matter() -> None:
    """The counts depend on the order of the labels, not on when they were looked at."""
    rng = np.random.default_rng(55)
    once, cuts = fixed(rng)
    parts = once
    labels = labels_of(rng.random(600), rng.random(600) < 0.03)
    once = lineage.advance(once, cuts, BOUND, labels)
    for i in range(0, 600, 7):
        parts = lineage.advance(parts, cuts, BOUND, labels[i : i + 7])
    assert parts == once
