"""Frames: layout, errors that name the column, defaults of missing columns."""

from __future__ import annotations

import math
import struct
import zlib

import msgspec
import numpy as np
import pytest
from log_rows import OTHERS, PREDICTIONS, T0, columns_of, frame_of, var_of

from tenure.data import frames
from tenure.data.frames import Frame, Stop
from tenure.data.records import FIXED, Kind, Schema
from tenure.errors import StoreError

RUN = 0xDEADBEEF12345678


def schemas(key: int) -> Schema:
    return {s.id: s for s in (PREDICTIONS, *OTHERS.values())}[key]


def test_the_header_is_64_bytes_with_every_field_at_its_place() -> None:
    data = frame_of(PREDICTIONS, [7, 8], run=RUN)
    assert data[:4] == b"TNR1"
    assert struct.unpack_from("<HHII", data, 4) == (1, 1, PREDICTIONS.id, 2)
    assert struct.unpack_from("<QQQ", data, 16) == (RUN, 7, T0)
    length, crc_body, flags, crc_header, reserved = struct.unpack_from("<IIIIQ", data, 40)
    assert (length, flags, reserved) == (len(data) - 64, 0, 0)
    assert crc_body == zlib.crc32(data[64:])
    assert crc_header == zlib.crc32(data[:52])


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("kind", list(Kind))
def test_what_goes_in_comes_out(kind: Kind, rows: int) -> None:
    schema = PREDICTIONS if kind == Kind.PREDICTION else OTHERS[kind]
    seqs = list(range(10, 10 + rows))
    (frame,) = frames.scan(frame_of(schema, seqs, run=RUN), schemas=schemas)
    got = frame.columns()
    for name, values in columns_of(schema, seqs, RUN).items():
        np.testing.assert_array_equal(got[name], np.array(values, dict(schema.columns)[name]))
    assert [frame.var(i) for i in range(rows)] == [var_of(kind, s) for s in seqs]


def test_arrays_and_lists_make_the_same_bytes() -> None:
    lists = columns_of(PREDICTIONS, [1, 2, 3], RUN)
    arrays = {n: np.array(v, dict(PREDICTIONS.columns)[n]) for n, v in lists.items()}
    made = [
        frames.encode(PREDICTIONS, run=RUN, first_seq=1, t_ns=T0, columns=c, var=[b"", b"a", b"bb"])
        for c in (lists, arrays)
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("rows", [1, 2, 300])
def test_rows_with_a_packed_tail_make_the_same_bytes_as_columns(rows: int) -> None:
    columns = columns_of(PREDICTIONS, list(range(1, rows + 1)), RUN)
    arrays = [np.array(v, dict(PREDICTIONS.columns)[n]) for n, v in columns.items()]
    var = [b"a" * (i % 3) for i in range(rows)]
    whole = frames.encode(PREDICTIONS, run=RUN, first_seq=1, t_ns=T0, columns=columns, var=var)
    encoder = frames.Encoder(PREDICTIONS)
    for split in (1, len(arrays) - 2, len(arrays)):
        led = list(zip(*list(columns.values())[:split], strict=True))
        tail = b"".join(a.tobytes() for a in arrays[split:])
        made = encoder.encode_rows(run=RUN, first_seq=1, t_ns=T0, rows=led, tail=tail, var=var)
        assert made == whole


def test_a_row_or_a_tail_that_does_not_fit_is_refused() -> None:
    values = [v for (v,) in columns_of(PREDICTIONS, [1], RUN).values()]
    encoder, names = frames.Encoder(PREDICTIONS), [name for name, _ in PREDICTIONS.columns]
    for at, value in (("latency_us", -1), ("level", 300), ("share", 1e300), ("policy", None)):
        wrong = [value if name == at else v for name, v in zip(names, values, strict=True)]
        for rows in ([wrong], [values, wrong]):
            with pytest.raises(StoreError, match=at):
                encoder.encode_rows(run=RUN, first_seq=1, t_ns=T0, rows=rows, tail=b"", var=[b""] * len(rows))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="size"):
        encoder.encode_rows(run=RUN, first_seq=1, t_ns=T0, rows=[values], tail=b"x", var=[b""])


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"latency_us": [-1]}, "latency_us"),
        ({"latency_us": [2**32]}, "latency_us"),
        ({"level": [300]}, "level"),
        ({"share": [1e300]}, "share"),
        ({"policy": [1.5]}, "policy"),
        ({"seq": [1, 2]}, "seq"),
        ({"seq": []}, "seq"),
        ({"surplus": [1]}, "surplus"),
    ],
)
def test_a_wrong_column_is_named(change: dict[str, list[float]], at: str) -> None:
    columns = columns_of(PREDICTIONS, [1], RUN) | change
    with pytest.raises(StoreError, match=at) as caught:
        frames.encode(PREDICTIONS, run=RUN, first_seq=1, t_ns=T0, columns=columns, var=[b""])
    assert (caught.value.code, caught.value.at) == ("record_invalid", at)


