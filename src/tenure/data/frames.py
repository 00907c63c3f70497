"""The bytes of the prediction log: a 64-byte header, fixed columns one after the other, then one blob per row.

`docs/formats.md` is the specification. Nothing here does I/O.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import accumulate, chain, groupby, pairwise
from operator import itemgetter
from typing import Any, Literal, NamedTuple
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.data import columnar
from tenure.data.records import FIXED, Kind, Schema
from tenure.errors import StoreError

MAGIC = b"TNR1"
FORMAT = 1
HEADER_BYTES = 64

Array = npt.NDArray[Any]
Column = Array | Sequence[float]
Schemas = Callable[[int], Schema]
"""Finds the schema of an id; raises StoreError(code="schema_missing")."""

# magic, format, kind, schema, rows, run, first_seq, t_ns, length, crc_body, flags | crc_header, reserved
_HEAD = struct.Struct("<4sHHIIQQQIII")
_SEAL = struct.Struct("<IQ")
_HEADER = struct.Struct("<4sHHIIQQQIIIIQ")
_CODES = {
    "|u1": "B", "|i1": "b", "|b1": "?", "<u2": "H", "<i2": "h", "<u4": "I", "<i4": "i",
    "<u8": "Q", "<i8": "q", "<f4": "f", "<f8": "d",
}  # fmt: skip


_NUMBERS = (int, float)
_KEPT_ROWS = 256
"""Batches are small; no packer is kept for every size that ever came."""


class Encoder:
    """Turn rows of one schema into frames; everything that depends on the schema is worked out once."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._id = schema.id
        self._kind = int(schema.kind)
        self._names = tuple(name for name, _ in schema.columns)
        dtypes = tuple(np.dtype(d) for _, d in schema.columns)
        self._codes = tuple(_CODES[d.str] for d in dtypes)
        self._columns = tuple(zip(self._names, dtypes, self._codes, strict=True))
        self._packers: dict[tuple[int, str], struct.Struct] = {}
        self._leaders: dict[tuple[int, int], struct.Struct] = {}
        self._tails: dict[int, int] = {}

    def encode(
        self, *, run: int, first_seq: int, t_ns: int, columns: Mapping[str, Column], var: Sequence[bytes]
    ) -> bytes:
        """Return the frame of `len(var)` rows.

        Args:
            run: run of the process that writes, also for rows about another run's request.
            first_seq: seq of the first row (predictions, payloads); any number for other kinds.
            t_ns: wall time of the frame.
            columns: every column of the schema, each with one entry per row.
            var: one msgpack map per row; b"" stands for the empty map.

        Raises:
            StoreError: code `record_invalid`, `at` = the column that is missing, of another length, or out of
                range.
        """
        rows = len(var)
        try:
            if len(columns) != len(self._names) or not rows:
                raise ValueError("a frame needs a row, and the schema's columns")
            # For arrays the general way is the faster one, even for a single row.
            if rows == 1 and not isinstance(columns[self._names[0]], np.ndarray):
                values = [v for name in self._names for (v,) in (columns[name],)]
                parts = [self._leading(len(values), 1).pack(*values)]
            else:
                parts = [self._pack(columns[name], dtype, code, rows) for name, dtype, code in self._columns]
        except (KeyError, ValueError, TypeError, OverflowError, struct.error) as error:
            raise self._explain(columns, rows, error, self._columns) from error
        return self._frame(parts, var, run=run, first_seq=first_seq, t_ns=t_ns)

    def encode_parts(
        self, *, run: int, first_seq: int, t_ns: int, head: Sequence[Column | float | int], tail: bytes,
        var: Sequence[bytes],
    ) -> bytes:  # fmt: skip
        """Return a frame whose first columns are given in order and whose last columns are bytes already.

        Args:
            run: as `encode` takes it.
            first_seq: as `encode` takes it.
            t_ns: as `encode` takes it.
            head: one entry per leading column: its values, or one number that holds for every row.
            tail: the remaining columns as they stand in a frame.
            var: one blob per row.

        Raises:
            StoreError: code `record_invalid`.
        """
        rows, parts = len(var), list[bytes]()
        try:
            for given, (_, dtype, code) in zip(head, self._columns, strict=False):
                if isinstance(given, _NUMBERS):
                    parts.append(struct.pack("<" + code, given) * rows)
                else:
                    parts.append(self._pack(given, dtype, code, rows))
        except (ValueError, TypeError, OverflowError, struct.error) as error:
            at = self._names[len(parts)]
            raise _invalid(f"column {at!r} does not fit: {error}", at) from error
        parts.append(self._checked(tail, rows, len(head)))
        return self._frame(parts, var, run=run, first_seq=first_seq, t_ns=t_ns)

    def encode_rows(
        self, *, run: int, first_seq: int, t_ns: int, rows: Sequence[Sequence[float | int]], tail: bytes,
        var: Sequence[bytes],
    ) -> bytes:  # fmt: skip
        """Return a frame as `encode_parts` does, with the leading values of each row in place of `head`."""
        n, width = len(rows), len(rows[0])
        values = rows[0] if n == 1 else chain.from_iterable(zip(*rows, strict=True))
        try:
            head = self._leading(width, n).pack(*values)
        except (ValueError, TypeError, OverflowError, struct.error) as error:
            columns = dict(zip(self._names, zip(*rows, strict=False), strict=False))
            raise self._explain(columns, n, error, self._columns[:width]) from error
        parts = (head, self._checked(tail, n, width))
        return self._frame(parts, var, run=run, first_seq=first_seq, t_ns=t_ns)

    def _frame(
        self, columns: Sequence[bytes], var: Sequence[bytes], *, run: int, first_seq: int, t_ns: int
    ) -> bytes:  # fmt: skip
        rows = len(var)
        ends = struct.pack(f"<{rows + 1}I", 0, *accumulate(map(len, var))) if any(var) else bytes(4 * rows + 4)
        body = b"".join((*columns, ends, *var))
        head = _HEAD.pack(
            MAGIC, FORMAT, self._kind, self._id, rows, run, first_seq, t_ns, len(body), crc32(body), 0
        )
        return b"".join((head, _SEAL.pack(crc32(head), 0), body))

    def _checked(self, tail: bytes, rows: int, first: int) -> bytes:
        """Return the last columns; raises StoreError where they have another size than the schema's."""
        if len(tail) != rows * self._tail_bytes(first):
            raise _invalid("the last columns have another size than the schema's", self._names[-1])
        return tail

    def _leading(self, count: int, rows: int) -> struct.Struct:
        """Return the packer of the first columns, one after the other."""
        found = self._leaders.get((count, rows))
        if found is None:
            found = struct.Struct("<" + "".join(f"{rows}{code}" for code in self._codes[:count]))
            if rows <= _KEPT_ROWS:
                self._leaders[count, rows] = found
        return found

    def _tail_bytes(self, first: int) -> int:
        found = self._tails.get(first)
        if found is None:
            found = self._tails[first] = sum(dtype.itemsize for _, dtype, _ in self._columns[first:])
        return found

    def _pack(self, column: Column, dtype: np.dtype[Any], code: str, rows: int) -> bytes:
        if isinstance(column, np.ndarray) and column.dtype is dtype and column.shape == (rows,):
            return column.tobytes()
        packer = self._packers.get((rows, code))
        if packer is None:
            packer = struct.Struct(f"<{rows}{code}")
            if rows <= _KEPT_ROWS:
                self._packers[rows, code] = packer
        return packer.pack(*column)

    def _explain(
        self, columns: Mapping[str, Column], rows: int, error: Exception, wanted: Sequence[tuple[str, Any, str]]
    ) -> StoreError:  # fmt: skip
        """Return the error that names the column; runs only after a failure."""
        for name, _, code in wanted:
            if name not in columns:
                return _invalid(f"column {name!r} is missing", name)
            if len(columns[name]) != rows:
                return _invalid(f"column {name!r} has {len(columns[name])} entries, expected {rows}", name)
            try:
                struct.pack(f"<{rows}{code}", *columns[name])
            except (struct.error, OverflowError, TypeError) as cause:
                return _invalid(f"column {name!r} does not fit: {cause}", name)
        extra = sorted(set(columns) - set(self._names))
        return _invalid(f"columns {extra} are not in the schema" if extra else str(error), ",".join(extra))


