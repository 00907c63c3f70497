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
        out["record"] = {name: _typed(_field(columns, name)[i], kind) for name, kind in schema.fields}
    if "route" in columns and int(columns["route"][i]) == Route.AUTO and int(columns["level"][i]) in REASONS:
        out["reason"] = REASONS[int(columns["level"][i])]
    return out


def said_many(schema: Schema, columns: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Return `said` of every row, at the price of a few calls for all of them."""
    n = len(columns["status"])
    out: list[dict[str, Any]] = [{} for _ in range(n)]
    refused = (columns["status"] == Status.REFUSED).tolist()
    if schema.labels:
        chances = np.column_stack([columns[f"p:{label}"] for label in schema.labels])
        whole = np.isfinite(chances).all(axis=1).tolist()
        names = schema.labels
        for i, (best, row) in enumerate(zip(columns["label"].tolist(), chances.tolist(), strict=True)):
            if refused[i]:
                continue
            if best < len(names):
                out[i]["value"] = names[best]
            known = dict(zip(names, row, strict=True))
            if not whole[i]:
                known = {label: p for label, p in known.items() if p == p}
            if known:
                out[i]["probabilities"] = known
    if schema.fields:
        values = np.column_stack([_field(columns, name) for name, _ in schema.fields])
        plain = np.isfinite(values).all(axis=1) & (not any(kind != "float" for _, kind in schema.fields))
        fields = [name for name, _ in schema.fields]
        for i, row in enumerate(values.tolist()):
            if refused[i]:
                continue
            if plain[i]:
                out[i]["record"] = dict(zip(fields, row, strict=True))
            else:
                out[i]["record"] = {n: _typed(v, k) for v, (n, k) in zip(row, schema.fields, strict=True)}
    if "route" not in columns:
        return out
    automated = columns["route"] == Route.AUTO
    for level, reason in REASONS.items():
        for i in np.flatnonzero(automated & (columns["level"] == level)).tolist():
            if not refused[i]:
                out[i]["reason"] = reason
    return out


def labels(schema: Schema, columns: Mapping[str, Array]) -> tuple[npt.NDArray[np.intp], Sequence[str]]:
    """Return (indices, names) of the rows' labels; an index outside the names = see the variable part."""
    if not schema.labels:
        return np.full(len(columns["seq"]), NO_LABEL, np.intp), ()
    return columns["label"].astype(np.intp), schema.labels


def fill(schema: Schema, columns: dict[str, Array]) -> dict[str, Array]:
    """Return the columns with those of the fields, also where metrics stand for them."""
    more = {f"f:{n}": _field(columns, n).astype(np.float64) for n, _ in schema.fields if f"f:{n}" not in columns}
    return columns | more if more else columns


def _field(columns: Mapping[str, Array], name: str) -> Array:
    """Return a field's values; where they are exact as float32, the metric holds them."""
    own = columns.get(f"f:{name}")
    return columns[f"x:field:{name}"] if own is None else own


def _typed(value: Any, kind: str) -> float | int | bool | None:
    number = float(value)
    if number != number:
        return None
    if kind == "int":
        return int(number)
    return bool(number) if kind == "bool" else number
