"""The log under damage: cuts, flipped bits, zeros. A wrong row never comes out, a good one always does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "unit" / "data"))

from log_rows import OTHERS, PREDICTIONS, frame_of, writer_of

from tenure.clock import ManualClock
from tenure.data import frames
from tenure.data.keeper import Keeper
from tenure.data.records import FIXED, Kind, Schema
from tenure.data.seal import frames_of
from tenure.data.spool import SchemaStore

RUN = 0x0F1E2D3C4B5A6978
NAME = f"w-{RUN:016x}-000001"
SCHEMAS = {s.id: s for s in (PREDICTIONS, *OTHERS.values())}


class Store(SchemaStore):
    """Schemas from memory."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self._known = dict(SCHEMAS)


STORE = Store()
PARTS = [
    frame_of(PREDICTIONS, [0], run=RUN),
    frame_of(OTHERS[Kind.DECISION], [0], run=RUN),
    frame_of(PREDICTIONS, [1, 2, 3], run=RUN),
    frame_of(OTHERS[Kind.PAYLOAD], [3], run=RUN),
    frame_of(OTHERS[Kind.OUTCOME], [1], run=RUN),
    frame_of(PREDICTIONS, [4], run=RUN),
]
WHOLE = b"".join(PARTS)
STARTS = [sum(map(len, PARTS[:i])) for i in range(len(PARTS) + 1)]


def survivors(data: bytes) -> list[bytes]:
    return [bytes(placed.frame) for placed in frames_of(data, NAME, STORE)]


def numbers(dtype: str) -> st.SearchStrategy[Any]:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return st.floats(width=kind.itemsize * 8)
    info = np.iinfo(kind)
    return st.integers(int(info.min), int(info.max))


@st.composite
def some_rows(draw: st.DrawFn) -> tuple[Schema, dict[str, list[Any]], list[dict[str, Any]]]:
    kind = draw(st.sampled_from(list(Kind)))
    extra = draw(st.lists(st.sampled_from(["<f4", "<u8", "u1", "<i2"]), max_size=5))
    columns = FIXED[kind] + tuple((f"x:{i}", d) for i, d in enumerate(extra))
    rows = draw(st.integers(1, 4))
    values = {name: draw(st.lists(numbers(d), min_size=rows, max_size=rows)) for name, d in columns}
    plain = (
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.binary(max_size=5)
    )
    tree = st.recursive(
        plain, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=3), t, max_size=3)
    )
    blobs = st.dictionaries(st.text(max_size=6), tree, max_size=3)
    return Schema(kind, "e", columns), values, draw(st.lists(blobs, min_size=rows, max_size=rows))


@settings(max_examples=80, deadline=None)
@given(some_rows(), st.integers(0, 2**64 - 1), st.booleans())
def test_what_is_encoded_is_decoded(given_rows: Any, run: int, as_arrays: bool) -> None:
    schema, values, blobs = given_rows
    dtypes = dict(schema.columns)
    columns = {n: np.array(v, dtypes[n]) for n, v in values.items()} if as_arrays else values
    var = [msgspec.msgpack.encode(b) for b in blobs]
    data = frames.encode(schema, run=run, first_seq=0, t_ns=1, columns=columns, var=var)
    (frame,) = frames.scan(data, run=run, schemas=lambda _: schema)
    for name, column in frame.columns().items():
        np.testing.assert_array_equal(column, np.array(values[name], dtypes[name]))
    assert [frame.var(i) for i in range(frame.rows)] == blobs
    assert frame.end == len(data)


def test_every_cut_leaves_exactly_the_complete_frames() -> None:
    for cut in range(len(WHOLE) + 1):
        complete = [p for p, end in zip(PARTS, STARTS[1:], strict=True) if end <= cut]
        scan = frames.scan(WHOLE[:cut], run=RUN)
        found = []
        while True:
            try:
                found.append(bytes(next(scan)))
            except StopIteration as stop:
                why = stop.value
                break
        assert found == complete
        assert why[:2] == ("end" if cut in STARTS else "torn", STARTS[len(complete)])


@settings(max_examples=300, deadline=None)
@given(st.sets(st.integers(0, len(WHOLE) * 8 - 1), min_size=1, max_size=4))
def test_flipped_bits_spoil_only_the_frames_they_hit(bits: set[int]) -> None:
    data = bytearray(WHOLE)
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    hit = {max(i for i, s in enumerate(STARTS[:-1]) if s <= bit // 8) for bit in bits}
    assert survivors(bytes(data)) == [p for i, p in enumerate(PARTS) if i not in hit]


def test_every_single_flipped_header_bit_spoils_only_its_frame() -> None:
    start = STARTS[2]
    for bit in range(64 * 8):
        data = bytearray(WHOLE)
        data[start + bit // 8] ^= 1 << bit % 8
        assert survivors(bytes(data)) == [p for i, p in enumerate(PARTS) if i != 2]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(WHOLE)), st.integers(1, 3000))
def test_zeros_behind_any_cut_add_no_row(cut: int, zeros: int) -> None:
    complete = [p for p, end in zip(PARTS, STARTS[1:], strict=True) if end <= cut]
    found = survivors(WHOLE[:cut] + bytes(zeros))
    assert found[: len(complete)] == complete
    assert all(extra in PARTS for extra in found[len(complete) :])  # the lost bytes were zeros themselves
    assert len(found) <= len(complete) + 1


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=80))
def test_garbage_between_frames_costs_no_frame(at: int, garbage: bytes) -> None:
    i = max(i for i, s in enumerate(STARTS[:-1]) if s <= at)
    data = WHOLE[: STARTS[i]] + garbage + WHOLE[STARTS[i] :]
    assert survivors(data) == PARTS


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.integers(0, 6), min_size=1, max_size=20), limit=st.integers(1, 2000))
def test_the_keeper_hands_out_each_frame_once_however_it_is_polled(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], limit: int
) -> None:
    """0 polls, 1 restarts the keeper from its positions, n appends n - 1 frames."""
    folder, clock, seq, seen = tmp_path_factory.mktemp("keeper"), ManualClock(), 0, list[int]()
    writer, keeper = writer_of(folder, RUN, clock, segment_bytes=1500), Keeper(folder, clock)

    def poll() -> bool:
        reads = keeper.poll(limit)
        seen.extend(s for r in reads for s in r.frame.columns()["seq"].tolist())
        keeper.seal_due(keeper.positions())
        return bool(reads)

    for step in steps:
        if step == 0:
            poll()
        elif step == 1:
            positions = keeper.positions()
            keeper.close()
            keeper = Keeper(folder, clock)
            keeper.restore(positions)
        for _ in range(step - 1):
            writer.append(frame_of(PREDICTIONS, [seq], run=RUN))
            seq += 1
    writer.close()
    while poll() or keeper.positions():
        pass
    assert sorted(seen) == list(range(seq))
