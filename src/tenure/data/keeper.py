"""Follow the spools of all processes on this node, hand on new frames, and seal what is finished.

One keeper per data folder. It never writes to a segment and knows no SQL: positions come in and go out as
values, so that the caller stores them in one transaction with what it made of the frames.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec

from tenure.clock import Clock
from tenure.data import seal
from tenure.data.frames import Frame, Stop, read, resume
from tenure.data.records import Kind
from tenure.data.seal import LogFile, Merged
from tenure.data.spool import SchemaStore, SegmentName, is_finished, segments, sync_folder, write_file
from tenure.errors import StoreError

_CHUNK = 1 << 20
_FRAME_BYTES = 512
"""What a frame costs whatever it holds, as bytes that would cost as much: many small ones are more work."""
_STALE_NEW_NS = 3_600_000_000_000


class Read(msgspec.Struct, frozen=True):
    """One complete, checked frame; `end` is the segment's position once it has been dealt with."""

    frame: Frame
    segment: str
    end: int


def weight(reads: Collection[Read]) -> int:
    """Return what frames count towards the limit of `Keeper.poll`: their bytes, and some for each."""
    return sum(read.frame.end - read.frame.offset + _FRAME_BYTES for read in reads)


class Fault(msgspec.Struct, frozen=True):
    """Bytes of a segment that are no readable frame; a copy lies at `path` under the data folder."""

    segment: str
    offset: int
    length: int
    reason: str
    path: str


class _Tail:
    """How far one segment has been read."""

    def __init__(self, path: Path, run: int, offset: int) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.run = run
        self.offset = offset
        self.suspect = -1  # bad bytes are believed only when they are still there at the next poll
        self.is_done = False  # the owner is gone and nothing is left to read

    def close(self) -> None:
        os.close(self.fd)


