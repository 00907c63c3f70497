"""Frames as Arrow tables with the types and words that people query; the form in which the log is sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tenure.data import columnar
from tenure.data.frames import Array, Frame, Schemas, blobs_of, stack
from tenure.data.records import FIXED, Kind, Schema, Status
from tenure.data.rows import ANY, BYTES, FLAGS, TEXT, VARIABLE, WORDS, column_name, label
from tenure.types import Route

JSON_COLUMNS = ("value", "regions", "probabilities", "record")
"""Columns of JSON text."""

DERIVED = ("t", "deadline")
"""Columns that repeat a `_ns` column as a UTC timestamp (without zone, microseconds)."""

SEALED = tuple(kind for kind in Kind if kind != Kind.HEARTBEAT)


_CHUNK = 2048
"""Rows of which the Python values exist at a time."""
_BARE = 16
"""So many rows without a variable part count as one: they become no Python values."""


class Placed(NamedTuple):
    """A frame and its offset in its segment."""

    segment: str
    offset: int
    frame: Frame


def tables(placed: Iterable[Placed], *, coded: bool = False) -> dict[tuple[Kind, str], pa.Table]:
    """Return one table per (kind, endpoint), rows in log order. Heartbeats are left out.

    With `coded` the words that come again are dictionaries, which a Parquet file can take as they are.
    """
    same: dict[tuple[int, int], list[Placed]] = {}
    for item in placed:
        same.setdefault((item.frame.kind, item.frame.schema_id), []).append(item)
    groups: dict[tuple[Kind, str], list[list[Placed]]] = {}
    for (kind, _), part in same.items():
        if Kind(kind) in SEALED:
            groups.setdefault((Kind(kind), part[0].frame.schema.endpoint), []).append(part)
    return {
        key: _joined([table(some, coded=coded) for part in parts for some in _chunks(part)], len(parts))
        for key, parts in groups.items()
    }


def _chunks(placed: Sequence[Placed]) -> Iterator[list[Placed]]:
    """Cut frames of one schema into runs of about `_CHUNK` rows, more where they have no variable part."""
    bare = placed[0].frame.bare_bytes()
    some: list[Placed] = []
    weight = 0.0
    for item in placed:
        some.append(item)
        rows = item.frame.rows
        weight += rows if item.frame.length > rows * bare + 4 else rows / _BARE
        if weight >= _CHUNK:
            yield some
            some, weight = [], 0.0
    if some:
        yield some


def _joined(parts: list[pa.Table], schemas: int) -> pa.Table:
    if len(parts) == 1:
        return parts[0]
    if schemas == 1:  # in the order of the log already
        return pa.concat_tables(parts, promote_options="default")
    whole = pa.concat_tables([_spelled_out(part) for part in parts], promote_options="default")
    return whole.sort_by([("segment", "ascending"), ("frame", "ascending"), ("row", "ascending")])


def _spelled_out(part: pa.Table) -> pa.Table:
    return pa.table({name: _spelled(part[name]) for name in part.column_names})


def table(placed: Sequence[Placed], *, coded: bool = False) -> pa.Table:
    """Return the table of frames of one schema; `coded` as in `tables`."""
    columns = _columns(placed)
    return pa.table(columns if coded else {name: _spelled(column) for name, column in columns.items()})


def _spelled(column: pa.Array) -> pa.Array:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _columns(placed: Sequence[Placed]) -> dict[str, pa.Array]:
    """Return the columns of frames of one schema; words that the schema names are dictionaries."""
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
    columns["endpoint"] = _constants([schema.endpoint], rows.sum(keepdims=True))
    columns |= _variable(kind, parts, fixed)
    columns["schema_id"] = pa.array(np.full(int(rows.sum()), parts[0].schema_id, np.uint32))
    columns["segment"] = _constants([item.segment for item in placed], rows)
    columns["frame"] = pa.array(np.repeat(np.array([item.offset for item in placed], np.int64), rows))
    columns["row"] = pa.array(_numbered(rows))
    return columns


def _numbered(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return 0, 1, ... for the rows of each frame."""
    starts = np.cumsum(rows) - rows
    return (np.arange(rows.sum()) - np.repeat(starts, rows)).astype(np.int32)


