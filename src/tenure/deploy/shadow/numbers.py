"""Numbers: bias, limits of agreement, concordance, and the share within tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from tenure.deploy.shadow.cases import Case, Said, independent
from tenure.deploy.shadow.classes import Share, of_units
from tenure.stats import bland_altman
from tenure.stats.bland_altman import Differences

POINTS = 1000


class Regression(msgspec.Struct, frozen=True, tag="regression"):
    """Numbers of both judges.

    Attributes:
        tolerance: the largest difference that counts as the same.
        within: share of items within it.
        usable: items where both said a finite number.
        differences: model minus person on one item of each unit; None with fewer than two.
        model: model minus truth, of the items read again, one of each unit.
        person: person minus truth, the same items.
        points: (model, person) of at most 1,000 items, evenly spread over the draw order.
    """

    tolerance: float
    within: Share
    usable: int
    differences: Differences | None
    model: Differences | None
    person: Differences | None
    points: tuple[tuple[float, float], ...]


def within(a: Said, b: Said, tolerance: float) -> bool:
    """Say whether two numbers differ by at most `tolerance`; what is no finite number equals nothing."""
    x, y = number(a), number(b)
    return x is not None and y is not None and abs(x - y) <= tolerance


def measure(cases: Sequence[Case], tolerance: float) -> Regression:
    """Compare the numbers of both judges."""
    apart = independent(cases)
    read = [c for c in apart if c.truth is not None]
    shown = [p for c in apart if None not in (p := (number(c.model), number(c.person)))]
    step = max(1, math.ceil(len(shown) / POINTS))
    return Regression(
        tolerance,
        of_units(cases, lambda c: within(c.model, c.person, tolerance)),
        sum(number(c.model) is not None and number(c.person) is not None for c in cases),
        _differences([(c.model, c.person) for c in apart]),
        _differences([(c.model, c.truth) for c in read if c.truth is not None]),
        _differences([(c.person, c.truth) for c in read if c.truth is not None]),
        tuple((x, y) for x, y in shown[::step] if x is not None and y is not None),
    )


def number(said: Said) -> float | None:
    """Return a finite number, or None."""
    value = said.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _differences(pairs: Sequence[tuple[Said, Said]]) -> Differences | None:
    known = [(x, y) for a, b in pairs if (x := number(a)) is not None and (y := number(b)) is not None]
    return bland_altman.differences([x for x, _ in known], [y for _, y in known])
