"""What a row says in columns and in its variable part reads as one, singly, in bulk and in Parquet."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from log_rows import writer_of

from tenure.clock import ManualClock
from tenure.data import rows
from tenure.data.frames import Encoder, Frame, read
from tenure.data.keeper import Keeper
from tenure.data.parquet import Placed, plain_row, tables
from tenure.data.records import NO_LABEL, PREDICTION, Kind, Schema, Status, prediction_schema
from tenure.data.spool import SchemaStore
from tenure.data.view import Log
from tenure.errors import StoreError
from tenure.types import Level, Route

SCHEMA = prediction_schema(
    "risk", stages=("score",), metrics=("missing", "field:a"), versions=("m@1",), labels=("no", "yes"),
    fields=(("a", "float"), ("n", "int"), ("b", "bool")),
)  # fmt: skip
NAN = math.nan
SPECIAL: dict[str, list[Any]] = {
    "seq": [1, 2, 3, 4, 5],
    "status": [Status.OK, Status.OK, Status.REFUSED, Status.FAILED, Status.OK],
    "route": [Route.AUTO, Route.PENDING, Route.REFUSED, Route.PENDING, Route.AUTO],
    "level": [Level.FULL, Level.FULL, Level.FULL, Level.FULL, Level.PARTIAL],
    "label": [1, NO_LABEL, NO_LABEL, NO_LABEL, 0],
    "p:no": [0.25, NAN, NAN, NAN, 0.5],
    "p:yes": [0.75, NAN, NAN, NAN, NAN],
    "f:a": [1.5, NAN, NAN, 2.0, -0.0],
    "f:n": [7, -3, NAN, NAN, 2**53],
    "f:b": [1, 0, NAN, 1, NAN],
}
BLOBS: list[dict[str, Any]] = [
    {}, {"value": None, "reason": "asked"}, {"reason": "x: y", "at": "a"}, {"reason": "no"},
    {"record": {"a": 1.0, "n": 2**60, "b": None}, "unit": "w"},
]  # fmt: skip
EXPECTED: list[dict[str, Any]] = [
    {"value": "yes", "probabilities": {"no": 0.25, "yes": 0.75}, "record": {"a": 1.5, "n": 7, "b": True},
     "reason": "level full"},
    {"value": None, "record": {"a": None, "n": -3, "b": False}, "reason": "asked"},
    {"reason": "x: y", "at": "a"},
    {"record": {"a": 2.0, "n": None, "b": True}, "reason": "no"},
    {"value": "no", "probabilities": {"no": 0.5}, "record": {"a": 1.0, "n": 2**60, "b": None}, "unit": "w"},
]  # fmt: skip


def frame() -> Frame:
    columns = {name: SPECIAL.get(name, [0] * 5) for name, _ in SCHEMA.columns}
    blobs = [msgspec.msgpack.encode(b) if b else b"" for b in BLOBS]
    data = Encoder(SCHEMA).encode(run=9, first_seq=1, t_ns=5, columns=columns, var=blobs)
    got = read(data, schemas=lambda _: SCHEMA)
    assert isinstance(got, Frame)
    return got


def test_columns_and_blobs_read_as_one() -> None:
    made = frame()
    assert [made.var(i) for i in range(5)] == EXPECTED
    assert made.vars() == EXPECTED
    types = [type(v) for v in made.var(0)["record"].values()]
    assert types == [float, int, bool]


def test_a_row_and_its_sealed_form_agree() -> None:
    made = frame()
    singly = [rows.row(made, i) for i in range(5)]
    (table,) = tables([Placed("s", 0, made)]).values()
    sealed = [plain_row(r, lambda _: SCHEMA) for r in table.to_pylist()]
    for one, other in zip(singly, sealed, strict=True):
        assert {k: other[k] for k in one} == one
    assert [r["label"] for r in singly] == ["yes", None, None, None, "no"]
    assert table["f_n"].to_pylist() == [7, -3, None, None, 2**53]


def test_a_schema_without_columns_of_its_own_keeps_its_name() -> None:
    """The id of a schema is in every frame: a new attribute must not move the old ones."""
    plain = Schema(1, "e", PREDICTION, ("m@1",))
    assert b"labels" not in plain.canonical()
    assert msgspec.json.decode(plain.canonical(), type=Schema) == plain
    assert msgspec.json.decode(SCHEMA.canonical(), type=Schema) == SCHEMA


def test_parts_make_the_frame_that_columns_make() -> None:
    encoder, n = Encoder(SCHEMA), 3
    rng = np.random.default_rng(1)
    head = len(PREDICTION) + 1
    for rows_ in (1, n):
        columns: dict[str, Any] = {}
        given: list[Any] = []
        for k, (name, text) in enumerate(SCHEMA.columns):
            dtype = np.dtype(text)
            same = k % 3 == 0 and k < head
            column = np.full(rows_, 7, dtype) if same else rng.integers(0, 9, rows_).astype(dtype)
            columns[name] = column
            given.append(7 if same else column if k % 2 else column.tolist())
        tail = b"".join(columns[name].tobytes() for name, _ in SCHEMA.columns[head:])
        blobs = [b"\x80"] * rows_
        whole = encoder.encode(run=1, first_seq=1, t_ns=2, columns=columns, var=blobs)
        parts = encoder.encode_parts(run=1, first_seq=1, t_ns=2, head=given[:head], tail=tail, var=blobs)
        assert parts == whole


@pytest.mark.parametrize(
    ("head", "tail", "at"),
    [(["x"], b"", "seq"), ([1, [1, 2]], b"", "t_ns"), ([1], b"short", None), ([-1], b"", "seq")],
)
def test_parts_that_do_not_fit_are_refused(head: list[Any], tail: bytes, at: str | None) -> None:
    with pytest.raises(StoreError) as caught:
        Encoder(SCHEMA).encode_parts(run=1, first_seq=1, t_ns=2, head=head, tail=tail, var=[b"", b"", b""])
    assert caught.value.code == "record_invalid"
    if at:
        assert at in caught.value.message


def test_sql_and_look_ups_find_what_only_columns_hold(tmp_path: Path) -> None:
    """Sealed files do not repeat records as text; whoever asks gets them as if they did."""
    SchemaStore(tmp_path / "schemas").put(SCHEMA)
    clock = ManualClock()
    worker = writer_of(tmp_path, 9, clock)
    worker.append(bytes(frame()))
    sql = "SELECT record, probabilities, value FROM predictions ORDER BY seq"
    live = Log(tmp_path).query(sql).to_pylist()
    worker.close()
    keeper = Keeper(tmp_path, clock)
    keeper.poll()
    (file,) = [f for f in keeper.seal_due(keeper.positions()) if f.kind == Kind.PREDICTION]
    keeper.close()
    log = Log(tmp_path)
    assert live == log.query(sql).to_pylist()
    found = [{k: None if v is None else msgspec.json.decode(v) for k, v in row.items()} for row in live]
    assert found == [{key: row.get(key) for key in found[0]} for row in EXPECTED]
    held = [row for row in pq.read_table(tmp_path / file.path)["record"].to_pylist() if row is not None]
    assert [msgspec.json.decode(text) for text in held] == [EXPECTED[4]["record"]]
    for number, expected in enumerate(EXPECTED, start=1):
        row = log.find(9, number)
        assert row is not None
        assert {key: row[key] for key in expected if key in row} == expected
    ages = log.query("SELECT CAST(record ->> 'n' AS BIGINT) AS n FROM predictions WHERE seq = 2").to_pylist()
    assert ages == [{"n": -3}]