def test_a_missing_column_is_named() -> None:
    columns = columns_of(PREDICTIONS, [1, 2], RUN)
    del columns["policy"]
    with pytest.raises(StoreError, match="'policy' is missing"):
        frames.encode(PREDICTIONS, run=RUN, first_seq=1, t_ns=T0, columns=columns, var=[b"", b""])


def test_a_frame_without_rows_is_refused() -> None:
    columns: dict[str, list[float]] = {name: [] for name, _ in PREDICTIONS.columns}
    with pytest.raises(StoreError, match="needs a row"):
        frames.encode(PREDICTIONS, run=RUN, first_seq=1, t_ns=T0, columns=columns, var=[])


def test_a_column_that_an_old_frame_lacks_gets_its_default() -> None:
    old = Schema(Kind.PREDICTION, "phones", FIXED[Kind.PREDICTION][:-2])
    frame = next(frames.scan(frame_of(old, [1, 2], run=RUN), schemas=lambda _: old))
    assert frame.columns()["n_regions"].tolist() == [0, 0]
    assert all(map(math.isnan, frame.columns()["number"]))


def test_seq_is_the_first_column_of_the_kinds_that_are_indexed_by_it() -> None:
    assert FIXED[Kind.PREDICTION][0] == FIXED[Kind.PAYLOAD][0] == ("seq", "<u8")


def test_stack_keeps_the_order_of_single_and_larger_frames() -> None:
    data = b"".join(frame_of(PREDICTIONS, s, run=RUN) for s in ([1], [2], [3, 4], [5], [6, 7], [8]))
    got = frames.stack(list(frames.scan(data, schemas=schemas)))
    assert got["seq"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal(
        got["confidence"], np.array(columns_of(PREDICTIONS, range(1, 9), RUN)["confidence"], "<f4")
    )


def test_a_newer_format_is_refused_and_not_guessed() -> None:
    data = bytearray(frame_of(PREDICTIONS, [1], run=RUN))
    struct.pack_into("<H", data, 4, frames.FORMAT + 1)
    struct.pack_into("<I", data, 52, zlib.crc32(data[:52]))
    with pytest.raises(StoreError, match="upgrade tenure") as caught:
        frames.read(bytes(data))
    assert caught.value.code == "format_newer"


def test_stops_tell_a_torn_end_from_bad_bytes() -> None:
    whole = frame_of(PREDICTIONS, [1], run=RUN)
    assert frames.read(b"") == Stop("end", 0)
    assert frames.read(whole[:3]) == Stop("torn", 0)
    assert frames.read(whole[:63]) == Stop("torn", 0)
    assert frames.read(whole[:-1]) == Stop("torn", 0, len(whole))
    assert frames.read(b"\0" * 20) == Stop("bad", 0)
    assert frames.read(b"\0" * 200) == Stop("bad", 0)
    assert frames.read(whole, run=RUN + 1) == Stop("bad", 0)


def test_a_payload_that_holds_a_frame_cannot_forge_rows() -> None:
    forged = frame_of(PREDICTIONS, [99], run=RUN + 1)
    blob = msgspec.msgpack.encode({"media_type": "x", "sha256": "", "data": forged})
    payload = frames.encode(
        OTHERS[Kind.PAYLOAD], run=RUN, first_seq=1, t_ns=T0, columns={"seq": [1], "t_ns": [T0]}, var=[blob]
    )
    broken = payload[:20] + bytes([payload[20] ^ 1]) + payload[21:]
    after = frame_of(PREDICTIONS, [2], run=RUN)
    at = frames.resume(broken + after, 0, run=RUN)
    assert at == len(broken)
    got = frames.read(broken + after, at, run=RUN, schemas=schemas)
    assert isinstance(got, Frame)
    assert got.columns()["seq"].tolist() == [2]
