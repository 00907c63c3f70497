"""Frames as Arrow tables with the types and words that people query; the form in which the log is sealed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from tenure.data import columnar
from tenure.data.frames import Array, Frame, stack
from tenure.data.records import FIXED, Kind, Schema
from tenure.data.rows import ANY, BYTES, FLAGS, TEXT, VARIABLE, WORDS, column_name, label

JSON_COLUMNS = ("value", "regions", "probabilities", "record")
"""Columns of JSON text."""

DERIVED = ("t", "deadline")
"""Columns that repeat a `_ns` column as a UTC timestamp (without zone, microseconds)."""

SEALED = tuple(kind for kind in Kind if kind != Kind.HEARTBEAT)


_CHUNK = 2048


class Placed(NamedTuple):
    """A frame and its offset in its segment."""

    segment: str
    offset: int
    frame: Frame


def tables(placed: Iterable[Placed]) -> dict[tuple[Kind, str], pa.Table]:
    """Return one table per (kind, endpoint), rows in log order. Heartbeats are left out."""
    groups: dict[tuple[Kind, str], dict[int, list[Placed]]] = {}
    for item in placed:
        kind = Kind(item.frame.kind)
        if kind in SEALED:
            by_schema = groups.setdefault((kind, item.frame.schema.endpoint), {})
            by_schema.setdefault(item.frame.schema_id, []).append(item)
    return {
        key: _joined([table(some) for part in parts.values() for some in _chunks(part)])
        for key, parts in groups.items()
    }


def _chunks(placed: Sequence[Placed]) -> Iterator[list[Placed]]:
    """Cut frames into runs of about `_CHUNK` rows: the Python values of so many rows exist at a time."""
    some: list[Placed] = []
    rows = 0
    for item in placed:
        some.append(item)
        rows += item.frame.rows
        if rows >= _CHUNK:
            yield some
            some, rows = [], 0
    if some:
        yield some


def _joined(parts: list[pa.Table]) -> pa.Table:
    if len(parts) == 1:
        return parts[0]
    whole = pa.concat_tables(parts, promote_options="default")
    return whole.sort_by([("segment", "ascending"), ("frame", "ascending"), ("row", "ascending")])


def table(placed: Sequence[Placed]) -> pa.Table:
    """Return the table of frames of one schema."""
    parts = [item.frame for item in placed]
    schema, kind = parts[0].schema, Kind(parts[0].kind)
    rows = np.array([frame.rows for frame in parts])
    fixed = columnar.fill(schema, stack(parts))
    columns: dict[str, pa.Array] = {}
    if "run" not in fixed:
        columns["run"] = pa.array(np.repeat(np.array([f.run for f in parts], np.uint64), rows))
    for name, values in fixed.items():
        columns[column_name(name)] = _plain(name, values, schema)
    columns |= _derived(fixed)
    columns["endpoint"] = pa.array([schema.endpoint] * int(rows.sum()), pa.string())
    columns |= _variable(kind, parts)
    columns["segment"] = pa.array(np.repeat([item.segment for item in placed], rows).tolist(), pa.string())
    columns["frame"] = pa.array(np.repeat(np.array([item.offset for item in placed], np.int64), rows))
    columns["row"] = pa.array(np.concatenate([np.arange(n, dtype=np.int32) for n in rows]))
    return pa.table(columns)


def empty(kind: Kind) -> pa.Table:
    """Return the table of a kind without rows: the columns that every log has."""
    columns: dict[str, pa.Array] = {"run": pa.array([], pa.uint64())}
    fixed = {name: np.zeros(0, np.dtype(text)) for name, text in FIXED[kind]}
    for name, values in fixed.items():
        columns[column_name(name)] = _plain(name, values, Schema(kind, "", FIXED[kind]))
    columns |= _derived(fixed)
    columns["endpoint"] = pa.array([], pa.string())
    columns |= _variable(kind, [])
    columns |= {"segment": pa.array([], pa.string()), "frame": pa.array([], pa.int64())}
    return pa.table(columns | {"row": pa.array([], pa.int32())})


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a sealed file as `rows.row` gives it."""
    places = ("segment", "frame", "row")
    out = {name: value for name, value in row.items() if name not in (*DERIVED, *places)}
    for name in JSON_COLUMNS:
        if out.get(name) is not None:
            out[name] = msgspec.json.decode(out[name])
    return out


def _plain(name: str, values: Array, schema: Schema) -> pa.Array:
    if name == "version":
        return _words(values, schema.versions)
    if name in WORDS:
        return _words(values, WORDS[name])
    if name == "deadline_ns":
        return pa.array(values, mask=values == 0)
    return pa.array(np.ascontiguousarray(values), from_pandas=values.dtype.kind == "f")


def _words(values: Array, words: tuple[str, ...]) -> pa.Array:
    outside = values >= len(words)
    indices = pa.array(values.astype(np.int32), mask=outside)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string())).cast(pa.string())


def _derived(fixed: dict[str, Array]) -> dict[str, pa.Array]:
    out = {"t": pa.array(fixed["t_ns"] // 1000).cast(pa.timestamp("us"))}
    if "deadline_ns" in fixed:
        deadline = fixed["deadline_ns"]
        out["deadline"] = pa.array(deadline // 1000, mask=deadline == 0).cast(pa.timestamp("us"))
    if "flags" in fixed:
        out |= {name: pa.array((fixed["flags"] & bit) != 0) for name, bit in FLAGS.items()}
    return out


def _variable(kind: Kind, parts: Sequence[Frame]) -> dict[str, pa.Array]:
    blobs = [var for frame in parts for var in frame.vars()]
    out = {}
    for key, form in VARIABLE[kind].items():
        values = [blob.get(key) for blob in blobs]
        out[key] = _BUILD[form](values)
        if key == "value":
            out["label"] = pa.array([label(v) for v in values], pa.string())
    return out


def _json(values: list[Any]) -> pa.Array:
    return pa.array([None if v is None else _encode(v).decode() for v in values], pa.string())


def _text(values: list[Any]) -> pa.Array:
    return pa.array([v if v is None or isinstance(v, str) else str(v) for v in values], pa.string())


def _bytes(values: list[Any]) -> pa.Array:
    return pa.array([None if v is None else bytes(v) for v in values], pa.binary())


_encode = msgspec.json.Encoder().encode
_BUILD = {ANY: _json, TEXT: _text, BYTES: _bytes}
