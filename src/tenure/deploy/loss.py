"""What "wrong" means: the loss of one answer against the truth, in [0, 1], as the project file says it.

Without a word in the project an answer is wrong when its value differs. `tolerance` is for numbers, `iou` for
boxes, `word_error` for text; `costs` weighs the mistakes, scaled to the dearest one.
"""

from __future__ import annotations

import json
import math

import msgspec

from tenure.scope.project import LossSpec
from tenure.stats import boxes, words
from tenure.types import Box, Value

Stored = tuple[str, str | None]
"""A value and its boxes as JSON texts."""

EQUAL = LossSpec()
"""Right or wrong by equality."""


class Said(msgspec.Struct, frozen=True):
    """One answer or one truth: a value, and boxes where the answer carries some."""

    value: Value
    regions: tuple[Box, ...] = ()


def of(spec: LossSpec, truth: Said, said: Said) -> float:
    """Return the loss of `said` in [0, 1]: 0 is right, 1 is the worst mistake.

    Example:
        >>> of(LossSpec(tolerance=0.5), Said(3.0), Said(3.4)), of(LossSpec(tolerance=0.5), Said(3.0), Said(4.0))
        (0.0, 1.0)
    """
    if spec.iou is not None:
        return float(not boxes.match(truth.regions, said.regions, iou=spec.iou, labels=True).equal)
    if spec.tolerance is not None:
        return float(not _near(truth.value, said.value, spec.tolerance))
    if spec.word_error is not None:
        return float(not _alike(truth.value, said.value, spec.word_error))
    if spec.costs:
        return _cost(spec, truth.value, said.value)
    return float(truth.value != said.value)


def stored(value: str, regions: str | None) -> Said:
    """Return what the control state's JSON texts of a value and its boxes say."""
    found = msgspec.json.decode(regions, type=tuple[Box, ...] | None) if regions else None
    return Said(json.loads(value), found or ())


def wrong(spec: LossSpec, truth: Stored, said: Stored) -> bool:
    """Say whether an answer is a mistake, of whatever price, from the control state's JSON texts.

    Args:
        spec: what wrong means.
        truth: value and boxes of the truth.
        said: those of the answer.
    """
    if spec.iou is None and truth[0] == said[0]:
        return False  # the same text is the same value: most answers, without reading them
    return of(spec, stored(*truth), stored(*said)) > 0


def bounded(spec: LossSpec) -> bool:
    """Say whether losses between 0 and 1 occur; else every answer is right or wrong."""
    dearest = _dearest(spec)
    return any(cost not in (0.0, dearest) for row in spec.costs.values() for cost in row.values())


def words_of(spec: LossSpec) -> str:
    """Say in words what counts as wrong."""
    if spec.iou is not None:
        return f"a box missed, false or of another class (overlap below {spec.iou:g})"
    if spec.tolerance is not None:
        return f"off by more than {spec.tolerance:g}"
    if spec.word_error is not None:
        return f"more than {100 * spec.word_error:g} % of the words wrong"
    if spec.costs:
        return f"cost of mistakes, in parts of the dearest ({_dearest(spec):g})"
    return "another value than the truth"


def _near(truth: Value, said: Value, tolerance: float) -> bool:
    if isinstance(truth, bool) or isinstance(said, bool):
        return False
    if not isinstance(truth, int | float) or not isinstance(said, int | float):
        return False
    # NaN and infinities compare as false: an answer that is no number is wrong.
    return math.isfinite(said) and abs(truth - said) <= tolerance


def _alike(truth: Value, said: Value, most: float) -> bool:
    if not isinstance(truth, str) or not isinstance(said, str):
        return truth == said
    found = words.errors(truth, said)
    return found.rate <= most if found.rate is not None else not found.inserted


def _cost(spec: LossSpec, truth: Value, said: Value) -> float:
    if truth == said:
        return 0.0
    dearest = _dearest(spec)
    # A mistake that nobody priced is as dear as the dearest: a claim may be too careful, never too bold.
    return spec.costs.get(str(truth), {}).get(str(said), dearest) / dearest


def _dearest(spec: LossSpec) -> float:
    return max((cost for row in spec.costs.values() for cost in row.values()), default=1.0)
