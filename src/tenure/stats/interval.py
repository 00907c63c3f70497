"""Intervals for shares: exact (Clopper-Pearson), Wilson for display, and a bootstrap over units."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tenure.seeds import generator
from tenure.stats import special

MIN_UNITS = 30


def upper(k: float, n: float, confidence: float) -> float:
    """Return the one-sided exact upper bound of a share; `k` of `n`, real values allowed.

    Example:
        >>> round(upper(0, 299, 0.95), 5)
        0.00997
    """
    _check(k, n, confidence)
    return 1.0 if k >= n else float(special.betaincinv(k + 1.0, n - k, confidence))


def lower(k: float, n: float, confidence: float) -> float:
    """Return the one-sided exact lower bound of a share."""
    _check(k, n, confidence)
    return 0.0 if k <= 0 else float(special.betaincinv(k, n - k + 1.0, 1.0 - confidence))


def clopper_pearson(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided exact interval of a share (Clopper & Pearson 1934); (0, 1) without data."""
    side = 0.5 + confidence / 2.0
    return lower(k, n, side), upper(k, n, side)


def wilson(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's approximate interval (1927); for charts, never for promises."""
    _check(k, n, confidence)
    if n == 0:
        return 0.0, 1.0
    z = float(special.ndtri(0.5 + confidence / 2.0))
    p = k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def unit_bootstrap(
    rows: npt.ArrayLike,
    sums: npt.ArrayLike,
    confidence: float = 0.95,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile interval of sum(sums) / sum(rows) when whole units are drawn again.

    Args:
        rows: (units,) rows of each unit.
        sums: (units,) sum of the value over each unit's rows.
        confidence: of the interval.
        draws: how many resamples.
        seed: of the resampling.

    Returns:
        The interval, or None with fewer than 30 units: too few to say anything.
    """
    n, y = np.asarray(rows, float), np.asarray(sums, float)
    if len(n) < MIN_UNITS:
        return None
    rng = generator(seed)
    ratios = np.empty(draws)
    for i in range(draws):
        pick = rng.integers(0, len(n), len(n))
        ratios[i] = y[pick].sum() / n[pick].sum()
    low, high = np.quantile(ratios, [0.5 - confidence / 2.0, 0.5 + confidence / 2.0])
    return float(low), float(high)


def _check(k: float, n: float, confidence: float) -> None:
    if not 0.0 <= k <= n or not 0.0 < confidence < 1.0:
        raise ValueError(f"need 0 <= k <= n and 0 < confidence < 1, not k={k}, n={n}, confidence={confidence}")
