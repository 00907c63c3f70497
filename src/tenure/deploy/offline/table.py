"""The columns of the output, and rows as Parquet, CSV or JSON lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tenure.deploy.offline.rows import Answered, Rejected
from tenure.scope.project import Output
from tenure.types import Value

_encode = msgspec.json.Encoder(enc_hook=str).encode
FIXED = ("row", "id", "value", "confidence", "decided_by", "reason", "version")
CHANCE = "p_"
"""Before a label's name: the column of its probability."""


class Layout(msgspec.Struct, frozen=True):
    """The columns of an output.

    Attributes:
        number: `value` is a number; else text.
        labels: one column of probabilities each; without labels there is one JSON column `probabilities`.
        keep: copied input columns.
    """

    number: bool
    labels: tuple[str, ...]
    keep: tuple[str, ...] = ()

    @classmethod
    def of(cls, output: Output, keep: Sequence[str] = ()) -> Layout:
        return cls(output.kind == "number", output.labels, tuple(keep))

    @property
    def chances(self) -> tuple[str, ...]:
        """Names of the columns of probabilities."""
        return tuple(CHANCE + label for label in self.labels) or ("probabilities",)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return (*self.keep, *FIXED[:4], *self.chances, *FIXED[4:])

    def line(self, row: Answered) -> dict[str, Any]:
        """Return a row's values by column."""
        return {
            **{name: row.kept.get(name) for name in self.keep},
            "row": row.row,
            "id": row.id,
            "value": _number(row.value) if self.number else text(row.value),
            "confidence": row.confidence,
            **self._chances(row.probabilities),
            "decided_by": row.decided_by,
            "reason": row.reason,
            "version": row.version,
        }

    def _chances(self, known: dict[str, float] | None) -> dict[str, Any]:
        if self.labels:
            return {CHANCE + label: (known or {}).get(label) for label in self.labels}
        return {"probabilities": None if known is None else json_text(known)}


def text(value: Value) -> str | None:
    """Return an answer as text, as the log's `label` column spells truth values."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else repr(value)


def encode(layout: Layout, rows: Sequence[Answered], form: str) -> bytes:
    """Return a file of rows in `parquet`, `csv` or `jsonl`."""
    lines = [layout.line(row) for row in rows]
    return {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}[form](layout, lines)


def quarantine(rows: Sequence[Rejected]) -> bytes:
    """Return the quarantine's JSON lines: row, id, code, reason, at, record."""
    return b"".join(json_text(msgspec.structs.asdict(row)).encode() + b"\n" for row in rows)


def json_text(value: Any) -> str:
    """Return a value as JSON; what JSON cannot say is spelled, such as dates and bytes that are no text."""
    try:
        return _encode(value).decode()
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
        return _encode(_spelled(value)).decode()


def _spelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(_spelled(key)): _spelled(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(inner) for inner in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value if value is None or isinstance(value, bool | float) else str(value)


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _parquet(layout: Layout, lines: Sequence[dict[str, Any]]) -> bytes:
    columns = {name: _array(layout, name, [line[name] for line in lines]) for name in layout.columns}
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd")
    return out.getvalue()


def _array(layout: Layout, name: str, values: list[Any]) -> pa.Array:
    if name in layout.keep:
        return _kept(values)
    if name == "row":
        return pa.array(values, pa.int64())
    number = (
        name == "confidence" or (name in layout.chances and layout.labels) or (name == "value" and layout.number)
    )
    return pa.array(values, pa.float64() if number else pa.string())


def _kept(values: list[Any]) -> pa.Array:
    """Return a copied column; values that have no common type become JSON text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.array([None if v is None else json_text(v) for v in values], pa.string())


def _csv(layout: Layout, lines: Sequence[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, layout.columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue().encode("utf-8", "backslashreplace")


def _jsonl(layout: Layout, lines: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(json_text(line).encode() + b"\n" for line in lines)
