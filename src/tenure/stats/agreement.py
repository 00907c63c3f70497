"""How two judges agree: a table of counts, and paired tests of their errors.

Methods: specific agreement (Cicchetti & Feinstein 1990), kappa (Cohen 1960), AC1 (Gwet 2008), paired
non-inferiority (Tango 1998), McNemar's exact test. Undefined values are None, never 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.seeds import generator
from tenure.stats import interval, special

DRAWS = 2000
_BETS = np.array([0.02, 0.1, 0.3, 0.6, 0.9])


class Table(msgspec.Struct, frozen=True):
    """Counts of pairs of answers.

    Attributes:
        labels: names of the K classes.
        counts: K x K; rows are the first judge (the model), columns the second (the person).
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]], labels: Iterable[str] = ()) -> Table:
        """Count (first, second) pairs; classes outside `labels` are appended in order of appearance."""
        seen = list(pairs)
        names = tuple(dict.fromkeys([*labels, *(name for pair in seen for name in pair)]))
        place = {name: i for i, name in enumerate(names)}
        counts = [[0] * len(names) for _ in names]
        for first, second in seen:
            counts[place[first]][place[second]] += 1
        return cls(names, tuple(tuple(row) for row in counts))

    @property
    def n(self) -> int:
        return sum(map(sum, self.counts))

    @property
    def agreed(self) -> int:
        return sum(self.counts[i][i] for i in range(len(self.labels)))

    @property
    def observed(self) -> float | None:
        """Observed agreement; None without data."""
        return self.agreed / self.n if self.n else None

    def agreement_interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the exact interval of agreement; right only when each unit gave one item."""
        return interval.clopper_pearson(self.agreed, self.n, confidence)

    def first(self, label: str) -> int:
        """Return how often the first judge said `label`."""
        return sum(self.counts[self.labels.index(label)])

    def second(self, label: str) -> int:
        """Return how often the second judge said `label`."""
        column = self.labels.index(label)
        return sum(row[column] for row in self.counts)

    def specific(self, label: str) -> float | None:
        """Return agreement on one class: twice the common cell over both margins."""
        margins = self.first(label) + self.second(label)
        i = self.labels.index(label)
        return 2 * self.counts[i][i] / margins if margins else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa; None where chance agreement is 1. Falls with prevalence: never gate on it."""
        if self.observed is None or self._classes() < 2:
            return None
        n = self.n
        chance = sum(self.first(name) * self.second(name) for name in self.labels) / n**2
        return None if chance >= 1.0 else (self.observed - chance) / (1.0 - chance)

    @property
    def ac1(self) -> float | None:
        """Gwet's AC1, which stays near the agreement when one class is rare; None with one class."""
        if self.observed is None or self._classes() < 2:
            return None
        mean = [(self.first(name) + self.second(name)) / (2 * self.n) for name in self.labels]
        chance = sum(p * (1.0 - p) for p in mean) / (len(self.labels) - 1)
        return (self.observed - chance) / (1.0 - chance)

    def disagreements(self) -> dict[tuple[str, str], int]:
        """Return every cell off the diagonal as (first, second) -> count: the directions apart."""
        size = range(len(self.labels))
        return {(self.labels[i], self.labels[j]): self.counts[i][j] for i in size for j in size if i != j}

    def _classes(self) -> int:
        return sum(self.first(name) + self.second(name) > 0 for name in self.labels)


def chance_corrected(units: npt.ArrayLike, *, seed: int = 0) -> dict[str, tuple[float, float] | None]:
    """Return 95 % bootstrap intervals of `kappa` and `ac1` when whole units are drawn again.

    Args:
        units: (units, K, K) counts of each unit's pairs.
        seed: of the 2,000 resamples.

    Returns:
        An interval each; None below 30 units, or where more than one resample in 20 leaves the value undefined.
    """
    cells = np.asarray(units, float)
    if len(cells) < interval.MIN_UNITS:
        return {"kappa": None, "ac1": None}
    kinds, often = np.unique(cells.reshape(len(cells), -1), axis=0, return_counts=True)
    draws = generator(seed).multinomial(len(cells), often / len(cells), DRAWS)
    tables = (draws @ kinds).reshape(DRAWS, *cells.shape[1:])
    return {name: _middle(values) for name, values in zip(("kappa", "ac1"), _corrected(tables), strict=True)}


