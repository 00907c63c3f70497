"""Print microseconds per row of encoding and appending frames, beside a plain `os.write` of the same bytes.

python benchmarks/log_append.py
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from tenure.clock import SystemClock
from tenure.data.frames import Encoder
from tenure.data.records import Schema, prediction_schema
from tenure.data.spool import SpoolWriter

RUN = 0x1234_5678_9ABC_DEF0
SCHEMA = prediction_schema(
    "phones",
    stages=("decode", "scratch"),
    metrics=tuple(f"m{i}" for i in range(12)),
    versions=("scratch@9f3c0000",),
)
BLOB = msgspec.msgpack.encode(
    {"value": "good", "regions": [{"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0, "label": "crack"}]}
)


def columns_of(schema: Schema, rows: int, *, arrays: bool) -> dict[str, object]:
    lists = {name: [1.5 if dtype[1] == "f" else 1] * rows for name, dtype in schema.columns}
    return {n: np.array(v, dict(schema.columns)[n]) for n, v in lists.items()} if arrays else dict(lists)


def microseconds(call: Callable[[], object], *, repeats: int = 7, calls: int = 2000) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls * 1e6)
    return median(times)


def main() -> None:
    encoder, out = Encoder(SCHEMA), sys.stdout
    out.write(f"{len(SCHEMA.columns)} columns, {len(BLOB)} variable bytes; median of 7, us per frame (per row)\n")
    out.write(f"{'rows':>4} {'columns':>8} {'bytes':>7} {'write':>14} {'encode':>14} {'encode+append':>16}\n")
    with tempfile.TemporaryDirectory() as folder:
        writer = SpoolWriter(
            Path(folder),
            "w",
            RUN,
            segment_bytes=16 << 20,
            segment_s=60,
            durability="process",
            clock=SystemClock(),
        )
        plain = os.open(Path(folder) / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for rows in (1, 8, 32):
            for form in ("lists", "arrays"):
                columns, var = columns_of(SCHEMA, rows, arrays=form == "arrays"), [BLOB] * rows

                def encode(columns=columns, var=var) -> bytes:
                    return encoder.encode(run=RUN, first_seq=1, t_ns=1, columns=columns, var=var)

                frame = encode()
                times = [
                    microseconds(lambda f=frame: os.write(plain, f)),
                    microseconds(encode),
                    microseconds(lambda e=encode: writer.append(e())),
                ]
                cells = " ".join(f"{t:7.2f} ({t / rows:4.2f})" for t in times)
                out.write(f"{rows:>4} {form:>8} {len(frame):>7} {cells}\n")
                os.ftruncate(plain, 0)
                for path in Path(folder).glob("*.seg"):
                    path.unlink()
        os.close(plain)
        writer.close()


if __name__ == "__main__":
    main()
