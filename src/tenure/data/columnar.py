"""The usual answers of a prediction as columns: labels, probabilities, the fields of a record, and back.

A row whose values do not fit (a field beyond a float64, a label that is not declared) keeps them in its variable
part, which wins where both are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tenure.data.records import NO_LABEL, Schema, Status
from tenure.types import Level, Route

Array = npt.NDArray[Any]
REASONS = {int(Level.FULL): "level full"}
"""Reasons of automated rows that need no words in the log, by level."""


def said(schema: Schema, columns: Mapping[str, Array], i: int) -> dict[str, Any]:
    """Return what row i says in columns, under the keys that the variable part would use."""
    out: dict[str, Any] = {}
    if int(columns["status"][i]) == Status.REFUSED:
        return out
    if schema.labels:
        number = int(columns["label"][i])
        if number < len(schema.labels):
            out["value"] = schema.labels[number]
        chances = {label: float(columns[f"p:{label}"][i]) for label in schema.labels}
        known = {label: p for label, p in chances.items() if p == p}
        if known:
            out["probabilities"] = known
    if schema.fields:
        out["record"] = {name: _typed(columns[f"f:{name}"][i], kind) for name, kind in schema.fields}
    if int(columns["route"][i]) == Route.AUTO and int(columns["level"][i]) in REASONS:
        out["reason"] = REASONS[int(columns["level"][i])]
    return out


def labels(schema: Schema, columns: Mapping[str, Array]) -> tuple[npt.NDArray[np.intp], Sequence[str]]:
    """Return (indices, names) of the rows' labels; an index outside the names = see the variable part."""
    if not schema.labels:
        return np.full(len(columns["seq"]), NO_LABEL, np.intp), ()
    return columns["label"].astype(np.intp), schema.labels


def _typed(value: Any, kind: str) -> float | int | bool | None:
    number = float(value)
    if number != number:
        return None
    if kind == "int":
        return int(number)
    return bool(number) if kind == "bool" else number
