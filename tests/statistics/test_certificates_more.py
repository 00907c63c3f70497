"""Renewals, bounded losses, weighted audits: rarely false at the bound, soon done where errors are rare."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tenure.deploy.automation import lineage
from tenure.deploy.automation.items import Label
from tenure.stats import certificate

BOUND, DELTA = 0.01, 0.05
RUNS = [pytest.param(300, id="short"), pytest.param(2000, id="full", marks=pytest.mark.slow)]


def tolerated(runs: int) -> float:
    return DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / runs)


@pytest.mark.parametrize("runs", RUNS)
def test_a_renewal_is_rarely_false(runs: int) -> None:
    """Audits at the bound, a look after each of 4,000; the service's own lineage agrees with the counts."""
    rng = np.random.default_rng(61)
    wrong = rng.random((runs, 4000)) < BOUND
    n = np.broadcast_to(np.arange(1.0, 4001.0), wrong.shape)
    log_e = certificate.certify_log_es(n, wrong.cumsum(axis=1).astype(float), BOUND)
    hit = (log_e >= -math.log(DELTA)).any(axis=1)
    print(f"\nfalse renewals, {runs} runs: {hit.mean():.1%}")
    assert hit.mean() <= tolerated(runs)
    for row, found in list(zip(wrong, hit, strict=True))[:5]:
        labels = [Label(i, 1.0, bool(w), False) for i, w in enumerate(row)]
        counts = lineage.advance(lineage.start([0.0], since=0, renewal=True), [0.0], BOUND, labels)
        assert bool(lineage.valid(counts, DELTA)) == found


@pytest.mark.parametrize("runs", RUNS)
def test_bounded_losses_keep_delta_and_have_power(runs: int) -> None:
    """Losses between 0 and 1 whose mean is the bound, then a fifth of it; a look after each of 2,000."""
    rng = np.random.default_rng(62)
    bound, eta = 0.05, certificate._BETS / 0.95
    found = {}
    for times in (1.0, 0.2):
        mean = times * bound
        losses = rng.beta(0.2, 0.2 * (1 - mean) / mean, (runs, 2000))
        paths = np.stack([np.log1p(-e * (losses - bound)).cumsum(axis=1) for e in eta])
        log_e = np.logaddexp.reduce(paths, axis=0) - math.log(len(eta))
        assert log_e[0, -1] == pytest.approx(certificate.bounded_loss_log_e(losses[0].tolist(), bound))
        found[times] = float((log_e >= -math.log(DELTA)).any(axis=1).mean())
    print(f"\nbounded losses certified, {runs} runs: at the bound {found[1.0]:.1%}, at a fifth {found[0.2]:.1%}")
    assert found[1.0] <= tolerated(runs)
    assert found[0.2] >= 0.95


def test_weighted_audits_certify_a_good_model_in_time() -> None:
    """Half of the items audited at 5 %, half all labelled, true error 0.2 %, bound 1 %."""
    rng = np.random.default_rng(63)
    eta = certificate._BETS * 0.05 / (1.0 - BOUND)
    audits = []
    for _ in range(100):
        paths, seen = np.zeros((400, len(eta))), np.zeros(400)
        for pi, items in ((0.05, 50), (1.0, 50)):
            n = rng.binomial(items, pi, 400)
            k = rng.binomial(n, 0.002)
            paths += k[:, None] * np.log1p(-eta * (1 - BOUND) / pi) + (n - k)[:, None] * np.log1p(
                eta * BOUND / pi
            )
            seen += n if pi < 1.0 else 0
        log_e = np.logaddexp.reduce(paths.cumsum(axis=0), axis=1) - math.log(len(eta))
        first = np.flatnonzero(log_e >= -math.log(DELTA))
        audits.append(seen.cumsum()[first[0]] if len(first) else np.inf)
    print(f"\nweighted audits until a certificate: median {np.median(audits):.0f}")
    assert np.median(audits) <= 400