class Keeper:
    """Tail, seal, merge and count the log of one data folder.

    Attributes:
        faults: how many pieces of bad bytes were quarantined since the start.
        torn_bytes: bytes of unfinished frames whose owner died; never acknowledged, so nothing was lost.
    """

    def __init__(self, folder: Path, clock: Clock, *, schemas: SchemaStore | None = None) -> None:
        self._folder = folder
        self._spool = folder / "spool"
        self._clock = clock
        self.schemas = schemas or SchemaStore(folder / "schemas")
        self._tails: dict[str, _Tail] = {}
        self._start: dict[str, int] = {}
        self._faults: list[Fault] = []
        self._readable: set[int] = set()  # schemas that were found
        self._turn = 0
        self.faults = 0
        self.torn_bytes = 0

    def restore(self, positions: Mapping[str, int]) -> None:
        """Go back to stored positions: at the start, and whenever a transaction failed after a `poll`."""
        self.close()
        self._start = dict(positions)

    def positions(self) -> dict[str, int]:
        """Return the end of what `poll` has handed out, by segment; segments that were sealed are absent."""
        return self._start | {name: tail.offset for name, tail in self._tails.items()}

    def poll(self, limit_bytes: int = 8 << 20) -> list[Read]:
        """Return new complete frames of all segments, of about `limit_bytes` at most, as `weight` counts them.

        Frames of one segment come in order. Segments take turns at being first, so that a busy one cannot
        starve the others. A torn end waits while its owner lives and is ignored once the owner is gone. Bad
        bytes are copied to `quarantine/` and stepped over; see `take_faults`.
        """
        self._open_new()
        out: list[Read] = []
        names = list(self._tails)
        self._turn = (self._turn + 1) % max(len(names), 1)
        left = limit_bytes
        for name in names[self._turn :] + names[: self._turn]:
            if left <= 0:
                break
            tail = self._tails[name]
            before = tail.offset
            found = list(self._read(name, tail, left))
            out += found
            left -= max(tail.offset - before, weight(found))
        return out

    def take_faults(self) -> list[Fault]:
        """Return the faults found since the last call, to be reported."""
        found, self._faults = self._faults, []
        return found

    def seal_due(self, consumed: Mapping[str, int]) -> list[LogFile]:
        """Seal every finished segment that has been consumed to its end; return the new files' manifest rows.

        Args:
            consumed: committed positions by segment. With several consumers: the smallest of each segment.
        """
        files: list[LogFile] = []
        for name in self.due(consumed):
            files += self.seal(name)
            self.forget(name)
        return files

    def due(self, consumed: Mapping[str, int]) -> list[str]:
        """Return the finished segments that have been consumed to their end."""
        tails = self._tails.items()
        return [name for name, tail in tails if tail.is_done and consumed.get(name, 0) >= tail.offset]

    def seal(self, name: str) -> list[LogFile]:
        """Seal one segment that is due; any thread may do this. `forget` it afterwards."""
        return seal.seal_segment(self._folder, name, self.schemas, now_ns=self._clock.now_ns())

    def forget(self, name: str) -> None:
        """Take in that a segment was sealed: it has no position any more."""
        tail = self._tails.pop(name, None)
        if tail is not None:
            tail.close()
        self._start.pop(name, None)

    def compact(self) -> Merged:
        """Merge the record files of hours that are over. Call it every few minutes."""
        return seal.compact(self._folder, now_ns=self._clock.now_ns())

    def retain(
        self, *, retention_s: float, quota_bytes: int, protected: Collection[tuple[int, int]] = frozenset()
    ) -> Merged:
        """Remove old payloads and keep the rest within the quota; see `seal.retain`."""
        return seal.retain(
            self._folder,
            now_ns=self._clock.now_ns(),
            retention_s=retention_s,
            quota_bytes=quota_bytes,
            protected=protected,
        )

    def unlisted(self, known: Collection[str]) -> list[LogFile]:
        """Return manifest rows of sealed files that the caller does not know by path.

        A controller that died between sealing and its commit finds them again at its next start.
        """
        now_ns = self._clock.now_ns()
        return [
            seal.describe(self._folder, path, now_ns=now_ns)
            for kind in Kind
            for path in seal.sealed_files(self._folder, kind)
            if str(path.relative_to(self._folder)) not in known
        ]

    def close(self) -> None:
        """Forget all positions and close the files."""
        for tail in self._tails.values():
            tail.close()
        self._tails = {}

    def _open_new(self) -> None:
        for name in segments(self._spool):
            parts = SegmentName.parse(name)
            if parts is None or name in self._tails:
                continue
            path = self._spool / f"{name}.seg"
            self._tails[name] = _Tail(path, parts.run, self._start.get(name, 0))
        self._start = {}  # what is left of it was sealed before

    def _read(self, name: str, tail: _Tail, limit: int) -> Iterator[Read]:
        # Asked before the size is: once the owner is gone the size cannot change any more.
        finished = tail.is_done or is_finished(tail.fd)
        size = os.fstat(tail.fd).st_size
        stop, need = Stop("end", tail.offset), 0
        while tail.offset < size and limit > 0:
            base = tail.offset
            want = min(size - base, max(_CHUNK, need))
            data = os.pread(tail.fd, want, base)
            got = read(data, 0, run=tail.run, schemas=self.schemas.get)
            while isinstance(got, Frame):
                tail.offset = base + got.end
                limit -= _FRAME_BYTES
                if got.schema_id in self._readable or self._is_readable(name, base, got):
                    yield Read(got, name, tail.offset)
                got = read(data, got.end, run=tail.run, schemas=self.schemas.get)
            limit -= tail.offset - base
            need = got.need or 64
            stop = got
            cut_by_us = got.why == "torn" and tail.offset + need <= size and base + len(data) < size
            if len(data) < want:
                break  # the owner just took back a frame that the disk had no room for
            if got.why == "end" or cut_by_us:
                stop = Stop("end", tail.offset)
                continue
            if not (got.why == "bad" and self._step_over(name, tail, size, finished)):
                break
        if finished and limit > 0:
            self._finish(name, tail, size, stop)

    def _is_readable(self, name: str, base: int, frame: Frame) -> bool:
        try:
            good = bool(frame.schema.columns)
        except StoreError as error:
            self._quarantine(name, base + frame.offset, bytes(frame), error.code)
            return False
        if good:
            self._readable.add(frame.schema_id)
        return good

    def _step_over(self, name: str, tail: _Tail, size: int, finished: bool) -> bool:
        """Move behind bad bytes; False where they must be looked at again later."""
        rest = os.pread(tail.fd, size - tail.offset, tail.offset)
        at = resume(rest, 0, run=tail.run)
        if not finished and (tail.suspect != tail.offset or at is None):
            tail.suspect = tail.offset
            return False
        if at is None and not rest.strip(b"\0"):
            return False  # zeros behind the last frame: a power cut, not a fault; `_finish` counts them
        length = len(rest) if at is None else at
        self._quarantine(name, tail.offset, rest[:length], "not a frame")
        tail.offset += length
        return True

    def _finish(self, name: str, tail: _Tail, size: int, stop: Stop) -> None:
        if not tail.is_done and stop.why != "end":
            self.torn_bytes += size - tail.offset
        tail.is_done = True

    def _quarantine(self, name: str, offset: int, data: bytes, reason: str) -> None:
        path = self._folder / "quarantine" / f"{name}-{offset}.bin"  # the same name when found again
        write_file(path, data)
        self.faults += 1
        self._faults.append(Fault(name, offset, len(data), reason, str(path.relative_to(self._folder))))

    def sweep(self) -> int:
        """Remove `.new` files that a process left when it died before its first frame; return how many."""
        oldest = self._clock.now_ns() - _STALE_NEW_NS
        stale = [p for p in self._spool.glob("*.new") if p.stat().st_mtime_ns < oldest]
        for path in stale:
            path.unlink(missing_ok=True)
        if stale:
            sync_folder(self._spool)
        return len(stale)
