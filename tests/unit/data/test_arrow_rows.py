"""Arrow streams of strangers: what is in them is read, what could hurt is refused before it does."""

from __future__ import annotations

import contextlib
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.data.arrow_rows import read_rows, write_columns
from tenure.errors import CaseError


def stream(table: pa.Table, *, chunk: int | None = None, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return bytes(sink.getvalue())


def read(body: bytes, *, max_rows: int = 100, max_text: int = 10_000) -> list[dict[str, Any]]:
    return read_rows(body, max_rows=max_rows, max_text=max_text)


def code(body: bytes, **options: int) -> str:
    with pytest.raises(CaseError) as caught:
        read(body, **options)
    return caught.value.code


EVERYTHING = pa.table({
    "flag": [True, None, False],
    "small": pa.array([1, -2, None], pa.int8()),
    "half": pa.array([0.5, 1.5, None], pa.float16()),
    "text": ["a", None, "ü"],
    "large": pa.array(["a", "b", None], pa.large_string()),
    "view": pa.array(["short", "much longer than twelve bytes", None], pa.string_view()),
    "shared": pa.array(["x", "y", "x"]).dictionary_encode(),
    "shared_view": pa.DictionaryArray.from_arrays(pa.array([1, 0, None]), pa.array(["p", "q"], pa.string_view())),
    "nothing": pa.nulls(3),
})  # fmt: skip


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_every_plain_column_is_read(chunk: int | None) -> None:
    assert read(stream(EVERYTHING, chunk=chunk)) == EVERYTHING.to_pylist()


@pytest.mark.parametrize(
    "values",
    [[[1]], [{"a": 1}], pa.array([1], pa.timestamp("s")), pa.array([b"x"]), pa.array([1], pa.decimal128(5))],
)
def test_other_columns_are_refused_by_name(values: Any) -> None:
    with pytest.raises(CaseError, match="column 'odd' is"):
        read(stream(pa.table({"odd": values})))


def test_two_columns_of_one_name_are_refused() -> None:
    assert code(stream(pa.table([[1], [2]], names=["a", "a"]))) == "unreadable_arrow"


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("values", [["x" * 5000], pa.array(["y" * 5000]).dictionary_encode(), [1.0] * 50])
def test_a_compressed_stream_is_refused_before_it_is_unpacked(compression: str, values: Any) -> None:
    with pytest.raises(CaseError, match="without compression"):
        read(stream(pa.table({"a": values}), compression=compression))


def test_rows_are_counted_over_all_batches() -> None:
    table = pa.table({"a": list(range(30))})
    assert len(read(stream(table, chunk=10), max_rows=30)) == 30
    assert code(stream(table, chunk=10), max_rows=29) == "too_many_rows"
    assert code(stream(pa.table({"a": pa.nulls(10**9)})), max_rows=29) == "too_many_rows"


def test_a_text_that_many_rows_share_counts_in_each() -> None:
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 50), pa.array(["z" * 1000]))
    views = pa.DictionaryArray.from_arrays(pa.array([0] * 50), pa.array(["z" * 1000], pa.string_view()))
    for column in (shared, views, pa.array(["z" * 1000] * 50, pa.string_view())):
        body = stream(pa.table({"a": column}))
        assert code(body, max_text=49_999) == "too_large"
        assert len(read(body, max_text=50_000)) == 50


def test_columns_are_written() -> None:
    body = write_columns({"id": ("string", ["a", None]), "confidence": ("double", [0.5, None])})
    table = pa.ipc.open_stream(body).read_all()
    assert table.to_pylist() == [{"id": "a", "confidence": 0.5}, {"id": None, "confidence": None}]


BODY = stream(EVERYTHING)


@settings(max_examples=400, deadline=None)
@given(
    cut=st.integers(0, len(BODY)),
    flips=st.lists(st.tuples(st.integers(0, len(BODY) - 1), st.integers(0, 255)), max_size=6),
)
def test_damaged_bytes_are_refused_or_read_but_never_harm(cut: int, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(BODY)
    for at, value in flips:
        damaged[at] = value
    with contextlib.suppress(CaseError):
        assert len(read(bytes(damaged[:cut]))) <= 100