def _invalid(message: str, at: str) -> StoreError:
    return StoreError(message, code="record_invalid", at=at or None)


_ENCODERS: dict[int, Encoder] = {}


def encode(
    schema: Schema,
    *,
    run: int,
    first_seq: int,
    t_ns: int,
    columns: Mapping[str, Column],
    var: Sequence[bytes],
) -> bytes:
    """Return one frame; see `Encoder.encode`. Keeps the encoder of each schema object for the next call."""
    encoder = _ENCODERS.get(id(schema))
    if encoder is None or encoder.schema is not schema:
        if len(_ENCODERS) > 256:
            _ENCODERS.clear()
        encoder = _ENCODERS[id(schema)] = Encoder(schema)
    return encoder.encode(run=run, first_seq=first_seq, t_ns=t_ns, columns=columns, var=var)


class Stop(NamedTuple):
    """Why reading stopped at `offset`.

    `end`: no bytes follow. `torn`: the start of a frame that is not all there yet, which takes `need` bytes
    (0 = the header itself is cut). `bad`: these bytes are no frame.
    """

    why: Literal["end", "torn", "bad"]
    offset: int
    need: int = 0


class Frame:
    """One frame inside a buffer. The header is parsed, the rest only when asked for.

    Attributes:
        offset, end: where it lies in the buffer.
        kind, schema_id, rows, run, first_seq, t_ns, length, flags: the header.
        schemas: finds the schema; set by whoever reads from a data folder.
    """

    __slots__ = (
        "_buffer", "_columns", "_crc", "end", "first_seq", "flags", "kind", "length", "offset", "rows", "run",
        "schema_id", "schemas", "t_ns",
    )  # fmt: skip

    def __init__(self, buffer: bytes, offset: int, fields: tuple[Any, ...], schemas: Schemas | None) -> None:
        (_, _, self.kind, self.schema_id, self.rows, self.run, self.first_seq, self.t_ns, self.length,
         self._crc, self.flags, _, _) = fields  # fmt: skip
        self.offset = offset
        self.end: int = offset + HEADER_BYTES + self.length
        self._buffer = buffer
        self._columns: dict[str, Array] | None = None
        self.schemas = schemas

    @property
    def schema(self) -> Schema:
        """The meaning of the columns; raises StoreError where the schema file is missing."""
        if self.schemas is None:
            raise StoreError(f"no schema store was given for schema {self.schema_id:08x}", code="schema_missing")
        return self.schemas(self.schema_id)

    def is_intact(self) -> bool:
        """Say whether the body is all there and its checksum holds."""
        start = self.offset + HEADER_BYTES
        return self.end <= len(self._buffer) and bool(crc32(self._buffer[start : self.end]) == self._crc)

    def columns(self) -> dict[str, Array]:
        """Return the read-only columns, each (rows,); a fixed column that an old frame lacks gets its default.

        The default is NaN for floats and 0 for integers.
        """
        if self._columns is None:
            self._columns = self._read_columns()
        return self._columns

    def _read_columns(self) -> dict[str, Array]:
        layout = _layout(self.schema)
        return _fill(layout.named(self._blocks(layout)), self.kind, self.rows)

    def _blocks(self, layout: _Layout) -> list[Array]:
        """Return neighbouring columns of one type together, each (columns, rows)."""
        at, found = self.offset + HEADER_BYTES, []
        for dtype, names in layout.blocks:
            size = len(names) * self.rows
            found.append(np.frombuffer(self._buffer, dtype, size, at).reshape(len(names), self.rows))
            at += dtype.itemsize * size
        return found

    def seqs(self) -> tuple[int, ...]:
        """Return the seq of each row without the schema: it is the first column of predictions and payloads."""
        return struct.unpack_from(f"<{self.rows}Q", self._buffer, self.offset + HEADER_BYTES)

    def raw(self, i: int) -> bytes:
        """Return the msgpack blob of row i."""
        if not 0 <= i < self.rows:
            raise IndexError(i)
        offsets = self.offset + HEADER_BYTES + self.rows * _layout(self.schema).row_bytes
        first, last = struct.unpack_from("<II", self._buffer, offsets + 4 * i)
        start = offsets + 4 * (self.rows + 1)
        if start + last > self.end:
            raise StoreError("the frame does not fit its schema", code="frame_invalid", at=str(self.offset))
        return self._buffer[start + first : start + last]

    def apart(self, i: int) -> dict[str, Any]:
        """Return the decoded variable part of row i alone."""
        blob = self.raw(i)
        return _decode(blob) if blob else {}

    def var(self, i: int) -> dict[str, Any]:
        """Return the decoded variable part of row i, with what the schema keeps in columns instead."""
        said, schema = self.apart(i), self.schema
        if schema.labels or schema.fields:
            return columnar.said(schema, self.columns(), i) | said
        return said

    def vars(self) -> list[dict[str, Any]]:
        """Return `var` of every row."""
        said = columnar.said_many(self.schema, self.columns())
        for i, blob in self.blobs():
            said[i] |= _decode(blob)
        return said

    def bare_bytes(self) -> int:
        """Return what a row without a variable part takes of `length`; each frame has 4 bytes more."""
        return _layout(self.schema).row_bytes + 4

    def has_blobs(self) -> bool:
        """Say whether a row has a variable part: whether more follows than columns and empty offsets."""
        return bool(self.length != self.rows * self.bare_bytes() + 4)

    def blobs(self) -> list[tuple[int, bytes]]:
        """Return (row, msgpack blob) of the rows that have one."""
        if not self.has_blobs():
            return []
        at = self.offset + HEADER_BYTES + self.rows * _layout(self.schema).row_bytes
        ends = struct.unpack_from(f"<{self.rows + 1}I", self._buffer, at)
        if ends[-1] == 0 and not any(ends):
            return []
        start = at + 4 * (self.rows + 1)
        if start + ends[-1] > self.end or any(a > b for a, b in pairwise(ends)):
            raise StoreError("the frame does not fit its schema", code="frame_invalid", at=str(self.offset))
        cuts = enumerate(pairwise(ends))
        return [(i, self._buffer[start + a : start + b]) for i, (a, b) in cuts if b > a]

    def __bytes__(self) -> bytes:
        return self._buffer[self.offset : self.end]


