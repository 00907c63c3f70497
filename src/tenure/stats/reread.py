"""How often a judge is wrong when only some items were read again: strata apart, then joined.

Disagreements between model and person are nearly all read again, agreements by a small random share. Each
stratum's rate comes from its own re-read items; the strata are joined by their shares.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from tenure.stats import interval


class Stratum(msgspec.Struct, frozen=True):
    """Items with the same chance of being read again: how many there are, were read again, were wrong then."""

    items: int
    read: int
    wrong: int


class Rate(msgspec.Struct, frozen=True):
    """An error rate with its bounds.

    Attributes:
        estimate: None where a stratum with items has none that was read again.
        lower: the rate is at least this, with the confidence asked for; None as above.
        upper: the rate is at most this, with the confidence asked for; None as above.
        wrong: errors among the items read again.
        read: items read again.
    """

    estimate: float | None
    lower: float | None
    upper: float | None
    wrong: int
    read: int


def rate(strata: Sequence[Stratum], confidence: float = 0.95) -> Rate:
    """Return a judge's error rate over all items, each bound one-sided at `confidence`.

    The risk is split evenly over the strata's rates (exact bounds) and over the shares of all strata but the
    last (exact intervals), so S strata spend 2 S - 1 parts. Items are taken as independent.

    Example:
        >>> found = rate([Stratum(20, 20, 8), Stratum(180, 100, 0)])
        >>> round(found.estimate, 3), round(found.upper, 3)
        (0.04, 0.14)
    """
    held = [s for s in strata if s.items]
    wrong, read = sum(s.wrong for s in held), sum(s.read for s in held)
    if not held or any(s.read == 0 for s in held):
        return Rate(None, None, None, wrong, read)
    total = sum(s.items for s in held)
    estimate = sum(s.items / total * s.wrong / s.read for s in held)
    part = 1.0 - (1.0 - confidence) / (2 * len(held) - 1)
    lows = [interval.lower(s.wrong, s.read, part) for s in held]
    tops = [interval.upper(s.wrong, s.read, part) for s in held]
    splits = _splits([s.items for s in held], part)
    joined = [[_join(rates, split) for split in splits] for rates in (lows, tops)]
    return Rate(estimate, min(joined[0]), max(joined[1]), wrong, read)


def _splits(items: Sequence[int], confidence: float) -> list[tuple[float, ...]]:
    """Return the corners of the joint region of each stratum's share among itself and the later ones."""
    rest = [sum(items[i:]) for i in range(len(items) - 1)]
    limits = [interval.clopper_pearson(k, n, confidence) for k, n in zip(items, rest, strict=False)]
    return list(itertools.product(*limits))


def _join(rates: Sequence[float], split: Sequence[float]) -> float:
    found = rates[-1]
    for own, share in zip(reversed(rates[:-1]), reversed(split), strict=True):
        found = share * own + (1.0 - share) * found
    return found
