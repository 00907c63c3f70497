"""From the columns of logged predictions to counts of one rollout's step; no database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.data.records import Flag, Status
from tenure.deploy.rollout.advance import Rollout
from tenure.deploy.rollout.plan import SAME
from tenure.deploy.rollout.values import Values, gather, logged

Columns = Mapping[str, npt.NDArray[Any]]
Mask = npt.NDArray[np.bool_]

EVERY_REQUEST = ("over_latency", "empty_output", "failed")
"""Gates that every request shows; a wrong decision needs a label."""

SEEN = "seen"
"""Under this name a unit's first request is noted."""

_COLUMNS = (
    "t_ns", "version", "role", "share", "status", "flags", "unit", "latency_us", "number", "confidence",
)  # fmt: skip


class Touch(msgspec.Struct, frozen=True):
    """A unit's first request (`seen`) or first bad outcome in its epoch, within one batch.

    Attributes:
        gate: `seen` or the gate.
        unit: keyed hash as decimal text.
        epoch: number of the epoch; 0 where a unit is drawn once.
        candidate: whether the candidate answered.
    """

    gate: str
    unit: str
    epoch: int
    candidate: bool


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch of rows says about one step.

    Attributes:
        rollout: id.
        step: number of the step.
        share: chance of the candidate there.
        requests: all rows of the step: (candidate, stable).
        drawn: those that were drawn by themselves, as with `assign: request` or without a unit.
        bad: gate -> (candidate, stable) bad outcomes among the drawn.
        units: what units did of which each counts once; in order of time.
        switched: units that both versions answered within the batch, where that cannot be.
        means: mean gate -> the values that it compares.
        parts: slice -> the same of its rows alone.
    """

    rollout: str
    step: int
    share: float
    requests: tuple[int, int] = (0, 0)
    drawn: tuple[int, int] = (0, 0)
    bad: dict[str, tuple[int, int]] = {}
    units: tuple[Touch, ...] = ()
    switched: int = 0
    means: dict[str, Values] = {}
    parts: dict[str, Observed] = {}


def observed(
    endpoint: str,
    rollout: Rollout,
    columns: Columns,
    versions: Sequence[str],
    parts: Mapping[str, Mask] | None = None,
) -> Observed:
    """Count the rows that belong to the rollout's step at hand; others are left out.

    A row belongs if it was made since the step began and its logged chance of the candidate is the step's. While
    requests are shared, only rows count that one of the two versions answered or failed to answer. Rows scored
    offline never belong: nothing was drawn about them.

    Args:
        endpoint: whose rows these are.
        rollout: the running or paused rollout of that endpoint.
        columns: of `records.PREDICTION`: t_ns, version, role, share, status, flags, unit, and for means
            latency_us, number, confidence.
        versions: the dictionary behind `version`.
        parts: slice -> which rows are in it.
    """
    if rollout.endpoint != endpoint:
        raise ValueError(f"rollout {rollout.id} is of {rollout.endpoint}, the rows are of {endpoint}")
    whole = _seen(rollout, columns, versions)
    found = {}
    for part, rows in (parts or {}).items():
        mine = {name: columns[name][rows] for name in _COLUMNS if name in columns}
        found[part] = _seen(rollout, mine, versions)
    return msgspec.structs.replace(whole, parts=found)


def _seen(rollout: Rollout, columns: Columns, versions: Sequence[str]) -> Observed:
    share = rollout.plan.share(rollout.step)
    candidate = columns["role"] == 1
    logged = columns["share"].astype(np.float64)
    rho = np.where(candidate, logged, 1.0 - logged)
    mine = (np.abs(rho - share) < SAME) & (columns["t_ns"] >= rollout.step_started_us * 1000)
    mine &= (columns["flags"] & Flag.BATCH) == 0
    made = Observed(rollout=rollout.id, step=rollout.step, share=share)
    if share == 0.0:
        seen = int((mine & (columns["status"] != Status.REFUSED)).sum())
        return msgspec.structs.replace(made, requests=(0, seen), drawn=(0, seen))
    mine = belongs(rollout, columns, versions)
    alone = mine if rollout.plan.assign == "request" else mine & (columns["unit"] == 0)
    gates: dict[str, Mask] = {
        g.bad: _is_bad(g.bad, columns) for g in rollout.plan.gates if g.bad in EVERY_REQUEST
    }
    touches, switched = _units(gates, mine & ~alone, columns, rollout)
    means = _means(rollout, columns, mine, alone)
    return msgspec.structs.replace(
        made,
        requests=_pair(mine, candidate),
        drawn=_pair(alone, candidate),
        bad={gate: _pair(alone & hit, candidate) for gate, hit in gates.items()},
        units=touches,
        switched=switched,
        means=means,
    )


def belongs(rollout: Rollout, columns: Columns, versions: Sequence[str]) -> Mask:
    """Say which rows count while requests are shared: of this step, and of one of the two versions."""
    candidate = columns["role"] == 1
    logged = columns["share"].astype(np.float64)
    rho = np.where(candidate, logged, 1.0 - logged)
    mine = np.abs(rho - rollout.plan.share(rollout.step)) < SAME
    mine &= (columns["t_ns"] >= rollout.step_started_us * 1000) & ((columns["flags"] & Flag.BATCH) == 0)
    mine &= np.isin(columns["status"], (Status.OK, Status.FAILED))
    return np.asarray(mine & _answered(columns["version"], candidate, rollout, versions))


def _pair(rows: Mask, candidate: Mask) -> tuple[int, int]:
    return int((rows & candidate).sum()), int((rows & ~candidate).sum())


def _answered(version: npt.NDArray[Any], candidate: Mask, rollout: Rollout, versions: Sequence[str]) -> Mask:
    """Say which rows the version of their role answered: rows of an earlier rollout have others."""
    new = [i for i, v in enumerate(versions) if v == rollout.candidate]
    old = [i for i, v in enumerate(versions) if v == rollout.stable]
    return np.asarray(np.where(candidate, np.isin(version, new), np.isin(version, old)))


def _is_bad(gate: str, columns: Columns) -> Mask:
    if gate == "failed":
        return np.asarray(columns["status"] == Status.FAILED)
    flag = Flag.OVER_BUDGET if gate == "over_latency" else Flag.EMPTY
    return np.asarray((columns["flags"].astype(np.int64) & int(flag)) != 0)


def _means(rollout: Rollout, columns: Columns, mine: Mask, alone: Mask) -> dict[str, Values]:
    """Return what the rows of the step say of each mean that the log itself shows."""
    told = [(gate, logged(gate, columns)) for gate in rollout.plan.gates if gate.mean]
    if all(values is None for _, values in told):
        return {}
    units = [
        "" if by_itself else str(unit)
        for by_itself, unit in zip(alone[mine].tolist(), columns["unit"][mine].tolist(), strict=True)
    ]
    epochs = epochs_of(rollout, columns["t_ns"][mine])
    candidate = np.asarray(columns["role"][mine] == 1)
    return {
        gate.name: gather(gate, values[mine], candidate, units=units, epochs=epochs)
        for gate, values in told
        if values is not None
    }


def epochs_of(rollout: Rollout, t_ns: npt.NDArray[Any]) -> list[int]:
    """Return the number of each time's epoch; 0 where a unit is drawn once."""
    if rollout.plan.assign != "unit_epoch":
        return [0] * len(t_ns)
    return [int(t) // int(rollout.plan.epoch * 1e9) for t in t_ns.tolist()]


def _units(
    gates: Mapping[str, Mask], rows: Mask, columns: Columns, rollout: Rollout
) -> tuple[tuple[Touch, ...], int]:
    order = np.flatnonzero(rows)
    order = order[np.argsort(columns["t_ns"][order], kind="stable")]
    first: dict[tuple[str, str, int], bool] = {}
    switched: set[str] = set()
    for gate, unit, epoch, candidate in _outcomes(gates, order, columns, rollout):
        before = first.setdefault((gate, unit, epoch), candidate)
        if before != candidate and rollout.plan.assign == "unit":
            switched.add(unit)
    touches = tuple(Touch(g, unit, epoch, c) for (g, unit, epoch), c in first.items())
    return touches, len(switched)


def _outcomes(
    gates: Mapping[str, Mask], order: npt.NDArray[np.intp], columns: Columns, rollout: Rollout
) -> Iterator[tuple[str, str, int, bool]]:
    """Yield what each row says of its unit: that it was seen, and which outcomes were bad."""
    length = int(rollout.plan.epoch * 1e9)
    for row in order.tolist():
        unit, candidate = str(int(columns["unit"][row])), bool(columns["role"][row] == 1)
        epoch = int(columns["t_ns"][row]) // length if rollout.plan.assign == "unit_epoch" else 0
        yield SEEN, unit, epoch, candidate
        for gate, hit in gates.items():
            if hit[row]:
                yield gate, unit, epoch, candidate
