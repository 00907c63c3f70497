"""Slices of the traffic that gates judge apart: which a request belongs to, known before it was routed.

A slice is called `FIELD=VALUE`. Where a plan takes each value that comes, the first ones get a place, in order of
the log; which version answered plays no part in that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.frames import Frame
from tenure.deploy.rollout.counts import REQUESTS, Count, unsliced, within
from tenure.deploy.rollout.plan import Plan
from tenure.scope.project import SliceSpec

UNIT = "unit"
LONGEST = 100
"""Characters of a value; a longer one names no slice."""
Texts = Mapping[str, Sequence[str | None]]
"""Field -> its value in each row, as text."""
Mask = npt.NDArray[np.bool_]


def seen(plan: Plan, counts: Iterable[Count]) -> list[str]:
    """Return the slices that a plan lists, and those of its `each` that have come so far."""
    came = {part for gate, part in (unsliced(c.gate) for c in counts) if gate == REQUESTS}
    found: list[str] = []
    for spec in plan.slices:
        of = sorted(part for part in came if part.startswith(f"{spec.by}="))
        found += [f"{spec.by}={value}" for value in spec.values] or of
    return found


def known(conn: Connection, number: str) -> list[str]:
    """Return the slices that have evidence of requests."""
    e = t.evidence.c
    query = sa.select(e.gate).where(e.rollout == number, e.gate.startswith(within(REQUESTS))).distinct()
    return [unsliced(name)[1] for name in conn.execute(query).scalars()]


def masks(plan: Plan, texts: Texts, before: Sequence[str]) -> dict[str, Mask]:
    """Return the rows of each slice that is judged apart, in order of the plan.

    Args:
        plan: says which.
        texts: from `texts_of`.
        before: slices that have a place already.
    """
    found: dict[str, Mask] = {}
    for spec in plan.slices:
        column = np.array([text if text is not None else "" for text in texts[spec.by]], object)
        for value in _admitted(spec, column.tolist(), before):
            mask = np.asarray(column == value, bool)
            if mask.any():
                found[f"{spec.by}={value}"] = mask
    return found


def texts_of(plan: Plan, frames: Sequence[Frame]) -> Texts:
    """Return the values of a plan's slice fields in the rows of prediction frames, in order."""
    if not plan.slices:
        return {}
    rows = [var for frame in frames for var in frame.vars()]
    return {
        spec.by: [text_of(spec.by, var.get("record"), var.get("unit")) for var in rows] for spec in plan.slices
    }


def text_of(by: str, record: object, unit: object) -> str | None:
    """Return a request's value of a field as slices spell it; None where it has none that can name a slice.

    Example:
        >>> text_of("new", {"new": True}, None), text_of("unit", None, "line 3"), text_of("x", {"x": None}, None)
        ('true', 'line 3', None)
    """
    value: Any = record.get(by) if isinstance(record, Mapping) else None
    if by == UNIT and value is None:
        value = unit
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if isinstance(value, (str, int)) else ""
    return text if 0 < len(text) <= LONGEST else None


def parts_of(plan: Plan, record: object, unit: object, before: Sequence[str]) -> Iterator[str]:
    """Yield the slices of one request among those that have a place."""
    for spec in plan.slices:
        value = text_of(spec.by, record, unit)
        part = f"{spec.by}={value}"
        if value is not None and (value in spec.values or (spec.each and part in before)):
            yield part


def _admitted(spec: SliceSpec, column: Sequence[str], before: Sequence[str]) -> list[str]:
    """Return the listed values, or those that have a place and the first new ones while there is room."""
    if spec.each is None:
        return list(spec.values)
    mine = [part.removeprefix(f"{spec.by}=") for part in before if part.startswith(f"{spec.by}=")]
    new = [value for value in dict.fromkeys(column) if value and value not in mine]
    return mine + new[: max(0, spec.each - len(mine))]
