"""Our own form: one record per standing judgement, with provenance, as JSON lines or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy.engine import RowMapping

from tenure.data.state import dumps
from tenure.maintain.exchange.entry import Out, Taken, wrong
from tenure.types import Box, Value

FORMAT = 1
JSON = ("value", "regions", "truth", "predicted", "decision", "record")
"""Columns that are JSON text in Parquet, since their type is the endpoint's."""

_TEXT = ("item", "endpoint", "reader", "role", "source", "kind", "unit", "version", "decided_by", "file", *JSON)
_TYPES = (
    dict.fromkeys(_TEXT, pa.string())
    | dict.fromkeys(("format", "judgement", "at_us"), pa.int64())
    | dict.fromkeys(("seconds", "confidence", "weight"), pa.float64())
    | dict.fromkeys(("blind", "late", "adjudicated", "shown_suggestion"), pa.bool_())
)
SCHEMA = pa.schema(sorted(_TYPES.items()), metadata={b"tenure_judgements": b"1"})


def records(outs: Iterable[Out]) -> Iterator[dict[str, Any]]:
    """Yield the standing judgements of each item; one record without a reader where there is none."""
    for out in outs:
        for reading in out.judged.readings or (None,):
            yield _item(out) | (_NOBODY if reading is None else _reading(reading))


def write_jsonl(found: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write records, one per line; returns how many."""
    count = 0
    with path.open("wb") as file:
        for one in found:
            file.write(msgspec.json.encode(one, order="sorted") + b"\n")
            count += 1
    return count


def write_parquet(found: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write records as a table of `SCHEMA`; returns how many."""
    rows = [{**one, **{n: None if one[n] is None else dumps(one[n]) for n in JSON}} for one in found]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")
    return len(rows)


def read_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each line with its place in the file.

    Raises:
        CaseError: `invalid_exchange`, a line is no JSON object.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            at = f"{path.name}:{number}"
            try:
                one = json.loads(line)
            except ValueError as error:
                raise wrong(at, f"is no JSON: {error}") from error
            if not isinstance(one, dict):
                raise wrong(at, "expected an object")
            yield at, one


def read_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each row with its place in the file, JSON columns decoded.

    Raises:
        CaseError: `invalid_exchange`, the file or a column cannot be read.
    """
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise wrong(path.name, f"is no Parquet file: {error}") from error
    for number, row in enumerate(rows):
        at = f"{path.name}[{number}]"
        for name in JSON:
            try:
                row[name] = None if row.get(name) is None else json.loads(row[name])
            except (TypeError, ValueError) as error:
                raise wrong(f"{at}.{name}", f"is no JSON text: {error}") from error
        yield at, row


def read(found: Iterable[tuple[str, Mapping[str, Any]]], *, name: str) -> Iterator[Taken]:
    """Yield the judgements of records; those without a reader are left out.

    Raises:
        CaseError: `invalid_exchange`; the text names file, record and field.
    """
    for at, one in found:
        if one.get("reader") is None:
            continue
        for field in ("item", "reader"):
            if not isinstance(one.get(field), str) or not one[field]:
                raise wrong(f"{at}.{field}", f"expected a text, got {one.get(field)!r}")
        value = one.get("value")
        if not isinstance(value, str | int | float | bool):
            raise wrong(f"{at}.value", f"expected a text, a number or a truth value, got {value!r}")
        yield _taken(one, value, at=at, name=name)


def _taken(one: Mapping[str, Any], value: Value, *, at: str, name: str) -> Taken:
    try:
        boxes = msgspec.convert(one.get("regions") or (), tuple[Box, ...])
        seconds = msgspec.convert(one.get("seconds") or 0.0, float)
    except msgspec.ValidationError as error:
        raise wrong(f"{at}.regions", str(error)) from error
    number = one.get("judgement")
    return Taken(
        item=one["item"], reader=f"{name}:{one['reader']}", value=value, regions=boxes, seconds=seconds,
        key=f"{name}:{one['item']}:{one['reader']}:{'' if number is None else number}", at=at,
        shown=one.get("blind") is not True, ours=number if isinstance(number, int) else None,
    )  # fmt: skip


def _item(out: Out) -> dict[str, Any]:
    said, item = out.judged, out.judged.item
    return {
        "format": FORMAT, "item": out.id, "endpoint": item["endpoint"], "kind": item["kind"],
        "unit": out.unit, "truth": out.truth, "source": item["source"], "weight": out.weight,
        "adjudicated": item["source"] == "adjudicated", "shown_suggestion": said.shown,
        "version": item["version"], "predicted": said.predicted, "confidence": said.confidence,
        "decision": said.decision, "decided_by": said.decided_by or None, "file": out.file, "record": out.record,
    }  # fmt: skip


_NOBODY = dict.fromkeys(
    ("judgement", "reader", "role", "value", "regions", "blind", "late", "seconds", "at_us"), None
)


def _reading(reading: RowMapping) -> dict[str, Any]:
    return {
        "judgement": reading["id"], "reader": reading["reader"], "role": reading["role"],
        "value": json.loads(reading["value"]), "regions": json.loads(reading["regions"]),
        "blind": bool(reading["blind"]), "late": bool(reading["late"]), "seconds": reading["seconds"],
        "at_us": reading["at_us"],
    }  # fmt: skip