_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class _Layout:
    """Where the columns of a schema lie: neighbours of one type are read, and joined, in one call."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.row_bytes = schema.row_bytes()
        self.blocks = [
            (np.dtype(text), tuple(name for name, _ in group))
            for text, group in groupby(schema.columns, key=itemgetter(1))
        ]
        # a frame of a single row has the layout of this record
        self.record = np.dtype([(str(i), dtype, (len(names),)) for i, (dtype, names) in enumerate(self.blocks)])

    def named(self, blocks: Sequence[Array]) -> dict[str, Array]:
        """Return the blocks' columns by name."""
        out: dict[str, Array] = {}
        for (_, names), block in zip(self.blocks, blocks, strict=True):
            out.update(zip(names, block, strict=True))
        return out


_LAYOUTS: dict[int, _Layout] = {}


def _layout(schema: Schema) -> _Layout:
    known = _LAYOUTS.get(id(schema))
    if known is None or known.schema is not schema:
        if len(_LAYOUTS) > 256:
            _LAYOUTS.clear()
        known = _LAYOUTS[id(schema)] = _Layout(schema)
    return known


def _fill(found: dict[str, Array], kind: int, rows: int) -> dict[str, Array]:
    for name, text in FIXED[Kind(kind)]:
        if name not in found:
            dtype = np.dtype(text)
            found[name] = np.full(rows, math.nan if dtype.kind == "f" else 0, dtype)
    return found


