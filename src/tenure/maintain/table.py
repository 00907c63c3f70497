"""Rows of a snapshot as a Parquet table, for whoever does not want to read JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tenure.data.state import dumps
from tenure.errors import StoreError
from tenure.maintain.snapshot import Row

FORMAT = b"1"
_BOX = pa.struct([(n, pa.float64()) for n in ("x1", "y1", "x2", "y2")] + [("label", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.string()),  # JSON where `label_kind` is not text
        ("label_kind", pa.string()),  # text | number | bool
        ("boxes", pa.list_(_BOX)),
        ("at", pa.timestamp("us", "UTC")),
        ("split", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("weight", pa.float64()),
        ("copies", pa.int64()),
        ("blind", pa.bool_()),
        ("shown_suggestion", pa.bool_()),
        ("adjudicated", pa.bool_()),
        ("fair", pa.bool_()),
        ("readers", pa.int64()),
        ("unit", pa.string()),
        ("version", pa.string()),
        ("predicted", pa.string()),  # JSON
        ("confidence", pa.float64()),
        ("decision", pa.string()),  # JSON
        ("decided_by", pa.string()),
        ("media_type", pa.string()),
        ("file", pa.string()),
        ("record", pa.string()),  # JSON
    ],
    metadata={b"tenure_rows": FORMAT},
)
_JSON = ("predicted", "decision", "record")


def table(rows: Sequence[Row]) -> pa.Table:
    """Return the rows as a table of `SCHEMA`."""
    return pa.Table.from_pylist([_plain(row) for row in rows], schema=SCHEMA)


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the table; the same rows give the same bytes with the same version of pyarrow."""
    pq.write_table(table(rows), path, compression="zstd")


def check(rows: Sequence[Row], path: Path) -> None:
    """Compare a table's file with the rows.

    Raises:
        StoreError: it cannot be read or says something else.
    """
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path.name} is not a Parquet file: {error}", at=path.name) from error
    if not found.equals(table(rows)):
        raise StoreError(f"{path.name} does not say what the index says", at=path.name)


def _plain(row: Row) -> dict[str, Any]:
    plain = {n: getattr(row, n, None) for n in SCHEMA.names}
    kind = "text" if isinstance(row.label, str) else "bool" if isinstance(row.label, bool) else "number"
    boxes = [{n: getattr(b, n) for n in ("x1", "y1", "x2", "y2", "label")} for b in row.boxes]
    texts = {n: None if plain[n] is None else dumps(msgspec.to_builtins(plain[n])) for n in _JSON}
    label = row.label if isinstance(row.label, str) else dumps(row.label)
    return (
        plain
        | texts
        | {
            "label": label,
            "label_kind": kind,
            "boxes": boxes,
            "at": row.at_us,
            "adjudicated": row.source == "adjudicated",
        }
    )
