"""Differences of means between two arms, watched at every look: about right, because asymptotic.

Rows of one unit go together, so the standard error is that of a ratio of sums over units. The e-values are
normal mixtures (Waudby-Smith et al., arXiv 2103.06476) with V = tau^2 / SE^2.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

Floats = npt.NDArray[np.float64]

MIN_UNITS = 100
MIN_EFFECTIVE = 50.0


class Mean(msgspec.Struct, frozen=True):
    """A mean over rows that come in units.

    Attributes:
        value: sum of y over number of rows.
        variance: of `value`, with whole units as the sampled thing.
        units: how many units.
        effective: (sum z^2)^2 / sum z^4 of the units' residuals; small when few units carry everything.
    """

    value: float
    variance: float
    units: int
    effective: float

    @property
    def armed(self) -> bool:
        """Whether there are enough units for the normal approximation."""
        return self.units >= MIN_UNITS and self.effective >= MIN_EFFECTIVE


def clustered_mean(rows: npt.ArrayLike, sums: npt.ArrayLike) -> Mean | None:
    """Return the mean of one arm, or None with fewer than two units.

    Args:
        rows: (units,) number of rows of each unit, each above 0.
        sums: (units,) sum of the value over the unit's rows; bounded or capped values only.
    """
    n, y = np.asarray(rows, float), np.asarray(sums, float)
    if n.shape != y.shape or n.ndim != 1:
        raise ValueError(f"rows {n.shape} and sums {y.shape} must be two lists of one length")
    units, total = len(n), float(n.sum())
    if units < 2 or total <= 0.0:
        return None
    value = float(y.sum() / total)
    z = y - value * n
    squares = float((z**2).sum())
    variance = units / (units - 1) * squares / total**2
    effective = squares**2 / float((z**4).sum()) if squares > 0.0 else 0.0
    return Mean(value, variance, units, effective)


def two_sided_log_e(z: float, v: float) -> float:
    """Return the log e-value against "no difference".

    Args:
        z: (difference - null) / SE.
        v: tau^2 / SE^2, with tau the effect that the plan looks for, fixed before the start.

    Example:
        >>> round(math.exp(two_sided_log_e(3.0, 4.0)), 4)
        16.3672
    """
    return v * z * z / (2.0 * (v + 1.0)) - math.log1p(v) / 2.0


def one_sided_log_e(z: float, v: float) -> float:
    """Return the log e-value against "the difference is at most the null"; large for large positive z."""
    tilt = z * math.sqrt(v / (v + 1.0))
    return math.log(2.0) - math.log1p(v) / 2.0 + tilt * tilt / 2.0 + float(log_ndtr(tilt))


def band(difference: float, se: float, tau: float, delta: float) -> tuple[float, float]:
    """Return the interval that holds the true difference at every look, with confidence about 1 - delta."""
    if se <= 0.0 or tau <= 0.0 or not 0.0 < delta < 1.0:
        raise ValueError(f"need se > 0, tau > 0 and 0 < delta < 1, not {se}, {tau}, {delta}")
    v = (tau / se) ** 2
    half = se * math.sqrt((v + 1.0) / v * (2.0 * math.log(1.0 / delta) + math.log1p(v)))
    return difference - half, difference + half


def difference(first: Mean, second: Mean) -> tuple[float, float]:
    """Return (first - second, its standard error) of two independent arms."""
    return first.value - second.value, math.sqrt(first.variance + second.variance)
