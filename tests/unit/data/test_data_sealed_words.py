"""Sealed files hold what the live log says, as plain types, however the words were handed to the writer."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenure.data import frames, seal
from tenure.data.parquet import tables
from tenure.data.records import Schema, prediction_schema
from tenure.data.spool import SchemaStore

RUN, T0 = 7, 1_760_000_000_000_000_000
SEGMENT = f"worker-0-{RUN:016x}-000001"


def schema_of(*versions: str) -> Schema:
    return prediction_schema(
        "risk",
        stages=("risk",),
        metrics=("missing", "field:a"),
        versions=versions,
        labels=("no", "yes"),
        fields=(("a", "float"),),
        single=True,
    )


def frame_of(schema: Schema, first: int, blobs: list[bytes]) -> bytes:
    rows, rng = len(blobs), np.random.default_rng(first)
    columns = {name: np.zeros(rows, np.dtype(text)) for name, text in schema.columns}
    columns |= {
        "seq": np.arange(first, first + rows, dtype=np.uint64),
        "t_ns": np.full(rows, T0 + first, np.int64),
        "version": rng.integers(0, len(schema.versions) + 1, rows).astype(np.uint16),
        "route": rng.integers(0, 5, rows).astype(np.uint8),
        "level": np.full(rows, 4, np.uint8),
        "label": np.arange(rows, dtype=np.uint16) % 3,
        "x:field:a": np.where(np.arange(rows) % 5 == 4, np.nan, rng.normal(size=rows)).astype(np.float32),
    }
    return frames.encode(schema, run=RUN, first_seq=first, t_ns=T0, columns=columns, var=blobs)


def said(**var: object) -> bytes:
    return msgspec.msgpack.encode(var)


ROWS = [said(value=1.5, reason="close"), b"", said(value="maybe"), b"", b"", said(unit="line-1")]
LOGS = {
    "bare": [("m@1", [b""] * 64), ("m@1", [b""])],
    "with blobs": [("m@1", [b""] * 3), ("m@1", ROWS), ("m@1", [ROWS[0]])],
    "two schemas in turn": [("m@1", ROWS), ("m@1 m@2", [b""] * 5), ("m@1", [b""])],
}


@pytest.mark.parametrize("log", LOGS)
def test_a_sealed_segment_equals_its_live_rows(tmp_path: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenure.data.parquet._CHUNK", 4)  # several tables per schema, joined
    store, data, first = SchemaStore(tmp_path / "schemas"), b"", 1
    for versions, blobs in LOGS[log]:
        schema = schema_of(*versions.split())
        store.put(schema)
        data += frame_of(schema, first, blobs)
        first += len(blobs)
    (live,) = tables(seal.frames_of(data, SEGMENT, store)).values()
    path = tmp_path / "spool" / f"{SEGMENT}.seg"
    path.parent.mkdir()
    path.write_bytes(data)

    (file,) = seal.seal_segment(tmp_path, SEGMENT, store, now_ns=T0)

    held = pq.read_table(tmp_path / file.path, partitioning=None)
    assert held.cast(live.schema).equals(live)
    assert {f.name for f in held.schema if f.nullable} == {n for n in live.column_names if live[n].null_count}
    assert not any(pa.types.is_dictionary(field.type) for field in held.schema)
    assert seal.segments_of(tmp_path / file.path) == {SEGMENT}
    assert file == seal.describe(tmp_path, tmp_path / file.path, now_ns=T0)


def test_files_of_other_columns_and_nulls_are_merged(tmp_path: Path) -> None:
    """One file lacks a column, and nulls stand in other columns of each."""
    store, hour_ns = SchemaStore(tmp_path / "schemas"), 3_600_000_000_000
    older = msgspec.structs.replace(schema_of("m@1"), columns=schema_of("m@1").columns[:-1])
    older = msgspec.structs.replace(older, labels=older.labels[:1])
    (tmp_path / "spool").mkdir()
    parts = []
    for number, (schema, blobs) in enumerate(((older, [b""] * 2), (schema_of("m@1"), ROWS)), 1):
        store.put(schema)
        segment = f"worker-0-{RUN:016x}-{number:06d}"
        (tmp_path / "spool" / f"{segment}.seg").write_bytes(frame_of(schema, 10 * number, blobs))
        (file,) = seal.seal_segment(tmp_path, segment, store, now_ns=T0)
        parts.append(pq.read_table(tmp_path / file.path, partitioning=None))

    merged = seal.compact(tmp_path, now_ns=T0 + 3 * hour_ns)

    (file,) = merged.added
    held = pq.read_table(tmp_path / file.path, partitioning=None)
    assert "p_yes" not in parts[0].column_names
    assert held["p_yes"].to_pylist()[:2] == [None, None]
    for part, at in zip(parts, (0, 2), strict=True):
        mine = held.slice(at, len(part)).select(part.column_names)
        assert mine.to_pylist() == part.to_pylist()


def test_a_frame_knows_whether_a_row_has_a_variable_part() -> None:
    schema = schema_of("m@1")
    for blobs, any_of_them in (([b""], False), ([b""] * 9, False), (ROWS, True), ([ROWS[0]], True)):
        frame = frames.read(frame_of(schema, 1, blobs), schemas=lambda _: schema)
        assert isinstance(frame, frames.Frame)
        assert frame.has_blobs() is any_of_them
        assert [i for i, _ in frame.blobs()] == [i for i, blob in enumerate(blobs) if blob]
