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
    return said_many(schema, {name: column[i : i + 1] for name, column in columns.items()})[0]


def said_many(schema: Schema, columns: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Return `said` of every row, at the price of a few calls for all of them."""
    out: list[dict[str, Any]] = [{} for _ in range(len(columns["seq"]))]
    if not schema.labels and not schema.fields:
        return out
    if schema.labels:
        _add_answers(schema.labels, columns, out)
    if schema.fields:
        _add_records(schema.fields, columns, out)
    if "route" in columns:
        _add_reasons(columns, out)
    for i in np.flatnonzero(columns["status"] == Status.REFUSED).tolist():
        out[i] = {}
    return out


def _add_answers(names: tuple[str, ...], columns: Mapping[str, Array], out: list[dict[str, Any]]) -> None:
    chances = np.column_stack([columns[f"p:{name}"] for name in names])
    rows = zip(columns["label"].tolist(), chances.tolist(), out, strict=True)
    for best, row, said_ in rows:
        if best < len(names):
            said_["value"] = names[best]
        known = {name: p for name, p in zip(names, row, strict=True) if p == p}
        if known:
            said_["probabilities"] = known


def _add_records(
    fields: tuple[tuple[str, str], ...], columns: Mapping[str, Array], out: list[dict[str, Any]]
) -> None:  # fmt: skip
    values = np.column_stack([_field(columns, name) for name, _ in fields])
    names, all_floats = [name for name, _ in fields], all(kind == "float" for _, kind in fields)
    as_they_are = (np.isfinite(values).all(axis=1) & all_floats).tolist()
    for row, plain, said_ in zip(values.tolist(), as_they_are, out, strict=True):
        if plain:
            said_["record"] = dict(zip(names, row, strict=True))
        else:
            said_["record"] = {n: _typed(v, kind) for v, (n, kind) in zip(row, fields, strict=True)}


def _add_reasons(columns: Mapping[str, Array], out: list[dict[str, Any]]) -> None:
    for level, reason in REASONS.items():
        for i in np.flatnonzero((columns["route"] == Route.AUTO) & (columns["level"] == level)).tolist():
            out[i]["reason"] = reason


def held(schema: Schema, key: str, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `record` or `probabilities` from the columns of one sealed row, None where they do not hold them."""
    if key == "record":
        if not schema.fields:
            return None
        values = [(name, kind, row[sealed_name(f"f:{name}")]) for name, kind in schema.fields]
        return {name: None if v is None else _typed(v, kind) for name, kind, v in values}
    chances = {name: row[sealed_name(f"p:{name}")] for name in schema.labels}
    return None if not chances or any(p is None for p in chances.values()) else chances


def sealed_name(name: str) -> str:
    """Return the name of a column in sealed files and in SQL."""
    return name.replace(":", "_")


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
