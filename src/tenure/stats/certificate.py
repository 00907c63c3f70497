"""Certificates: "errors among automated answers are below the bound", valid however often one looks.

The labels come in a fixed order; per threshold only the counts (n labelled, k wrong) matter. The null "the
error rate is at least the bound" is tested by a Beta mixture over smaller rates, the thresholds are combined by
a fallback procedure with several starts (Wiens & Dmitrienko 2005; Angelopoulos et al., Learn then Test), and the
running maximum of each e-value counts. Everything is in natural logs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.stats import special

Floats = npt.NDArray[np.float64]

STARTS = 4
"""Starts of the fallback procedure where enough labels are planned."""

FEW_LABELS = 2.5
"""Below so many times the least labels that four starts need, one start holds the whole delta."""

_BETS: Floats = np.array([0.02, 0.1, 0.3, 0.6, 0.95])
_REVOKE_PRIOR = (1.0, 40.0)
_TINY = 1e-280


def certify_log_e(n: float, k: float, bound: float) -> float:
    """Return the log e-value against "the error rate is at least `bound`" after k errors in n labels.

    Example:
        >>> round(math.exp(certify_log_e(299, 0, 0.01)), 4)
        12.6797
    """
    return float(certify_log_es(np.array([n], float), np.array([k], float), bound)[0])


def certify_log_es(n: Floats, k: Floats, bound: float) -> Floats:
    """Return `certify_log_e` for arrays of counts."""
    _check(n, k, bound)
    return _beta_log_e(n, k, bound, prior=(0.5, 1.5 / bound), below=True)


def revoke_log_e(n: float, k: float, bound: float) -> float:
    """Return the log e-value against "the error rate is at most `bound`"; revoke at `-log(delta)`.

    Example:
        >>> round(math.exp(revoke_log_e(100, 5, 0.01)), 4)
        27.5149
    """
    return float(revoke_log_es(np.array([n], float), np.array([k], float), bound)[0])


def revoke_log_es(n: Floats, k: Floats, bound: float) -> Floats:
    """Return `revoke_log_e` for arrays of counts."""
    _check(n, k, bound)
    return _beta_log_e(n, k, bound, prior=_REVOKE_PRIOR, below=False)


def make_grid(
    scores: Sequence[float],
    *,
    bound: float,
    delta: float,
    planned: int,
    size: int = 50,
    starts: int = STARTS,
) -> list[float]:
    """Fix the thresholds to be tried, from unlabelled scores and the planned number of labels.

    The shares of the scores at or above the thresholds run evenly to 1. The first is 1.6 times the least share
    that the planned labels can certify without an error.

    Args:
        scores: confidences in [0, 1] of unlabelled items.
        bound: on the error rate.
        delta: chance that the lineage may claim too much.
        planned: labels planned; never the labels seen.
        size: thresholds at most; ties make fewer.
        starts: starts of the fallback procedure.

    Returns:
        Thresholds, safest (highest) first; the last is 0.0, everything.
    """
    values = np.asarray(scores, float)
    if not len(values) or not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("scores must be at least one confidence in [0, 1]")
    least = labels_needed(bound, delta, 0.0, starts=starts)
    first = min(0.95, 1.6 * (least or planned) / max(planned, 1))
    shares = np.linspace(first, 1.0, size)[:-1]
    cuts = np.quantile(values, 1.0 - shares, method="lower")
    return [float(c) for c in np.unique(cuts[cuts > 0.0])[::-1]] + [0.0]


def planned_starts(planned: int, *, bound: float, delta: float) -> int:
    """Return how many starts fit the planned number of labels; never the labels seen."""
    least = labels_needed(bound, delta, 0.0)
    return 1 if least is None or planned < FEW_LABELS * least else STARTS


def even_starts(size: int, count: int = STARTS) -> tuple[int, ...]:
    """Return the indices of starts that are spaced evenly over the thresholds."""
    return tuple(int(j) for j in np.linspace(0, size - 1, count)) if size else ()


def geometric_starts(grid: Sequence[float], scores: Sequence[float], count: int = STARTS) -> tuple[int, ...]:
    """Return the indices of starts whose shares of the scores grow by one factor, from the first to everything.

    Where errors are rare only among the surest, the starts lie closer there; each start can hand its budget on
    only to bolder thresholds.

    Example:
        >>> geometric_starts([0.9, 0.8, 0.5, 0.0], [0.05, 0.3, 0.35, 0.55, 0.6, 0.65, 0.7, 0.75, 0.85, 0.95], 3)
        (0, 1, 3)
    """
    values = np.asarray(scores, float)
    shares = np.array([(values >= cut).mean() for cut in grid])
    wanted = np.geomspace(shares[0], 1.0, count)
    return tuple(int(np.abs(np.log(shares / share)).argmin()) for share in wanted)


def valid_set(p_values: Sequence[float] | Floats, delta: float, starts: Sequence[int]) -> list[int]:
    """Return the indices of the certified thresholds; the last is the boldest.

    Args:
        p_values: of the thresholds, safest first.
        delta: chance of any false member, under any dependence.
        starts: indices that hold delta / len(starts) each, fixed before the first label; one may be named twice.
            A rejected threshold hands its budget to the next.

    Example:
        >>> valid_set([0.01, 0.04, 0.012, 0.2], 0.05, starts=(0, 3))
        [0]
    """
    given = np.zeros(len(p_values))
    if len(given):
        np.add.at(given, list(starts), delta / len(starts))
    valid, carry = [], 0.0
    for j, p in enumerate(p_values):
        budget = given[j] + carry
        carry = budget if budget > 0.0 and p <= budget else 0.0
        if carry:
            valid.append(j)
    return valid


def labels_needed(
    bound: float, delta: float, rate: float, *, starts: int = STARTS, limit: int = 100_000
) -> int | None:
    """Return how many labels of automated items certify at this error rate, or None above `limit`.

    Counts labels at one threshold that is a start of the fallback procedure.

    Example:
        >>> labels_needed(0.01, 0.05, 0.0, starts=1), labels_needed(0.01, 0.05, 0.0)
        (350, 501)
    """
    if rate >= bound:
        return None
    goal = -math.log(delta / starts)

    def enough(n: int) -> bool:
        return certify_log_e(n, rate * n, bound) >= goal

    low, high = 0, 1
    while not enough(high):
        if high >= limit:
            return None
        low, high = high, min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


class Drawn(msgspec.Struct, frozen=True):
    """Labelled items that shared one known chance `pi` of being labelled: n labels, k wrong."""

    pi: float
    n: int
    k: int


class WeightedCertificate(msgspec.Struct, frozen=True):
    """Evidence from labels drawn with unequal, known chances.

    Attributes:
        bound: on the error rate among all eligible items.
        floor: least chance of a label that any eligible item has, above 0.
        cells: counts per chance.
    """

    bound: float
    floor: float
    cells: tuple[Drawn, ...] = ()

    def add(self, pi: float, wrong: bool) -> WeightedCertificate:
        """Return the evidence with one more labelled item."""
        old = next((c for c in self.cells if c.pi == pi), Drawn(pi, 0, 0))
        rest = tuple(c for c in self.cells if c.pi != pi)
        cells = (*rest, Drawn(pi, old.n + 1, old.k + int(wrong)))
        return WeightedCertificate(self.bound, self.floor, cells)

    def log_e(self) -> float:
        """Return the log e-value against "the error rate is at least the bound"."""
        return weighted_log_e(self.cells, bound=self.bound, floor=self.floor)


def weighted_log_e(cells: Sequence[Drawn], *, bound: float, floor: float) -> float:
    """Return the log e-value of inverse-probability weighted bets; unlabelled items leave it unchanged.

    Raises:
        ValueError: an item's chance is below `floor`, which forbids the claim.
    """
    if floor <= 0.0 or any(c.pi < floor for c in cells):
        raise ValueError(f"every item needs a chance of at least {floor} > 0 of being labelled")
    eta = _BETS * floor / (1.0 - bound)
    total = np.zeros(len(eta))
    for c in cells:
        total += c.k * np.log1p(-eta * (1.0 - bound) / c.pi)
        total += (c.n - c.k) * np.log1p(eta * bound / c.pi)
    return float(special.logsumexp(total) - math.log(len(eta)))


def betting_steps(losses: Floats, chances: Floats, bound: float, floor: float = 1.0) -> Floats:
    """Return the log factors, one row per label, one column per bet, against "the mean loss is at least `bound`".

    Args:
        losses: in [0, 1].
        chances: of each label of having been drawn, at least `floor`.
        bound: on the mean loss of all eligible items.
        floor: least chance of any eligible item.

    Source: Waudby-Smith and Ramdas, 2010.09686; Xu, Karampatziakis and Mineiro, 2406.10490.
    """
    _check_losses(losses)
    if floor <= 0.0 or (chances < floor).any():
        raise ValueError(f"every item needs a chance of at least {floor} > 0 of being labelled")
    eta = _BETS * floor / (1.0 - bound)
    return np.asarray(np.log1p(-np.multiply.outer((losses - bound) / chances, eta)))


def revoking_steps(losses: Floats, bound: float) -> Floats:
    """Return the log factors, one row per label, against "the mean loss is at most `bound`"."""
    _check_losses(losses)
    return np.asarray(np.log1p(np.multiply.outer(losses - bound, _BETS / bound)))


def mixed(totals: Floats) -> Floats:
    """Return the log of the mean over the bets (last axis) of their log wealth."""
    return np.asarray(special.logsumexp(totals, axis=-1) - math.log(len(_BETS)))


def _check_losses(losses: Floats) -> None:
    if ((losses < 0.0) | (losses > 1.0)).any():
        raise ValueError("losses must lie in [0, 1]")


def bounded_loss_log_e(losses: Sequence[float], bound: float) -> float:
    """Return the log e-value against "the mean loss is at least `bound`" for losses in [0, 1]."""
    values = np.asarray(losses, float)
    return float(mixed(betting_steps(values, np.ones(len(values)), bound).sum(axis=0)))


def _beta_log_e(n: Floats, k: Floats, bound: float, *, prior: tuple[float, float], below: bool) -> Floats:
    """Return log of the mean of L(rate)/L(bound) over the Beta prior cut to one side of the bound."""
    p, q = prior
    mass = special.betainc if below else special.betaincc
    a, b = p + k, q + n - k
    part = mass(a, b, bound)
    with np.errstate(divide="ignore"):
        top = special.betaln(a, b) + np.log(part)
    tiny = part < _TINY
    if tiny.any():
        # There the integral sits at the bound and its series converges fast.
        if below:
            top[tiny] = _log_partial_beta(a[tiny], b[tiny], bound)
        else:
            top[tiny] = _log_partial_beta(b[tiny], a[tiny], 1.0 - bound)
    bottom = special.betaln(p, q) + math.log(mass(p, q, bound))
    return np.asarray(top - bottom - k * math.log(bound) - (n - k) * math.log1p(-bound))


def _log_partial_beta(a: Floats, b: Floats, x: float) -> Floats:
    """Return log of the integral of t^(a-1) (1-t)^(b-1) over [0, x] (DLMF 8.17.8)."""
    term, total, i = np.ones_like(a), np.ones_like(a), 0.0
    while (term > total * 1e-15).any():
        term = term * (a + b + i) / (a + 1.0 + i) * x
        total = total + term
        i += 1.0
    return np.asarray(a * math.log(x) + b * math.log1p(-x) - np.log(a) + np.log(total))


def _check(n: Floats, k: Floats, bound: float) -> None:
    if not 0.0 < bound < 1.0 or ((k < 0) | (k > n)).any():
        raise ValueError(f"need 0 < bound < 1 and 0 <= k <= n, not bound={bound}, n={n}, k={k}")
