"""Simulated certificates: looking often does not make them lie; the fixed-size test does."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import bdtr

from tenure.stats import certificate

BOUND, DELTA, LABELS, EVERY = 0.01, 0.05, 10_000, 100

RUNS = [pytest.param(250, id="short"), pytest.param(2000, id="full", marks=pytest.mark.slow)]
FEW_RUNS = [pytest.param(60, id="short"), pytest.param(300, id="full", marks=pytest.mark.slow)]

Floats = npt.NDArray[np.float64]


def tolerated(rate: float, runs: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


def shares(planned: int) -> tuple[Floats, tuple[int, ...]]:
    """Return the shares automated at each threshold of the grid on uniform scores, and the starts."""
    scores = np.linspace(0.0, 1.0, 5001).tolist()
    grid = certificate.make_grid(scores, bound=BOUND, delta=DELTA, planned=planned)
    return 1.0 - np.asarray(grid), certificate.geometric_starts(grid, scores)


def history(rng: np.random.Generator, q: Floats, error: object, labels: int) -> tuple[Floats, Floats]:
    """Return n and k at each look and threshold, (looks, thresholds)."""
    assert callable(error)
    depth = rng.random(labels)  # 0 = surest
    wrong = rng.random(labels) < error(1.0 - depth)
    first = np.searchsorted(q, depth)  # the safest threshold that automates this item
    looks = labels // EVERY
    cell = (np.arange(labels) // EVERY) * (len(q) + 1) + first
    size = looks * (len(q) + 1)
    n = np.bincount(cell, minlength=size).reshape(looks, -1)[:, : len(q)]
    k = np.bincount(cell, weights=wrong, minlength=size).reshape(looks, -1)[:, : len(q)]
    return n.cumsum(axis=0).cumsum(axis=1).astype(float), k.cumsum(axis=0).cumsum(axis=1)


@pytest.mark.parametrize("runs", RUNS)
def test_false_certificates_stay_within_delta_however_often_one_looks(runs: int) -> None:
    """Every threshold is true at the bound; a look each 100 labels up to 10,000."""
    rng = np.random.default_rng(21)
    q, starts = shares(2000)
    ours = naive = 0
    for _ in range(runs):
        n, k = history(rng, q, lambda u: np.full(len(u), 1.0001 * BOUND), LABELS)
        best = certificate.certify_log_es(n, k, BOUND).max(axis=0)
        ours += bool(certificate.valid_set(np.exp(-np.maximum(best, 0.0)), DELTA, starts))
        fixed = bdtr(k, n.astype(int), BOUND)
        naive += any(certificate.valid_set(p, DELTA, starts) for p in fixed)
    print(f"\nfalse certificates, {runs} runs: {ours / runs:.1%}; fixed-size test repeated: {naive / runs:.1%}")
    assert ours / runs <= tolerated(DELTA, runs)
    assert naive / runs > tolerated(DELTA, runs)


@pytest.mark.parametrize("runs", FEW_RUNS)
def test_good_scores_automate_most(runs: int) -> None:
    """Clean scores, 5,000 labels: the largest share of a risk below 1 % is .84."""
    rng = np.random.default_rng(22)
    q, starts = shares(5000)
    automated, false = [], 0
    for _ in range(runs):
        n, k = history(rng, q, lambda u: 0.4 * np.exp(-10.0 * u) + 0.0002, 5000)
        best = certificate.certify_log_es(n, k, BOUND).max(axis=0)
        valid = certificate.valid_set(np.exp(-np.maximum(best, 0.0)), DELTA, starts)
        automated.append(q[valid[-1]] if valid else 0.0)
        false += automated[-1] > 0.8425
    print(
        f"\nclean scores, 5,000 labels, {runs} runs: {np.mean(automated):.2f} automated, {false} above the bound"
    )
    assert np.mean(automated) >= 0.7
    assert false / runs <= tolerated(DELTA, runs)


@pytest.mark.parametrize("runs", RUNS)
def test_false_revocations_stay_within_delta(runs: int) -> None:
    """Audits at exactly the bound, looked at after every fifth label up to 6,000."""
    rng = np.random.default_rng(23)
    n = np.arange(5.0, 6001.0, 5.0)
    k = (rng.random((runs, 6000)) < BOUND).cumsum(axis=1)[:, 4::5].astype(float)
    log_e = certificate.revoke_log_es(np.broadcast_to(n, k.shape), k, BOUND)
    ours = float((log_e.max(axis=1) >= -math.log(DELTA)).mean())
    fixed = 1.0 - bdtr(k - 1.0, np.broadcast_to(n, k.shape).astype(int), BOUND)
    naive = float((np.where(k > 0, fixed, 1.0).min(axis=1) <= DELTA).mean())
    print(f"\nfalse revocations, {runs} runs: {ours:.1%}; fixed-size test repeated: {naive:.1%}")
    assert ours <= tolerated(DELTA, runs)
    assert naive > 0.10


@pytest.mark.parametrize(("times", "median"), [(3.0, 260), (10.0, 40)])
def test_a_raised_error_rate_is_revoked_soon(times: float, median: int) -> None:
    rng = np.random.default_rng(24)
    n = np.arange(1.0, 1201.0)
    k = (rng.random((300, 1200)) < times * BOUND).cumsum(axis=1).astype(float)
    hit = certificate.revoke_log_es(np.broadcast_to(n, k.shape), k, BOUND) >= -math.log(DELTA)
    first = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 9999)
    print(f"\nerror rate x{times:g} is revoked after a median of {np.median(first):.0f} audits")
    assert np.median(first) <= median


@pytest.mark.parametrize("runs", RUNS)
def test_weighted_audits_keep_delta(runs: int) -> None:
    """Half of the items are automated and audited at 5 %, the rest all labelled; errors at the bound."""
    rng = np.random.default_rng(25)
    eta = certificate._BETS * 0.05 / (1.0 - BOUND)
    counts = []
    for pi, items in ((0.05, 50), (1.0, 50)):
        n = rng.binomial(items, pi, (runs, 200))
        counts.append((pi, n.cumsum(axis=1), rng.binomial(n, BOUND).cumsum(axis=1)))
    paths = sum(
        k[..., None] * np.log1p(-eta * (1 - BOUND) / pi) + (n - k)[..., None] * np.log1p(eta * BOUND / pi)
        for pi, n, k in counts
    )
    log_e = np.log(np.exp(paths).mean(axis=-1))
    cells = [certificate.Drawn(pi, int(n[0, -1]), int(k[0, -1])) for pi, n, k in counts]
    assert log_e[0, -1] == pytest.approx(certificate.weighted_log_e(cells, bound=BOUND, floor=0.05))
    rate = float((log_e.max(axis=1) >= -math.log(DELTA)).mean())
    print(f"\nfalse certificates from weighted audits, {runs} runs: {rate:.1%}")
    assert rate <= tolerated(DELTA, runs)
