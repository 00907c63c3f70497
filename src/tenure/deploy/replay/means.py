"""The sums of mean gates in a replay: what a rollout keeps in its tables, from re-weighted answers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

from tenure.deploy.rollout.counts import Moments
from tenure.deploy.rollout.values import on_grid
from tenure.scope.project import GateSpec
from tenure.stats.means import Sums, unit_sums

WEIGHT = 1000
"""Rows that one answer stands for where its chance to be in the log is 1 and others' was less."""

Array = npt.NDArray[Any]
_Unit = tuple[int, int]


class Means:
    """Sums by step, gate and arm. An answer with chance p to be in the log stands for 1/p requests."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, str, int], Sums] = defaultdict(Sums)
        self._beyond: dict[tuple[int, str, int], list[int]] = defaultdict(lambda: [0, 0])
        self._units: dict[tuple[int, str, int], dict[_Unit, tuple[int, int]]] = defaultdict(dict)

    def add(
        self,
        spec: GateSpec,
        name: str,
        step: int,
        *,
        values: Array,
        hit: Array,
        chance: Array,
        units: list[_Unit],
    ) -> None:
        """Add answers of one step.

        Args:
            spec: the gate, with its floor and cap.
            name: what it is called, with its slice.
            step: number of the step.
            values: (rows,) of the drawn version's answer, NaN where it has none.
            hit: (rows,) whether that is the candidate's.
            chance: (rows,) of such an answer to be in the log.
            units: (unit, epoch) of each row; a unit of 0 was drawn by itself.
        """
        steps, there, capped = on_grid(spec, values)
        weights = np.rint(WEIGHT / chance).astype(np.int64)
        for i, (arm, n, y) in enumerate(zip(hit.tolist(), weights.tolist(), steps.tolist(), strict=True)):
            key = (step, name, int(arm))
            self._beyond[key][0] += int(capped[i])
            self._beyond[key][1] += int(not there[i])
            if there[i]:
                self._one(key, units[i], n, n * y)

    def moments(self) -> list[Moments]:
        """Return the sums so far, as the judge takes them."""
        return [
            Moments(step=step, gate=name, arm=arm, sums=sums, capped=self._beyond[step, name, arm][0],
                    absent=self._beyond[step, name, arm][1])
            for (step, name, arm), sums in sorted(self._sums.items())
        ]  # fmt: skip

    def _one(self, key: tuple[int, str, int], unit: _Unit, n: int, y: int) -> None:
        if not unit[0]:
            self._sums[key] += unit_sums(n, y)
            return
        old = self._units[key].get(unit, (0, 0))
        new = self._units[key][unit] = (old[0] + n, old[1] + y)
        self._sums[key] += unit_sums(*new) - unit_sums(*old)
