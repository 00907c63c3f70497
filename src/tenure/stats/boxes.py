"""Which box of one judge is which box of another: optimal one-to-one assignment by overlap."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.types import Box


class Pair(msgspec.Struct, frozen=True):
    """One box of `a` and one of `b` that cover the same place.

    Attributes:
        a: index into `a`.
        b: index into `b`.
        iou: intersection over union, in [threshold, 1].
        same_label: whether both say the same class.
    """

    a: int
    b: int
    iou: float
    same_label: bool


class Matching(msgspec.Struct, frozen=True):
    """Pairs in order of `a`, and the indices of the boxes of each side that nothing fits."""

    pairs: tuple[Pair, ...]
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Whether every box has a partner of the same class; true for two empty sides."""
        return not self.only_a and not self.only_b and all(pair.same_label for pair in self.pairs)


def match(a: Sequence[Box], b: Sequence[Box], *, iou: float = 0.5, labels: bool = True) -> Matching:
    """Pair boxes one to one: as many pairs as possible, and among those the largest sum of overlaps.

    The same input gives the same pairs. Swapping the sides gives as many pairs and the same sum.

    Args:
        a: boxes of the first judge.
        b: boxes of the second judge, in pixels of the same picture.
        iou: smallest intersection over union of a pair, in (0, 1].
        labels: pair only boxes of the same class; False pairs by place alone and reports the class.

    Raises:
        ValueError: when `iou` is not in (0, 1].
    """
    if not 0.0 < iou <= 1.0:
        raise ValueError(f"iou must be in (0, 1], not {iou}")
    overlap = overlaps(a, b)
    same = np.array([[x.label == y.label for y in b] for x in a], dtype=bool).reshape(len(a), len(b))
    allowed = (overlap >= iou) & (same if labels else True)
    from scipy.optimize import (
        linear_sum_assignment,
    )  # a third of the controller's start, for those with boxes only

    # A pair is worth more than all overlaps together, so the number of pairs counts first.
    worth = np.where(allowed, 1.0 + overlap / (min(len(a), len(b)) + 1.0), 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    chosen = [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if allowed[i, j]]
    pairs = tuple(Pair(i, j, float(overlap[i, j]), bool(same[i, j])) for i, j in sorted(chosen))
    return Matching(pairs, _rest(len(a), {p.a for p in pairs}), _rest(len(b), {p.b for p in pairs}))


def overlaps(a: Sequence[Box], b: Sequence[Box]) -> npt.NDArray[np.float64]:
    """Return the (len(a), len(b)) intersection over union; a box without area overlaps nothing."""
    left, right = _corners(a)[:, None, :], _corners(b)[None, :, :]
    low, high = np.maximum(left[..., :2], right[..., :2]), np.minimum(left[..., 2:], right[..., 2:])
    common = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    union = _areas(left) + _areas(right) - common
    shared = np.divide(common, union, out=np.zeros_like(common), where=union > 0.0)
    return np.asarray(np.minimum(shared, 1.0))


def _corners(boxes: Sequence[Box]) -> npt.NDArray[np.float64]:
    return np.array([(x.x1, x.y1, x.x2, x.y2) for x in boxes], dtype=np.float64).reshape(len(boxes), 4)


def _areas(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.prod(np.clip(corners[..., 2:] - corners[..., :2], 0.0, None), axis=-1))


def _rest(count: int, taken: set[int]) -> tuple[int, ...]:
    return tuple(i for i in range(count) if i not in taken)
