"""What a model's code returned, made into a checked `Prediction` or a reason why it cannot be one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from tenure.types import Box, Failed, Prediction

ROUNDING = 1e-6
"""A confidence so little outside [0, 1] is float32 rounding and is moved to the bound."""
_BITS_OF_1 = 0x3F800000


class Scores(Sequence[Prediction]):
    """The answers of a classifier for a batch as arrays: a list of predictions that is made when it is read.

    Attributes:
        labels: the classes.
        probabilities: (n, labels) float32 in [0, 1]; read-only.
        best: (n,) index of the most probable label.
        confidence: (n,) float32, its probability.
    """

    __slots__ = ("best", "confidence", "labels", "probabilities")

    def __init__(self, labels: Sequence[str], probabilities: npt.NDArray[np.float32]) -> None:
        self.labels = tuple(labels)
        self.probabilities = probabilities
        self.best = probabilities.argmax(axis=1)
        self.confidence = np.maximum.reduce(probabilities, axis=1)

    def __len__(self) -> int:
        return len(self.probabilities)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Scores: ...
    def __getitem__(self, index: int | slice) -> Prediction | Scores:
        if isinstance(index, slice):
            return Scores(self.labels, self.probabilities[index])
        chances = self.probabilities[index].tolist()
        best = int(self.best[index])
        return Prediction(self.labels[best], chances[best], dict(zip(self.labels, chances, strict=True)))

    def select(self, indices: Sequence[int]) -> Scores:
        """Return the answers with these numbers, in this order."""
        return Scores(self.labels, self.probabilities[np.asarray(indices, np.intp)])

    @staticmethod
    def of(labels: Sequence[str], probabilities: npt.NDArray[Any]) -> Scores | list[Prediction | Failed]:
        """Return scores; where a probability is no number in [0, 1], a list in which that item failed.

        Args:
            labels: the classes.
            probabilities: (n, labels); rounding beyond [0, 1] by at most `ROUNDING` is moved to the bound.
        """
        made = np.ascontiguousarray(probabilities, dtype=np.float32)
        # As whole numbers the bits of a float32 are at most those of 1.0 just where it lies in [0, 1] (IEEE 754):
        # one pass, which also finds what is negative or no number.
        if np.maximum.reduce(made.view(np.uint32), axis=None, initial=0) <= _BITS_OF_1:
            return Scores(labels, made)
        good = np.all((made >= -ROUNDING) & (made <= 1 + ROUNDING), axis=1)
        scores = Scores(labels, made.clip(0.0, 1.0))
        if good.all():
            return scores
        return [
            p if ok else Failed("the model's probabilities are no numbers in [0, 1]")
            for p, ok in zip(scores, list(good), strict=True)
        ]


def as_prediction(answer: Any) -> Prediction | Failed:
    """Return a prediction with plain Python values, or `Failed` with what is wrong.

    A bare value becomes a prediction without confidence. NaN or infinity anywhere, and a confidence or
    probability outside [0, 1], fail the item.
    """
    if isinstance(answer, Failed):
        return answer
    try:
        if not isinstance(answer, Prediction):
            return Prediction(_value(answer))
        return Prediction(
            _value(answer.value),
            _chance(answer.confidence, "confidence"),
            _probabilities(answer.probabilities),
            tuple(_box(box) for box in answer.regions),
            _contributions(answer.contributions),
        )
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        return Failed(f"not a valid prediction: {error}"[:500])


def close(one: Prediction, other: Prediction, tolerance: float = 1e-3) -> bool:
    """Say whether two predictions are the same up to `tolerance`, relative above 1 and absolute below."""
    if len(one.regions) != len(other.regions):
        return False
    if set(one.probabilities or ()) != set(other.probabilities or ()):
        return False
    pairs: list[tuple[Any, Any]] = [(one.value, other.value), (one.confidence, other.confidence)]
    pairs += [(p, (other.probabilities or {})[label]) for label, p in (one.probabilities or {}).items()]
    for a, b in zip(one.regions, other.regions, strict=True):
        pairs += [(a.x1, b.x1), (a.y1, b.y1), (a.x2, b.x2), (a.y2, b.y2)]
        pairs += [(a.label, b.label), (a.confidence, b.confidence)]
    return all(_same(a, b, tolerance) for a, b in pairs)


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        if not isinstance(a, int | float) or not isinstance(b, int | float):
            return False
        return abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))
    return bool(a == b)


def _value(value: Any) -> str | int | float | bool | None:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the value is {value}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("the value does not fit 64 bits")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"expected a Prediction, text, number or truth value, got {type(value).__name__}")


def _chance(value: Any, what: str) -> float | None:
    return None if value is None else _in_unit(value, what)


def _in_unit(value: Any, what: str) -> float:
    number = float(value)
    if not -ROUNDING <= number <= 1 + ROUNDING:  # false for NaN, too
        raise ValueError(f"{what} must be in [0, 1], got {number}")
    return min(1.0, max(0.0, number))


def _probabilities(given: Any) -> dict[str, float] | None:
    if given is None:
        return None
    return {str(label): _in_unit(p, f"probability of {label}") for label, p in given.items()}


def _contributions(given: Any) -> dict[str, float] | None:
    """Return finite numbers by field; what is none is left out, since an answer is good without its reasons."""
    if given is None:
        return None
    numbers = {str(name): float(value) for name, value in given.items()}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _box(box: Any) -> Box:
    if not isinstance(box, Box):
        raise TypeError(f"expected a Box among the regions, got {type(box).__name__}")
    x1, y1, x2, y2 = (float(c) for c in (box.x1, box.y1, box.x2, box.y2))
    if not all(math.isfinite(c) for c in (x1, y1, x2, y2)):
        raise ValueError("a region's corners must be finite")
    return Box(x1, y1, x2, y2, str(box.label), _chance(box.confidence, "a region's confidence"))
