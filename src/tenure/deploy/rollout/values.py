"""Values that mean gates compare: capped, counted in whole steps of a grid, and gathered by unit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.scope.project import GateSpec
from tenure.stats.means import Sums, row_sums

STEPS = 1_000_000
"""Whole steps from a gate's floor to its cap."""

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Part(msgspec.Struct, frozen=True):
    """What a batch adds to one unit of one arm: n rows whose values are y grid steps in all."""

    unit: str
    epoch: int
    candidate: bool
    n: int
    y: int


class Values(msgspec.Struct, frozen=True):
    """What a batch says about one mean; pairs are (candidate, stable).

    Attributes:
        rows: sums of the rows that were drawn by themselves.
        units: the others, each unit and epoch once.
        capped: rows beyond the floor or the cap.
        absent: rows without a value.
    """

    rows: tuple[Sums, Sums] = (Sums(), Sums())
    units: tuple[Part, ...] = ()
    capped: tuple[int, int] = (0, 0)
    absent: tuple[int, int] = (0, 0)


def scale(spec: GateSpec) -> float:
    """Return one grid step in the value's own unit."""
    return ((1.0 if spec.cap is None else spec.cap) - spec.floor) / STEPS


def logged(spec: GateSpec, columns: Mapping[str, npt.NDArray[Any]]) -> Floats | None:
    """Return the value of each logged prediction, NaN where it has none; None for what clients send later."""
    if spec.mean == "latency_ms":
        return np.asarray(columns["latency_us"] / 1000.0)
    return columns[spec.mean].astype(np.float64) if spec.mean in ("number", "confidence") else None


def on_grid(spec: GateSpec, values: Floats) -> tuple[npt.NDArray[np.int64], Mask, Mask]:
    """Return each value in whole steps, which there are, and which lie beyond the floor or the cap."""
    there = ~np.isnan(values)
    low, high = spec.floor, spec.floor + scale(spec) * STEPS
    clipped = np.clip(np.where(there, values, low), low, high)
    steps = np.rint((clipped - low) / scale(spec)).astype(np.int64)
    return steps, there, there & ((values < low) | (values > high))


def gather(
    spec: GateSpec, values: Floats, candidate: Mask, *, units: Sequence[str], epochs: Iterable[int]
) -> Values:
    """Return what values say, by arm and unit.

    Args:
        spec: says floor and cap.
        values: (rows,) NaN where there is none.
        candidate: (rows,) whether the candidate answered.
        units: one per row; the empty text where the row was drawn by itself.
        epochs: one per row; 0 where a unit is drawn once.
    """
    steps, there, capped = on_grid(spec, values)
    alone = there & np.array([not unit for unit in units], bool)
    found: dict[tuple[str, int, bool], list[int]] = {}
    for i, (unit, epoch) in enumerate(zip(units, epochs, strict=True)):
        if unit and there[i]:
            both = found.setdefault((unit, epoch, bool(candidate[i])), [0, 0])
            both[0] += 1
            both[1] += int(steps[i])
    return Values(
        rows=(row_sums(steps[alone & candidate]), row_sums(steps[alone & ~candidate])),
        units=tuple(Part(unit, epoch, arm, n, y) for (unit, epoch, arm), (n, y) in found.items()),
        capped=(int((capped & candidate).sum()), int((capped & ~candidate).sum())),
        absent=(int((~there & candidate).sum()), int((~there & ~candidate).sum())),
    )
