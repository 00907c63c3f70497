"""Differences of means between two arms, watched at every look: about right, because asymptotic.

Rows of one unit go together, so the standard error is that of a ratio of sums over units. The e-values are
normal mixtures (Waudby-Smith et al., arXiv 2103.06476) with V = tau^2 / SE^2.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.stats import special

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


class Sums(msgspec.Struct, frozen=True, array_like=True):
    """Exact power sums over the units of one arm; n is a unit's number of rows and y the sum of its values.

    Whole numbers, so that adding in parts, in any order, gives the same mean, variance and `effective`. Values
    are therefore counted in steps of a grid; the caller knows its scale.
    """

    units: int = 0
    n: int = 0
    y: int = 0
    nn: int = 0
    ny: int = 0
    yy: int = 0
    n4: int = 0
    n3y: int = 0
    n2y2: int = 0
    ny3: int = 0
    y4: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*map(int.__add__, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))

    def __sub__(self, other: Sums) -> Sums:
        return Sums(*map(int.__sub__, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))


def unit_sums(n: int, y: int) -> Sums:
    """Return the sums of one unit with n rows that add up to y; a unit without rows is none."""
    if n == 0:
        return Sums()
    nn, ny, yy = n * n, n * y, y * y
    return Sums(1, n, y, nn, ny, yy, nn * nn, nn * ny, ny * ny, ny * yy, yy * yy)


def row_sums(values: npt.NDArray[np.int64]) -> Sums:
    """Return the sums of rows that are units by themselves.

    Args:
        values: (rows,) whole numbers in [0, 2^20]; below 2^22 rows, so that nothing overflows.
    """
    rows, squares = len(values), values * values
    high, low = squares >> 20, squares & 0xFFFFF
    y, yy = int(values.sum()), int(squares.sum())
    cubes = (int((high * values).sum()) << 20) + int((low * values).sum())
    fourth = (int((high * high).sum()) << 40) + (int((high * low).sum()) << 21) + int((low * low).sum())
    return Sums(rows, rows, y, rows, y, yy, rows, y, yy, cubes, fourth)


def mean_of_sums(s: Sums) -> Mean | None:
    """Return what `clustered_mean` returns of the same units, in steps of the grid, without rounding inside.

    Example:
        >>> mean_of_sums(unit_sums(1, 4) + unit_sums(3, 6))
        Mean(value=2.5, variance=0.5625, units=2, effective=2.0)
    """
    if s.units < 2 or s.n <= 0:
        return None
    n, y = s.n, s.y
    squares = n * n * s.yy - 2 * n * y * s.ny + y * y * s.nn  # n^2 times the sum of z^2
    fourth = (
        n**4 * s.y4 - 4 * n**3 * y * s.ny3 + 6 * n * n * y * y * s.n2y2 - 4 * n * y**3 * s.n3y + y**4 * s.n4
    )  # n^4 times the sum of z^4
    variance = squares * s.units / ((s.units - 1) * n**4)
    return Mean(y / n, variance, s.units, squares * squares / fourth if fourth else 0.0)


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
    return math.log(2.0) - math.log1p(v) / 2.0 + tilt * tilt / 2.0 + float(special.log_ndtr(tilt))


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
