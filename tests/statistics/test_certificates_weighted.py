"""Labels drawn with unequal, known chances: rarely false where pooled labels always are, and soon enough."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tenure.deploy.automation import lineage
from tenure.deploy.automation.items import Label

BOUND, DELTA, AUDIT = 0.01, 0.05, 0.05
RUNS = [pytest.param(40, id="short"), pytest.param(400, id="full", marks=pytest.mark.slow)]


def drawn(rng: np.random.Generator, cases: int, sure: float, unsure: float) -> list[Label]:
    """Return the labels of so many cases: half automated, audited by `AUDIT`, half all judged.

    `sure` and `unsure` are their error rates.
    """
    scores = rng.random(cases)
    automated = scores >= 0.5
    wrong = rng.random(cases) < np.where(automated, sure, unsure)
    judged = ~automated | (rng.random(cases) < AUDIT)
    return [
        Label(int(i), float(scores[i]), float(wrong[i]), False, 1.0 if automated[i] else 1.0 / AUDIT)
        for i in np.flatnonzero(judged)
    ]


def start(*, weighted: bool = True) -> lineage.Counts:
    return lineage.start([0.0], since=0, starts=(0,), weighted=weighted)


@pytest.mark.parametrize("runs", RUNS)
def test_weighted_labels_are_rarely_false_and_pooled_ones_always(runs: int) -> None:
    """True errors of everything at the bound: 1.6 % where it is sure, 0.4 % elsewhere; a look per label."""
    rng = np.random.default_rng(81)
    weighted = pooled = 0
    for _ in range(runs):
        labels = drawn(rng, 6000, 1.6001 * BOUND, 0.4 * BOUND)
        weighted += bool(lineage.valid(lineage.advance(start(), [0.0], BOUND, labels), DELTA))
        pooled += bool(lineage.valid(lineage.advance(start(weighted=False), [0.0], BOUND, labels), DELTA))
    print(f"\nfalse certificates, {runs} runs: weighted {weighted / runs:.1%}, pooled {pooled / runs:.1%}")
    assert weighted / runs <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / runs)
    assert pooled / runs > 0.5


def test_a_good_model_is_certified_in_time() -> None:
    """True errors 0.2 %, bound 1 %: about 530 audits, about 10,000 cases."""
    rng = np.random.default_rng(82)
    audits = []
    for _ in range(15):
        counts, seen = start(), 0
        while not lineage.valid(counts, DELTA) and seen < 24_000:
            counts, seen = lineage.advance(counts, [0.0], BOUND, drawn(rng, 500, 0.002, 0.002)), seen + 500
        done = bool(lineage.valid(counts, DELTA))
        audits.append(sum(c.n[0] for c in counts.cells if c.ratio == 1.0) if done else np.inf)
    print(f"\nweighted labels: certified after a median of {np.median(audits):.0f} audits")
    assert np.median(audits) <= 700


def test_batches_do_not_matter_and_estimates_are_weighted() -> None:
    labels = drawn(np.random.default_rng(83), 4000, 0.02, 0.0)
    once = lineage.advance(start(), [0.0], BOUND, labels)
    parts = start()
    for i in range(0, len(labels), 97):
        parts = lineage.advance(parts, [0.0], BOUND, labels[i : i + 97])
    assert parts.log_e == pytest.approx(once.log_e, abs=1e-9)
    assert (parts.cells, parts.digest) == (once.cells, once.digest)
    assert lineage.mean_loss(once, 0) == pytest.approx(0.01, abs=0.007)
    assert lineage.mean_loss(once, 0) > 3 * once.k[0] / once.n[0]


def test_one_step_of_each_kind() -> None:
    """An error among audits, a right answer among audits, eta = 0.6 of the floor's most."""
    for loss, step in ((1.0, -0.916291), (0.0, 0.00604231)):
        counts = lineage.advance(start(), [0.0], BOUND, [Label(1, 0.5, loss, False, 1.0)])
        assert lineage._wealth(counts, BOUND)[0][3] == pytest.approx(step, rel=1e-5)


def test_cases_of_a_time_without_audits_do_not_count() -> None:
    label = Label(1, 0.9, 0.0, False, math.inf)
    assert lineage.advance(start(), [0.0], BOUND, [label]) == start()


@pytest.mark.parametrize("runs", RUNS)
def test_policies_may_change_inside_a_lineage(runs: int) -> None:
    """All judged, then audits of 20 %, then 5 %; true errors at the bound: the bets follow the least chance."""
    rng = np.random.default_rng(85)
    false = 0
    for _ in range(runs):
        counts = start()
        for audit, cases in ((1.0, 600), (0.2, 3000), (0.05, 6000)):
            scores = rng.random(cases)
            wrong = rng.random(cases) < np.where(scores >= 0.5, 1.6001, 0.4) * BOUND
            judged = (scores < 0.5) | (rng.random(cases) < audit)
            ratio = np.where(scores >= 0.5, 1.0, 1.0 / audit)
            found = [Label(0, 0.5, float(wrong[i]), False, float(ratio[i])) for i in np.flatnonzero(judged)]
            counts = lineage.advance(counts, [0.0], BOUND, found)
        false += bool(lineage.valid(counts, DELTA))
    print(f"\nfalse certificates over three policies, {runs} runs: {false / runs:.1%}")
    assert false / runs <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / runs)