def empty(kind: Kind) -> pa.Table:
    """Return the table of a kind without rows: the columns that every log has."""
    columns: dict[str, pa.Array] = {"run": pa.array([], pa.uint64())}
    fixed = {name: np.zeros(0, np.dtype(text)) for name, text in FIXED[kind]}
    for name, values in fixed.items():
        columns[column_name(name)] = _plain(name, values, Schema(kind, "", FIXED[kind]))
    columns |= _derived(fixed)
    columns["endpoint"] = pa.array([], pa.string())
    columns |= _variable(kind, [], {})
    places = {"schema_id": pa.uint32(), "segment": pa.string(), "frame": pa.int64(), "row": pa.int32()}
    columns |= {name: pa.array([], form) for name, form in places.items()}
    return pa.table({name: _spelled(column) for name, column in columns.items()})


def plain_row(row: dict[str, Any], schema_of: Schemas) -> dict[str, Any]:
    """Return a row of a sealed file as `rows.row` gives it; `schema_of` finds a schema by its id."""
    places = ("schema_id", "segment", "frame", "row")
    out = {name: value for name, value in row.items() if name not in (*DERIVED, *places)}
    for name in JSON_COLUMNS:
        if out.get(name) is not None:
            out[name] = msgspec.json.decode(out[name])
        elif name in _HELD and name in out and row.get("schema_id") is not None and row["status"] != "refused":
            out[name] = columnar.held(schema_of(row["schema_id"]), name, row)
    return out


def _constants(words: Sequence[str], rows: npt.NDArray[np.int64]) -> pa.Array:
    """Return each word as often as `rows` says."""
    once = {word: i for i, word in enumerate(dict.fromkeys(words))}
    indices = np.repeat(np.array([once[word] for word in words], np.int32), rows)
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(list(once), pa.string()))


def _plain(name: str, values: Array, schema: Schema) -> pa.Array:
    if name == "version":
        return _words(values, schema.versions)
    if name in WORDS:
        return _words(values, WORDS[name])
    if name == "deadline_ns":
        return pa.array(values, mask=values == 0)
    values = np.ascontiguousarray(values)
    return pa.array(values, from_pandas=values.dtype.kind == "f" and bool(np.isnan(values).any()))


def _words(values: Array, words: tuple[str, ...]) -> pa.Array:
    outside = values >= len(words)
    indices = pa.array(values.astype(np.int32), mask=outside if outside.any() else None)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))


