"""How two measurements of the same thing differ: bias, limits of agreement, concordance.

Methods: limits of agreement with their intervals (Bland & Altman 1986, 1999), concordance correlation with
Fisher's z interval (Lin 1989, corrected 2000). All of them assume independent items; the limits also roughly
normal differences that do not grow with the size: `slope` shows whether they do.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.stats import interval, special

MIN_ITEMS = 10
"""With fewer items there are no intervals."""


class Estimate(msgspec.Struct, frozen=True):
    """A value with its 95 % interval; the interval is None where it is not defined."""

    value: float
    low: float | None = None
    high: float | None = None


class Differences(msgspec.Struct, frozen=True):
    """First judge minus second, in the unit of the value.

    Attributes:
        n: items.
        bias: mean difference.
        deviation: standard deviation of the differences.
        lower: the lower limit of agreement, bias - 1.96 deviations.
        upper: the upper one; about 95 % of differences lie between them.
        concordance: Lin's concordance correlation in [-1, 1]; None where neither judge varies.
        slope: how much the difference grows per unit of the mean of both; None where that does not vary.
    """

    n: int
    bias: Estimate
    deviation: float
    lower: Estimate
    upper: Estimate
    concordance: Estimate | None
    slope: float | None


def differences(first: npt.ArrayLike, second: npt.ArrayLike) -> Differences | None:
    """Compare (n,) values of two judges on the same independent items; None with fewer than two.

    Raises:
        ValueError: the lengths differ or a value is not finite.
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    if x.shape != y.shape or x.ndim != 1 or not np.isfinite([x, y]).all():
        raise ValueError(f"need two equally long rows of finite numbers, not shapes {x.shape} and {y.shape}")
    if len(x) < 2:
        return None
    n, gap = len(x), x - y
    bias, deviation = float(gap.mean()), float(gap.std(ddof=1))
    half = float(special.stdtrit(n - 1, 0.975))
    centre, edge = half * deviation / math.sqrt(n), half * deviation * _edge(n)
    reach = float(special.ndtri(0.975)) * deviation
    return Differences(
        n,
        _band(bias, centre, n),
        deviation,
        _band(bias - reach, edge, n),
        _band(bias + reach, edge, n),
        concordance(x, y),
        _slope((x + y) / 2.0, gap),
    )


def concordance(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Estimate | None:
    """Return Lin's concordance correlation; None where neither judge varies and both say the same."""
    n = len(x)
    vx, vy = float(x.var()), float(y.var())
    shift = float(x.mean() - y.mean()) ** 2
    if vx + vy + shift == 0.0:
        return None
    cov = float(((x - x.mean()) * (y - y.mean())).mean())
    found = min(1.0, max(-1.0, 2.0 * cov / (vx + vy + shift)))
    if n < MIN_ITEMS or abs(found) >= 1.0 or cov == 0.0:
        return Estimate(found)
    rho = cov / math.sqrt(vx * vy)
    u = shift / math.sqrt(vx * vy)
    c2, r2 = found**2, rho**2
    variance = (1 - r2) * c2 / ((1 - c2) * r2) + 2 * found**3 * (1 - found) * u / (rho * (1 - c2) ** 2)
    variance -= found**4 * u**2 / (2 * r2 * (1 - c2) ** 2)
    reach = float(special.ndtri(0.975)) * math.sqrt(max(variance, 0.0) / (n - 2))
    return Estimate(found, math.tanh(math.atanh(found) - reach), math.tanh(math.atanh(found) + reach))


def within(first: npt.ArrayLike, second: npt.ArrayLike, tolerance: float) -> Estimate | None:
    """Return the share of items on which both differ by at most `tolerance`, with its exact interval."""
    gap = np.abs(np.asarray(first, float) - np.asarray(second, float))
    if not len(gap):
        return None
    k = int((gap <= tolerance).sum())
    return Estimate(k / len(gap), *interval.clopper_pearson(k, len(gap)))


def _edge(n: int) -> float:
    """Return the standard error of a limit, in deviations."""
    z = float(special.ndtri(0.975))
    return math.sqrt(1.0 / n + z * z / (2.0 * (n - 1)))


def _band(value: float, half: float, n: int) -> Estimate:
    return Estimate(value, value - half, value + half) if n >= MIN_ITEMS else Estimate(value)


def _slope(mean: npt.NDArray[np.float64], gap: npt.NDArray[np.float64]) -> float | None:
    spread = float(((mean - mean.mean()) ** 2).sum())
    return float(((mean - mean.mean()) * (gap - gap.mean())).sum()) / spread if spread > 0.0 else None