def stack(parts: Sequence[Frame]) -> dict[str, Array]:
    """Return the columns of frames of one schema, one after the other.

    Frames of a single row have the layout of a packed record, so that any number of them costs one call.
    """
    if not parts:
        return {}
    layout = _layout(parts[0].schema)
    pieces = list(_pieces(parts, layout))
    blocks = (
        pieces[0] if len(pieces) == 1 else [np.concatenate(some, axis=1) for some in zip(*pieces, strict=True)]
    )
    return _fill(layout.named(blocks), parts[0].kind, sum(frame.rows for frame in parts))


def blobs_of(parts: Sequence[Frame]) -> Iterator[tuple[int, bytes]]:
    """Yield (row of their `stack`, msgpack blob) of frames of one schema, of the rows that have one."""
    first, bare = 0, parts[0].bare_bytes() if parts else 0
    for frame in parts:
        if frame.length != frame.rows * bare + 4:
            for i, blob in frame.blobs():
                yield first + i, blob
        first += frame.rows


def _pieces(parts: Sequence[Frame], layout: _Layout) -> Iterator[list[Array]]:
    singles = list[bytes]()
    for frame in parts:
        if frame.rows == 1:
            start = frame.offset + HEADER_BYTES
            singles.append(frame._buffer[start : start + layout.row_bytes])
            continue
        if singles:
            yield _of_singles(singles, layout)
            singles = []
        yield frame._blocks(layout)
    if singles:
        yield _of_singles(singles, layout)