def _corrected(tables: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return kappa and AC1 of each table; NaN where not defined."""
    shares = tables / tables.sum(axis=(1, 2), keepdims=True)
    observed = np.trace(shares, axis1=1, axis2=2)
    first, second = shares.sum(axis=2), shares.sum(axis=1)
    mean = (first + second) / 2.0
    by_chance = (first * second).sum(axis=1)
    by_guess = (mean * (1.0 - mean)).sum(axis=1) / max(tables.shape[1] - 1, 1)
    several = (mean > 0.0).sum(axis=1) > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(several & (by_chance < 1.0), (observed - by_chance) / (1.0 - by_chance), np.nan)
        ac1 = np.where(several, (observed - by_guess) / (1.0 - by_guess), np.nan)
    return kappa, ac1


def _middle(values: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    known = values[np.isfinite(values)]
    if len(known) < 0.95 * len(values):
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def mcnemar(b: int, c: int) -> float:
    """Return the exact two-sided p-value that both kinds of discordant pairs are equally frequent.

    Example:
        >>> round(mcnemar(30, 12), 8)
        0.0079159
    """
    return 1.0 if b + c == 0 else min(1.0, 2.0 * float(special.bdtr(min(b, c), b + c, 0.5)))


def mcnemar_worse(b: int, c: int) -> float:
    """Return the exact one-sided p-value that b-pairs (first judge wrong alone) are the more frequent."""
    return 1.0 if b == 0 else float(special.bdtr(c, b + c, 0.5))


class Tango(msgspec.Struct, frozen=True):
    """Score test of "the first judge's error is larger by `margin` or more": z, nuisance q, one-sided p."""

    z: float
    q: float
    p: float


def tango(b: int, c: int, n: int, margin: float) -> Tango:
    """Test non-inferiority on n independent pairs, once, at a planned n; shown where p is below the level.

    Args:
        b: pairs where only the first judge is wrong.
        c: pairs where only the second judge is wrong.
        n: all pairs.
        margin: tolerated difference of error rates, in (0, 1).

    Example:
        >>> round(tango(30, 12, 1000, 0.05).z, 6)
        -4.026303
    """
    if n < 1 or b < 0 or c < 0 or b + c > n or not 0.0 < margin < 1.0:
        raise ValueError(f"need b + c <= n and 0 < margin < 1, not b={b}, c={c}, n={n}, margin={margin}")
    z = _tango_z(b, c, n, margin)
    return Tango(z, _nuisance(b, c, n, margin), float(special.ndtr(z)))


def _nuisance(b: float, c: float, n: float, margin: float) -> float:
    half = -b - c + (2 * n - b + c) * margin
    root = math.sqrt(half * half + 8.0 * n * c * margin * (1.0 - margin))
    return (root - half) / (4.0 * n)


def _tango_z(b: float, c: float, n: float, margin: float) -> float:
    q = _nuisance(b, c, n, margin)
    return (b - c - n * margin) / math.sqrt(n * (2.0 * q + margin * (1.0 - margin)))


def tango_needed(b: float, c: float, n: float, margin: float, *, risk: float = 0.05) -> int | None:
    """Return the smallest n at which `tango` would show non-inferiority at the rates b/n and c/n.

    None where no number suffices: the difference of the rates is not below the margin.
    """
    if n <= 0 or (b - c) / n >= margin:
        return None
    return _least(lambda m: _tango_z(b * m / n, c * m / n, m, margin) < special.ndtri(risk))


def betting_needed(
    x: npt.ArrayLike, weights: npt.ArrayLike, margin: float, *, least: float = 1.0, risk: float = 0.05
) -> int | None:
    """Return the smallest n at which more items like these would reach 1/risk, or None where none would.

    Arguments as in `betting_path`.
    """
    growth = _log_gains(x, weights, margin, least).mean(axis=1)
    if not len(np.atleast_1d(x)) or growth.max() <= 0.0:
        return None
    return _least(lambda n: float(special.logsumexp(n * growth)) - math.log(len(growth)) >= -math.log(risk))


def _log_gains(x: npt.ArrayLike, weights: npt.ArrayLike, margin: float, least: float) -> npt.NDArray[np.float64]:
    """Return (bets, n) what each item adds to the log of each bet."""
    gain = np.asarray(weights, float) * (np.asarray(x, float) - margin)
    eta = _BETS * least / (1.0 - margin)
    return np.asarray(np.log1p(-eta[:, None] * gain[None, :]))


def _least(enough: Callable[[int], bool], top: int = 10_000_000) -> int | None:
    if not enough(top):
        return None
    low = 0
    while top - low > 1:
        middle = (low + top) // 2
        low, top = (low, middle) if enough(middle) else (middle, top)
    return top


def betting_path(x: npt.ArrayLike, weights: npt.ArrayLike, margin: float, *, least: float = 1.0) -> float:
    """Return the largest log e-value that the bet of `tango_betting` reached along items in draw order.

    Args:
        x: (n,) +1 where only the first judge is wrong, -1 where only the second is, else 0.
        weights: (n,) 1 / (the item's chance of being read again) where that happened, else 0.
        margin: tolerated difference of error rates, in [0, 1).
        least: smallest chance of being read again of any item, in (0, 1], known beforehand.

    Returns:
        At least 0, the value before the first item; any look is fine.
    """
    total = np.cumsum(_log_gains(x, weights, margin, least), axis=1)
    path = special.logsumexp(total, axis=0) - math.log(len(total)) if total.size else np.zeros(0)
    return max(0.0, float(path.max(initial=0.0)))


def tango_betting(b: int, c: int, n: int, margin: float) -> float:
    """Return the log e-value against "the first judge's error is larger by `margin` or more"; any look is fine.

    Shown once it reaches `-log(delta)`; the largest value so far counts. Arguments as in `tango`.
    """
    if n < 0 or b < 0 or c < 0 or b + c > n or not 0.0 <= margin < 1.0:
        raise ValueError(f"need b + c <= n and 0 <= margin < 1, not b={b}, c={c}, n={n}, margin={margin}")
    return _betting(b, c, n, margin)


def _betting(b: float, c: float, n: float, margin: float) -> float:
    eta = _BETS / (1.0 - margin)
    log_e = b * np.log1p(-eta * (1.0 - margin)) + c * np.log1p(eta * (1.0 + margin))
    log_e += (n - b - c) * np.log1p(eta * margin)
    return float(special.logsumexp(log_e) - math.log(len(eta)))