def _derived(fixed: dict[str, Array]) -> dict[str, pa.Array]:
    out = {"t": pa.array(fixed["t_ns"] // 1000).cast(pa.timestamp("us"))}
    if "deadline_ns" in fixed:
        deadline = fixed["deadline_ns"]
        out["deadline"] = pa.array(deadline // 1000, mask=deadline == 0).cast(pa.timestamp("us"))
    if "flags" in fixed:
        out |= {name: pa.array((fixed["flags"] & bit) != 0) for name, bit in FLAGS.items()}
    return out


def _variable(kind: Kind, parts: Sequence[Frame], fixed: dict[str, Array]) -> dict[str, pa.Array]:
    """Return the columns of the variable part: what the schema's columns say, or a row itself.

    `record` and `probabilities` that stand in columns are NULL here; `held` builds them for whoever asks.
    """
    rows = sum(frame.rows for frame in parts)
    said = _said(parts)
    told = _told(parts[0].schema, fixed) if parts else {}
    out = {}
    for key, form in VARIABLE[kind].items():
        known = [(i, blob[key]) for i, blob in said if key in blob]
        inside = told.get(key, pa.nulls(rows, _TYPES[form]))
        if form == ANY and key in _HELD:
            out[key] = _replaced(inside, known, _json_or_null)
        else:
            out[key] = _replaced(inside, known, _BUILD[form])
        if key == "value":
            words = told.get("label", pa.nulls(rows, pa.string()))
            out["label"] = _replaced(words, known, lambda values: _text([label(v) for v in values]))
    return out


def _said(parts: Sequence[Frame]) -> list[tuple[int, dict[str, Any]]]:
    """Return (row of the table, decoded blob) of the rows that have one."""
    return [(i, _decode(blob)) for i, blob in blobs_of(parts)]


def _told(schema: Schema, fixed: dict[str, Array]) -> dict[str, pa.Array]:
    """Return value, label, probabilities and reason as far as columns say them."""
    out: dict[str, pa.Array] = {}
    refused = fixed.get("status", np.zeros(0)) == Status.REFUSED
    if schema.labels:
        names, best = schema.labels, fixed["label"]
        outside = (best >= len(names)) | refused
        indices = pa.array(np.where(outside, 0, best).astype(np.int32), mask=outside if outside.any() else None)
        words = pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))
        spelled = pa.DictionaryArray.from_arrays(indices, _json(list(names)))
        out |= {"label": words, "value": spelled}
        out["probabilities"] = _partly_known(names, fixed, refused)
    if "route" in fixed and (schema.labels or schema.fields):
        out["reason"] = _reasons(fixed, refused)
    return out


def _partly_known(names: Sequence[str], fixed: dict[str, Array], refused: Any) -> pa.Array:
    """Return the text of probabilities of which some are missing; columns hold the others."""
    missing = sum(np.isnan(fixed[f"p:{name}"]).astype(np.int32) for name in names)
    values: list[str | None] = [None] * len(fixed["status"])
    for i in np.flatnonzero((missing > 0) & (missing < len(names)) & ~refused).tolist():
        row = {name: float(fixed[f"p:{name}"][i]) for name in names}
        values[i] = _encode({name: p for name, p in row.items() if p == p}).decode()
    return pa.array(values, pa.string())


def _reasons(fixed: dict[str, Array], refused: Any) -> pa.Array:
    index = np.full(len(fixed["route"]), -1, np.int32)
    for number, level in enumerate(columnar.REASONS):
        index[(fixed["route"] == Route.AUTO) & (fixed["level"] == level) & ~refused] = number
    words = pa.array(list(columnar.REASONS.values()), pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(index, mask=index < 0), words)


def _replaced(column: pa.Array, known: list[tuple[int, Any]], build: Callable[[list[Any]], pa.Array]) -> pa.Array:
    if not known:
        return column
    values = build([value for _, value in known])
    if len(known) < len(column):
        mask = np.zeros(len(column), bool)
        mask[[i for i, _ in known]] = True
        values = pc.replace_with_mask(_spelled(column), pa.array(mask), values)
    # as in the other runs of frames of the schema
    return values.dictionary_encode() if pa.types.is_dictionary(column.type) else values


def _json_or_null(values: list[Any]) -> pa.Array:
    """Spell None, too: where a row says that it has no record, its columns are not one."""
    return pa.array([_encode(v).decode() for v in values], pa.string())


def _json(values: list[Any]) -> pa.Array:
    return pa.array([None if v is None else _encode(v).decode() for v in values], pa.string())


def _text(values: list[Any]) -> pa.Array:
    return pa.array([v if v is None or isinstance(v, str) else str(v) for v in values], pa.string())


def _bytes(values: list[Any]) -> pa.Array:
    return pa.array([None if v is None else bytes(v) for v in values], pa.binary())


_encode = msgspec.json.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
_BUILD = {ANY: _json, TEXT: _text, BYTES: _bytes}
_TYPES = {ANY: pa.string(), TEXT: pa.string(), BYTES: pa.binary()}
_HELD = ("record", "probabilities")