def _of_singles(singles: list[bytes], layout: _Layout) -> list[Array]:
    table = np.frombuffer(b"".join(singles), layout.record)
    return [table[name].T for name in layout.record.names or ()]


def read(
    buffer: bytes,
    offset: int = 0,
    *,
    check: bool = True,
    run: int | None = None,
    schemas: Schemas | None = None,
) -> Frame | Stop:
    """Return the frame at `offset`, or why there is none.

    Without `check` the body is not verified and may lie beyond the buffer: for indexes, which read headers
    only. `run` is the run that the segment belongs to; a frame of another run is bad.
    """
    left = len(buffer) - offset
    if left < HEADER_BYTES:
        if left <= 0:
            return Stop("end", offset)
        return Stop("torn" if MAGIC.startswith(buffer[offset : offset + 4]) else "bad", offset)
    fields = _HEADER.unpack_from(buffer, offset)
    if fields[0] != MAGIC or fields[12] or crc32(buffer[offset : offset + 52]) != fields[11]:
        return Stop("bad", offset)
    if fields[1] > FORMAT:
        raise StoreError(
            f"frame format {fields[1]} is newer than this release reads ({FORMAT}); upgrade tenure first",
            code="format_newer",
        )
    if run is not None and fields[5] != run:
        return Stop("bad", offset)
    frame = Frame(buffer, offset, fields, schemas)
    if not check:
        return frame
    if frame.end > len(buffer):
        return Stop("torn", offset, HEADER_BYTES + frame.length)
    return frame if frame.is_intact() else Stop("bad", offset)


def scan(
    buffer: bytes,
    offset: int = 0,
    *,
    check: bool = True,
    run: int | None = None,
    schemas: Schemas | None = None,
) -> Generator[Frame, None, Stop]:
    """Yield the frames from `offset` on; the generator's value is the `Stop` behind the last good one."""
    while True:
        got = read(buffer, offset, check=check, run=run, schemas=schemas)
        if isinstance(got, Stop):
            return got
        yield got
        offset = got.end


def resume(buffer: bytes, offset: int, *, run: int | None = None) -> int | None:
    """Return where the next frame begins after the bad bytes at `offset`; None where no header follows.

    A bad body under a good header is stepped over by its length. Otherwise the next valid header counts; with
    `run` given, bytes inside a client's payload that look like a frame cannot pass for one.
    """
    bad = read(buffer, offset, check=False, run=run)
    if isinstance(bad, Frame) and (bad.end == len(buffer) or _is_header(buffer, bad.end, run)):
        return int(bad.end)
    at = buffer.find(MAGIC, offset + 1)
    while at >= 0:
        if _is_header(buffer, at, run):
            return at
        at = buffer.find(MAGIC, at + 1)
    return None


def _is_header(buffer: bytes, offset: int, run: int | None) -> bool:
    return isinstance(read(buffer, offset, check=False, run=run), Frame)
