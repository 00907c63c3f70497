"""Challenger against champion on one frozen set: not worse by more than the margin, no watched slice worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.stats import special
from tenure.stats.agreement import mcnemar_worse, tango
from tenure.stats.certificate import betting_steps, mixed
from tenure.stats.means import clustered_mean

MIN_PAIRS = 200
"""Below this many pairs the score test's level is not kept at small discordance (simulated)."""

MIN_UNITS = 30
MIN_DISCORDANT = 6

Verdict = Literal["not worse", "not shown", "too few"]
SliceVerdict = Literal["worse", "not shown worse", "too few"]


class Comparison(msgspec.Struct, frozen=True):
    """The verdict on the whole set.

    Attributes:
        verdict: `not worse` = shown not to be worse by more than the margin.
        p: one-sided p-value; None when too few.
        level: what it had to fall below, after earlier candidates on this set.
        difference: challenger's error minus champion's.
        n: pairs, or units where items come in units.
    """

    verdict: Verdict
    p: float | None
    level: float
    difference: float
    n: int


def attempt_level(delta: float, attempt: int) -> float:
    """Return the level of the k-th candidate on one frozen set; all levels together spend `delta`."""
    if attempt < 1:
        raise ValueError(f"attempt is {attempt}; the first candidate on a set has attempt 1")
    return delta * 6.0 / (math.pi**2 * attempt**2)


def compare(b: int, c: int, n: int, *, margin: float, delta: float = 0.05, attempt: int = 1) -> Comparison:
    """Compare on n independent cases by Tango's test, one look.

    Args:
        b: cases that only the challenger gets wrong.
        c: cases that only the champion gets wrong.
        n: all cases.
        margin: tolerated increase of the error rate.
        delta: chance that a worse challenger passes, over all candidates on this set.
        attempt: 1 for the first candidate on this set, and so on.
    """
    level = attempt_level(delta, attempt)
    difference = (b - c) / n if n else 0.0
    if n < MIN_PAIRS:
        return Comparison("too few", None, level, difference, n)
    p = tango(b, c, n, margin).p
    return Comparison("not worse" if p < level else "not shown", p, level, difference, n)


def compare_units(
    items: npt.ArrayLike, differences: npt.ArrayLike, *, margin: float, delta: float = 0.05, attempt: int = 1
) -> Comparison:
    """Compare where several items share a unit: paired mean with standard error over units, one look.

    Args:
        items: (units,) items of each unit.
        differences: (units,) challenger's errors minus champion's, summed over the unit.
        margin: tolerated increase of the error rate.
        delta: as in `compare`.
        attempt: as in `compare`.
    """
    level = attempt_level(delta, attempt)
    mean = clustered_mean(items, differences)
    units = int(np.size(items))
    if mean is None or units < MIN_UNITS:
        return Comparison("too few", None, level, mean.value if mean else 0.0, units)
    gap = mean.value - margin
    if mean.variance == 0.0:  # every unit alike: the margin itself decides nothing about chance
        return Comparison("too few", None, level, mean.value, units)
    p = float(special.ndtr(gap / math.sqrt(mean.variance)))
    return Comparison("not worse" if p < level else "not shown", p, level, mean.value, units)


def compare_losses(
    differences: npt.ArrayLike, *, margin: float, delta: float = 0.05, attempt: int = 1
) -> Comparison:
    """Compare losses between 0 and 1 on n independent cases by bets on their differences, exact at any n.

    The null is "the challenger's mean loss is higher by at least `margin`"; the largest wealth in the order given
    counts, so that the p-value also holds for a set that grows.

    Args:
        differences: (n,) challenger's loss minus champion's, in [-1, 1], oldest case first.
        margin: tolerated increase of the mean loss.
        delta: as in `compare`.
        attempt: as in `compare`.

    Source: Waudby-Smith and Ramdas, 2010.09686.
    """
    level, found = attempt_level(delta, attempt), np.asarray(differences, float)
    mean = float(found.mean()) if len(found) else 0.0
    if len(found) < MIN_PAIRS:
        return Comparison("too few", None, level, mean, len(found))
    steps = betting_steps((found + 1.0) / 2.0, np.ones(len(found)), (1.0 + margin) / 2.0)
    p = math.exp(-max(0.0, float(mixed(steps.cumsum(axis=0)).max())))
    return Comparison("not worse" if p < level else "not shown", p, level, mean, len(found))


def slices(pairs: Mapping[str, tuple[int, int]], alpha: float = 0.05) -> dict[str, SliceVerdict]:
    """Judge slices chosen beforehand by exact one-sided McNemar tests with Holm's correction.

    Args:
        pairs: slice -> (b, c): cases that only the challenger, only the champion gets wrong.
        alpha: chance that any slice is called worse wrongly.
    """
    enough = [s for s, (b, c) in pairs.items() if _enough(b + c, alpha / len(pairs))]
    rejected = holm([mcnemar_worse(*pairs[s]) for s in enough], alpha)
    worse = {s for s, hit in zip(enough, rejected, strict=True) if hit}
    return {s: "worse" if s in worse else "not shown worse" if s in enough else "too few" for s in pairs}


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Return which hypotheses are rejected by Holm's step-down procedure (1979).

    Example:
        >>> holm([0.001, 0.02, 0.04], 0.05)
        [True, True, True]
    """
    rejected = [False] * len(p_values)
    for step, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] > alpha / (len(p_values) - step):
            break
        rejected[i] = True
    return rejected


def _enough(discordant: int, level: float) -> bool:
    return discordant >= MIN_DISCORDANT and 0.5**discordant <= level
