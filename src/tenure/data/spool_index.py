"""Look-ups in the live spool for workers: by headers, without pyarrow, DuckDB or SQL.

A request that is no longer in the spool is sealed; `view.Log` finds it there.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tenure.data.frames import HEADER_BYTES, Frame, Stop, read, resume
from tenure.data.records import Kind
from tenure.data.rows import row
from tenure.data.spool import SchemaStore, SegmentName, segments

_CHUNK = 256 * 1024


class Located(NamedTuple):
    """A frame and where it lies in its segment. Without its body unless the kind was wanted."""

    offset: int
    frame: Frame


class SegmentReader:
    """Read one segment forward. A torn end waits for the next call; bad bytes are stepped over."""

    def __init__(self, path: Path, run: int, schemas: SchemaStore) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._run = run
        self._schemas = schemas
        self.offset = 0

    def close(self) -> None:
        os.close(self._fd)

    def advance(self, whole: frozenset[int], seqs: frozenset[int] = frozenset()) -> Iterator[Located]:
        """Yield the new frames of some kinds; skip the others by their header.

        Those of `whole` are complete and checked. Those of `seqs` are good for `Frame.seqs` only.
        """
        size = os.fstat(self._fd).st_size
        while size - self.offset >= HEADER_BYTES:
            base = self.offset
            want = min(_CHUNK, size - base)
            data = os.pread(self._fd, want, base)
            if len(data) < want:
                return  # the owner just took back a frame that the disk had no room for
            at, got = 0, read(data, 0, check=False, run=self._run)
            while isinstance(got, Frame):
                if base + got.end > size:
                    return
                self.offset = base + got.end
                if got.kind in whole or got.kind in seqs:
                    length = got.length if got.kind in whole else 8 * got.rows
                    held = self._hold(data, got, base, HEADER_BYTES + length)
                    if held is not None and (got.kind in seqs or held.is_intact()):
                        yield Located(base + at, self._with_schemas(held))
                at = got.end
                got = read(data, at, check=False, run=self._run)
            if got.why == "bad" and not self._skip(size):
                return

    def frame(self, offset: int) -> Frame | None:
        """Return the frame at an offset, or None where it is damaged."""
        head = read(os.pread(self._fd, HEADER_BYTES, offset), check=False, run=self._run)
        if isinstance(head, Stop):
            return None
        whole = self._fetch(offset, head.end)
        return self._with_schemas(whole) if whole is not None and whole.is_intact() else None

    def _hold(self, data: bytes, frame: Frame, base: int, length: int) -> Frame | None:
        """Return the frame with at least its first `length` bytes in its buffer."""
        if frame.offset + length <= len(data):
            return frame
        return self._fetch(base + frame.offset, length)

    def _fetch(self, offset: int, length: int) -> Frame | None:
        got = read(os.pread(self._fd, length, offset), check=False, run=self._run)
        return got if isinstance(got, Frame) else None

    def _with_schemas(self, frame: Frame) -> Frame:
        frame.schemas = self._schemas.get
        return frame

    def _skip(self, size: int) -> bool:
        rest = os.pread(self._fd, size - self.offset, self.offset)
        at = resume(rest, 0, run=self._run)
        if at is None:
            return False
        self.offset += at
        return True


class SpoolReaders:
    """The open readers of all segments in a spool; a segment that is gone is closed."""

    def __init__(self, folder: Path, schemas: SchemaStore) -> None:
        self._folder = folder
        self._schemas = schemas
        self.open: dict[str, SegmentReader] = {}

    def refresh(self) -> list[str]:
        """Open new segments, close those that were sealed; return the names that were closed."""
        names = segments(self._folder)
        for name in names:
            parts = SegmentName.parse(name)
            if parts is not None and name not in self.open:
                try:
                    self.open[name] = SegmentReader(self._folder / f"{name}.seg", parts.run, self._schemas)
                except FileNotFoundError:  # sealed since it was listed
                    continue
        gone = self.open.keys() - set(names)
        return sorted(gone)

    def drop(self, name: str) -> None:
        self.open.pop(name).close()

    def close(self) -> None:
        for name in list(self.open):
            self.drop(name)


class DecisionTail:
    """Follow the decisions of all processes. A worker polls it every 50 ms; other kinds cost their header.

    Decisions made before the first `poll` are returned by it as far as they are still in the spool.
    """

    def __init__(self, folder: Path, schemas: SchemaStore | None = None) -> None:
        self._readers = SpoolReaders(folder / "spool", schemas or SchemaStore(folder / "schemas"))

    def poll(self) -> list[Frame]:
        """Return the decision frames that came since the last call."""
        gone = self._readers.refresh()
        found = [
            located.frame for reader in self._readers.open.values() for located in reader.advance(_DECISIONS)
        ]
        for name in gone:  # read to the end first: what was sealed between two polls is not missed
            self._readers.drop(name)
        return found

    def close(self) -> None:
        self._readers.close()


_DECISIONS = frozenset({int(Kind.DECISION)})
_JOINED = frozenset({int(Kind.DECISION), int(Kind.OUTCOME)})
_OWN = frozenset({int(Kind.PREDICTION), int(Kind.PAYLOAD)})


class _Seqs:
    """Which frame holds which seq, 16 bytes a row; requests finish out of order, so nothing is assumed."""

    def __init__(self) -> None:
        self._seqs = array("Q")
        self._offsets = array("Q")

    def add(self, offset: int, frame: Frame) -> None:
        self._seqs.extend(frame.seqs())
        self._offsets.extend([offset] * frame.rows)

    def offsets(self, seq: int) -> list[int]:
        """Return the offsets of the frames that hold a seq."""
        if not self._seqs:
            return []
        hits = np.flatnonzero(np.frombuffer(self._seqs, np.uint64) == np.uint64(seq))
        return [self._offsets[int(hit)] for hit in hits]


class SpoolIndex:
    """Find requests in the live spool by (run, seq). Reads only what came since the last look-up."""

    def __init__(self, folder: Path, schemas: SchemaStore | None = None) -> None:
        self._readers = SpoolReaders(folder / "spool", schemas or SchemaStore(folder / "schemas"))
        self._seqs: dict[tuple[str, int], _Seqs] = {}
        self._joined: dict[tuple[int, int, int], list[tuple[str, int, int]]] = {}

    def find(self, run: int, seq: int) -> dict[str, Any] | None:
        """Return the prediction row (see `rows.row`) with its `decision` (or None) and `outcomes` (a list)."""
        self.refresh()
        found = self._own(Kind.PREDICTION, run, seq)
        if found is None:
            return None
        return found | {"decision": self.decision(run, seq), "outcomes": self.outcomes(run, seq)}

    def decision(self, run: int, seq: int) -> dict[str, Any] | None:
        """Return the first decision of a request that the last refresh saw."""
        rows = self._joined_rows(Kind.DECISION, run, seq)
        return min(rows, key=lambda r: int(r["t_ns"])) if rows else None

    def outcomes(self, run: int, seq: int) -> list[dict[str, Any]]:
        """Return the outcomes of a request that the last refresh saw, oldest first."""
        return sorted(self._joined_rows(Kind.OUTCOME, run, seq), key=lambda r: int(r["t_ns"]))

    def payload(self, run: int, seq: int) -> tuple[str, bytes] | None:
        """Return (media type, bytes) of a request's input while it is in the spool."""
        self.refresh()
        found = self._own(Kind.PAYLOAD, run, seq)
        return None if found is None else (found["media_type"] or "", found["data"] or b"")

    def refresh(self) -> None:
        """Take in new frames; forget segments that were sealed."""
        for name in self._readers.refresh():
            self._forget(name)
        for name, reader in self._readers.open.items():
            for located in reader.advance(_JOINED, _OWN):
                self._add(name, located)

    def close(self) -> None:
        self._readers.close()

    def _add(self, name: str, located: Located) -> None:
        offset, frame = located
        if frame.kind in _OWN:
            self._seqs.setdefault((name, frame.kind), _Seqs()).add(offset, frame)
            return
        columns = frame.columns()
        for i, key in enumerate(zip(columns["run"].tolist(), columns["seq"].tolist(), strict=True)):
            self._joined.setdefault((frame.kind, *key), []).append((name, offset, i))

    def _forget(self, name: str) -> None:
        self._readers.drop(name)
        self._seqs = {key: seqs for key, seqs in self._seqs.items() if key[0] != name}
        kept = {key: [at for at in places if at[0] != name] for key, places in self._joined.items()}
        self._joined = {key: places for key, places in kept.items() if places}

    def _own(self, kind: Kind, run: int, seq: int) -> dict[str, Any] | None:
        """Return the row of a kind that lies in its own run's segments."""
        for (name, indexed), seqs in self._seqs.items():
            parts = SegmentName.parse(name)
            if indexed != kind or parts is None or parts.run != run:
                continue
            for offset in seqs.offsets(seq):
                frame = self._readers.open[name].frame(offset)
                if frame is not None and seq in (held := frame.columns()["seq"].tolist()):
                    return row(frame, held.index(seq))
        return None

    def _joined_rows(self, kind: Kind, run: int, seq: int) -> list[dict[str, Any]]:
        places = self._joined.get((int(kind), run, seq), [])
        found = [(self._readers.open[name].frame(offset), i) for name, offset, i in places]
        return [row(frame, i) for frame, i in found if frame is not None]
