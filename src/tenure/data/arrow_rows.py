"""Records in an Arrow stream, and answers as one; what a stranger sent is checked before it is used."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tenure.errors import CaseError

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2  # values of the union `MessageHeader` of the format


def read_rows(body: bytes, *, max_rows: int, max_text: int) -> list[dict[str, Any]]:
    """Return the rows of an Arrow IPC stream as records.

    Columns may be truth values, integers, floats, texts (dictionaries of them too) or null. The stream must not
    be compressed: how much memory it would need could not be told before it is taken.

    Args:
        body: the stream.
        max_rows: so many rows at most.
        max_text: so many bytes of text at most, counted in every row.

    Raises:
        CaseError: 422 `unreadable_arrow`; 413 `too_many_rows` or `too_large`.
    """
    try:
        return _read(pa.py_buffer(body), max_rows, max_text)
    except CaseError:
        raise
    except Exception as error:  # a library that reads strangers' bytes raises anything
        raise _unreadable(str(error)[:200] or type(error).__name__) from error


def write_columns(columns: Mapping[str, tuple[str, Sequence[Any]]]) -> bytes:
    """Return an Arrow IPC stream of columns: name -> (`string` or `double`, values or None)."""
    kinds = {"string": pa.string(), "double": pa.float64()}
    table = pa.table({name: pa.array(values, kinds[kind]) for name, (kind, values) in columns.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _read(buffer: pa.Buffer, max_rows: int, max_text: int) -> list[dict[str, Any]]:
    _refuse_compressed(buffer)
    rows: list[dict[str, Any]] = []
    with pa.ipc.open_stream(buffer) as stream:
        _check_columns(stream.schema)
        for batch in stream:
            if len(rows) + batch.num_rows > max_rows:
                raise CaseError(
                    f"the stream has more than {max_rows} rows; send it in parts", code="too_many_rows",
                    at="body", status=413,
                )  # fmt: skip
            batch.validate(full=True)
            max_text -= sum(_text_bytes(column) for column in batch.columns)
            if max_text < 0:
                raise CaseError(
                    "the texts of the stream are larger than a body may be", code="too_large", at="body",
                    status=413,
                )  # fmt: skip
            rows += batch.to_pylist()
    return rows


def _check_columns(schema: pa.Schema) -> None:
    names = schema.names
    if len(set(names)) != len(names):
        raise _unreadable("two columns have the same name")
    for column in schema:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        plain = pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not (plain or _is_text(kind) or pa.types.is_null(kind)):
            raise _unreadable(f"column {column.name!r} is {column.type}; send numbers, truth values or texts")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _text_bytes(column: pa.Array) -> int:
    """Return the bytes of text that a column's rows hold; shared ones count in each row."""
    if pa.types.is_dictionary(column.type):
        shared = column.dictionary
        lengths = _lengths(shared).take(column.indices) if _is_text(shared.type) else None
    else:
        lengths = _lengths(column) if _is_text(column.type) else None
    return 0 if lengths is None else int(pc.sum(lengths).as_py() or 0)


def _lengths(texts: pa.Array) -> pa.Array:
    """Return (n,) int64 lengths in bytes, without copying a text."""
    if not pa.types.is_string_view(texts.type):
        return pc.binary_length(texts).cast(pa.int64())
    views = np.frombuffer(texts.buffers()[1], np.int32).reshape(-1, 4)  # a view's first four bytes are its length
    return pa.array(views[texts.offset : texts.offset + len(texts), 0].astype(np.int64))


def _refuse_compressed(buffer: pa.Buffer) -> None:
    """Look at the head of every message, before anything is unpacked."""
    for message in pa.ipc.MessageReader.open_stream(buffer):
        if _is_compressed(message.metadata.to_pybytes()):
            raise _unreadable("it is compressed; send it without compression")


def _is_compressed(head: bytes) -> bool:
    """Say whether a message's FlatBuffers head names a compression (Message.fbs of the Arrow format)."""
    message = struct.unpack_from("<I", head, 0)[0]
    kind_at, header_at = _field(head, message, 1), _field(head, message, 2)
    kind = head[kind_at] if kind_at else 0
    if kind not in (_RECORD_BATCH, _DICTIONARY_BATCH) or not header_at:
        return False
    batch = header_at + struct.unpack_from("<I", head, header_at)[0]
    if kind == _DICTIONARY_BATCH:
        inner = _field(head, batch, 1)
        if not inner:
            return False
        batch = inner + struct.unpack_from("<I", head, inner)[0]
    return bool(_field(head, batch, 3))


def _field(head: bytes, table: int, number: int) -> int:
    """Return where a FlatBuffers table's field lies, 0 when it is absent."""
    vtable = table - struct.unpack_from("<i", head, table)[0]
    size = struct.unpack_from("<H", head, vtable)[0]
    slot = 4 + 2 * number
    offset = struct.unpack_from("<H", head, vtable + slot)[0] if slot + 2 <= size else 0
    return table + offset if offset else 0


def _unreadable(why: str) -> CaseError:
    return CaseError(f"cannot read the Arrow stream: {why}", code="unreadable_arrow", at="body")
