"""One log row for people and SQL: words instead of numbers, None instead of NaN, names instead of indexes.

`parquet.py` does the same for whole columns; a test holds the two together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tenure.data import columnar
from tenure.data.frames import Frame
from tenure.data.records import By, Flag, Kind, Status
from tenure.types import Level, Route

NO_VERSION = 65_535

RENAMED = {"unit": "unit_hash", "key": "key_hash"}
"""Fixed columns whose name the variable part also uses."""

WORDS: dict[str, tuple[str, ...]] = {
    "role": ("stable", "candidate"),
    "route": tuple(r.name.lower() for r in Route),
    "by": tuple(b.name.lower() for b in By),
    "level": tuple(level.word for level in Level),
    "status": tuple(s.name.lower() for s in Status),
}
"""Columns of small numbers; an index outside the tuple becomes None."""

FLAGS: dict[str, int] = {flag.name.lower(): flag.value for flag in Flag if flag.name}

ANY, TEXT, BYTES = "any", "text", "bytes"
VARIABLE: dict[Kind, dict[str, str]] = {
    Kind.PREDICTION: {
        "value": ANY, "regions": ANY, "probabilities": ANY, "record": ANY,
        "reason": TEXT, "text": TEXT, "unit": TEXT, "at": TEXT,
    },
    Kind.SHADOW: {"value": ANY, "regions": ANY, "probabilities": ANY, "reason": TEXT},
    Kind.OUTCOME: {"kind": TEXT, "value": ANY, "source": TEXT},
    Kind.DECISION: {"value": ANY, "regions": ANY, "reader": TEXT, "item": TEXT, "reason": TEXT},
    Kind.PAYLOAD: {"media_type": TEXT, "sha256": TEXT, "data": BYTES},
}  # fmt: skip
"""Keys of the variable part. `any` is JSON text in Parquet and a decoded value in a row."""


def row(frame: Frame, i: int) -> dict[str, Any]:
    """Return row i with the columns of the SQL view, except the timestamps `t` and `deadline`.

    `value`, `regions`, `probabilities` and `record` are decoded. Metric and stage columns are spelled
    `x_<metric>` and `stage_us_<stage>`.
    """
    kind, schema = Kind(frame.kind), frame.schema
    columns = columnar.fill(schema, frame.columns())
    fixed = {name: column[i].item() for name, column in columns.items()}
    out: dict[str, Any] = {"run": frame.run, "endpoint": schema.endpoint}
    for name, number in fixed.items():
        out[column_name(name)] = _plain(name, number, schema.versions)
    if "flags" in fixed:
        out |= {name: bool(fixed["flags"] & bit) for name, bit in FLAGS.items()}
    var = frame.var(i)
    out |= {key: _typed(var.get(key), form) for key, form in VARIABLE.get(kind, {}).items()}
    if "value" in out:
        out["label"] = label(out["value"])
    return out


def column_name(name: str) -> str:
    """Return the name that SQL uses for a fixed column."""
    return columnar.sealed_name(RENAMED.get(name, name))


def label(value: Any) -> str | None:
    """Return a text or truth value as a word that SQL can group by; None for numbers and nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def _plain(name: str, number: Any, versions: tuple[str, ...]) -> Any:
    if name == "version":
        return versions[number] if number < len(versions) else None
    if name in WORDS:
        return WORDS[name][number] if number < len(WORDS[name]) else None
    if name == "deadline_ns":
        return number or None
    return None if isinstance(number, float) and np.isnan(number) else number


def _typed(value: Any, form: str) -> Any:
    if value is None or form == ANY or (form == TEXT and isinstance(value, str)):
        return value
    return bytes(value) if form == BYTES else str(value)
