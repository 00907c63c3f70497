"""Rows of every kind for tests of the log; values differ by seq so that a mixed-up row shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tenure.clock import ManualClock
from tenure.data import frames
from tenure.data.records import Kind, Schema, plain_schema, prediction_schema
from tenure.data.spool import SchemaStore, SpoolWriter

T0 = 1_760_000_000_000_000_000
PREDICTIONS = prediction_schema(
    "phones", stages=("decode", "scratch"), metrics=("brightness", "sharpness"), versions=("m@1", "m@2")
)
OTHERS = {
    kind: plain_schema(kind, "phones", ("m@1", "m@2"))
    for kind in (Kind.SHADOW, Kind.OUTCOME, Kind.DECISION, Kind.PAYLOAD, Kind.HEARTBEAT)
}


def value_of(name: str, dtype: str, seq: int, run: int) -> float:
    """Return a value that fits the column and depends on seq."""
    special = {
        "seq": seq, "run": run, "t_ns": T0 + seq * 1_000_000, "version": seq % 3 if seq % 3 < 2 else 65535,
        "deadline_ns": 0 if seq % 2 else T0 + 30_000_000_000, "role": seq % 2, "route": seq % 4, "by": seq % 4,
        "level": seq % 5, "status": seq % 5, "flags": seq % 128,
    }  # fmt: skip
    if name in special:
        return special[name]
    if np.dtype(dtype).kind == "f":
        return math.nan if seq % 5 == 4 else (seq % 97) / 4
    return seq % 251


def columns_of(schema: Schema, seqs: Sequence[int], run: int) -> dict[str, list[float]]:
    return {name: [value_of(name, d, s, run) for s in seqs] for name, d in schema.columns}


def var_of(kind: Kind, seq: int) -> dict[str, Any]:
    regions = [{"x1": 1.0, "y1": 2.0, "x2": 3.5, "y2": float(seq), "label": "crack"}] if seq % 2 else []
    value: Any = ["good", "defect", 1.5, None, True][seq % 5]
    return {
        Kind.PREDICTION: {"value": value, "regions": regions, "record": {"n": seq}, "unit": f"line-{seq % 4}"},
        Kind.SHADOW: {"value": value, "regions": regions, "probabilities": {"good": 0.25}},
        Kind.OUTCOME: {"kind": "truth", "value": value, "source": "client"},
        Kind.DECISION: {"value": value, "regions": regions, "reader": "ann", "item": f"i{seq}"},
        Kind.PAYLOAD: {"media_type": "image/png", "sha256": f"{seq:064x}", "data": bytes([seq % 256]) * 50},
        Kind.HEARTBEAT: {},
    }[kind]


def frame_of(schema: Schema, seqs: Sequence[int], *, run: int, about: int | None = None) -> bytes:
    """Return a frame written by `run`; rows that name a request's run name `about`."""
    return frames.encode(
        schema,
        run=run,
        first_seq=seqs[0],
        t_ns=T0,
        columns=columns_of(schema, seqs, run if about is None else about),
        var=[msgspec.msgpack.encode(var_of(Kind(schema.kind), s)) for s in seqs],
    )


def writer_of(
    folder: Path, run: int, clock: ManualClock, *, name: str = "worker-0", segment_bytes: int = 1 << 20
) -> SpoolWriter:
    store = SchemaStore(folder / "schemas")
    for schema in (PREDICTIONS, *OTHERS.values()):
        store.put(schema)
    return SpoolWriter(
        folder / "spool",
        name,
        run,
        segment_bytes=segment_bytes,
        segment_s=60.0,
        durability="process",
        clock=clock,
    )
