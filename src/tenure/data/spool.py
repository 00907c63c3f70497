"""Writing the prediction log: one append-only spool per process, and the files that say what frames mean."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import threading
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from tenure.clock import Clock
from tenure.data.records import Schema
from tenure.errors import StoreError

Durability = Literal["process", "power"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SEGMENT = re.compile(r"^(?P<name>.+)-(?P<run>[0-9a-f]{16})-(?P<number>\d{6,})$")


class SegmentName(NamedTuple):
    """The parts of `<name>-<run as 16 hex digits>-<number>`."""

    name: str
    run: int
    number: int

    def __str__(self) -> str:
        return f"{self.name}-{self.run:016x}-{self.number:06d}"

    @classmethod
    def parse(cls, text: str) -> SegmentName | None:
        """Return the parts, or None where the text is no segment's name."""
        found = _SEGMENT.match(text)
        return cls(found["name"], int(found["run"], 16), int(found["number"])) if found else None


class SpoolWriter:
    """Append frames to segments that this process alone owns. One thread at a time may append.

    The owner holds an exclusive flock on its open segment from before the file gets its final name. An unlocked
    segment is finished: nobody appends to it again, whether its owner closed it or died. Processes that share a
    spool must be spawned, not forked, because a forked child inherits the lock.

    Args:
        folder: `<data>/spool`; made when absent.
        name: who writes, such as `worker-0` or `worker-0.payload`.
        run: the process's unguessable run number; every frame carries it.
        segment_bytes, segment_s: a segment is finished at this size or age.
        durability: `process` survives the death of the process; `power` also a power cut, for what was
            appended before the last `sync()`.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        run: int,
        *,
        segment_bytes: int,
        segment_s: float,
        durability: Durability,
        clock: Clock,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._run = folder, name, run
        self._segment_bytes = segment_bytes
        self._segment_ns = int(segment_s * 1e9)
        self._power = durability == "power"
        self._clock = clock
        self._run_bytes = run.to_bytes(8, "little")
        self._number = 0
        self._fd = -1
        self._size = 0
        self._opened_ns = 0
        self._segment = ""
        self._closing = threading.Lock()

    def append(self, frame: bytes) -> tuple[str, int]:
        """Write one frame with one `write`; return (segment, offset of the frame).

        Raises:
            StoreError: code `log_full` when the disk, a quota or a file limit is full; code `log_failed` for
                any other fault. The frame is then not in the log, not even in part.
        """
        if frame[16:24] != self._run_bytes:
            raise StoreError(f"the frame is not of run {self._run:016x}", code="record_invalid", at="run")
        if self._fd < 0 or self._is_due(len(frame)):
            self._next()
        offset = self._size
        try:
            written = os.write(self._fd, frame)
        except OSError as error:
            raise self._undo(offset, error) from error
        if written != len(frame):
            raise self._undo(offset, OSError(errno.ENOSPC, f"wrote {written} of {len(frame)} bytes"))
        self._size = offset + written
        return self._segment, offset

    def tick(self) -> None:
        """Finish a segment that is old enough; call it now and then so that idle spools are sealed too."""
        if self._fd >= 0 and self._size and self._clock.monotonic_ns() - self._opened_ns > self._segment_ns:
            self._finish()

    def sync(self) -> None:
        """Flush to the disk what was appended (durability `power`; else nothing). Any thread may call it."""
        if not self._power:
            return
        with self._closing:
            if self._fd < 0:
                return
            fd = os.dup(self._fd)
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise StoreError(f"cannot flush {self._segment}: {error}", code="log_failed") from error
        finally:
            os.close(fd)

    def close(self) -> None:
        """Finish the open segment; a later append opens a new one."""
        self._finish()

    def _is_due(self, more: int) -> bool:
        if not self._size:
            return False
        old = self._clock.monotonic_ns() - self._opened_ns > self._segment_ns
        return old or self._size + more > self._segment_bytes

    def _next(self) -> None:
        self._finish()
        self._number += 1
        segment = str(SegmentName(self._name, self._run, self._number))
        new, final = self._folder / f"{segment}.new", self._folder / f"{segment}.seg"
        fd = -1
        try:
            # Locked before it has its name: whoever sees a .seg without a lock may take its owner for gone.
            fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
            fcntl.flock(fd, fcntl.LOCK_EX)
            new.rename(final)
            if self._power:
                sync_folder(self._folder)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            raise _failure(f"cannot open {final.name}", error) from error
        self._fd, self._segment, self._size = fd, segment, 0
        self._opened_ns = self._clock.monotonic_ns()

    def _finish(self) -> None:
        if self._fd < 0:
            return
        try:
            if self._power:
                os.fdatasync(self._fd)
        finally:
            with self._closing:
                os.close(self._fd)
                self._fd = -1

    def _undo(self, offset: int, error: OSError) -> StoreError:
        """Take back what was written of a frame; give the segment up where that fails."""
        try:
            os.ftruncate(self._fd, offset)
        except OSError:
            with contextlib.suppress(OSError):
                self._finish()
        return _failure(f"cannot append to {self._segment}", error)


def _failure(what: str, error: OSError) -> StoreError:
    code = "log_full" if error.errno in _FULL else "log_failed"
    return StoreError(f"{what}: {error.strerror or error}", code=code, at=error.filename)


def is_finished(fd: int) -> bool:
    """Say whether the owner of the segment is gone; from then on its size is final."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def segments(folder: Path) -> list[str]:
    """Return the names of the segments in a spool, in order."""
    try:
        return sorted(e.name[:-4] for e in os.scandir(folder) if e.name.endswith(".seg"))
    except FileNotFoundError:
        return []


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, data: bytes) -> None:
    """Put a whole file in place: temporary name, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


class SchemaStore:
    """The schema files of a data folder. A schema is written before the first frame that uses it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[int, Schema] = {}

    def put(self, schema: Schema) -> int:
        """Write the schema unless it is there; return its id.

        Raises:
            StoreError: code `schema_clash` when another schema has the same 32-bit id; code `log_full` or
                `log_failed` when the file cannot be written.
        """
        key = schema.id
        if self._known.get(key) == schema:
            return key
        others = [p for p in self._folder.glob(f"{key:08x}*.json") if p.stem != schema.sha]
        if others:
            raise StoreError(
                f"schema {schema.sha} and {others[0].stem} share the id {key:08x}; rename a stage or a metric",
                code="schema_clash",
            )
        try:
            if not (self._folder / f"{schema.sha}.json").exists():
                write_file(self._folder / f"{schema.sha}.json", schema.canonical())
        except OSError as error:
            raise _failure("cannot write a schema", error) from error
        self._known[key] = schema
        return key

    def get(self, key: int) -> Schema:
        """Return the schema of an id; raises StoreError(code="schema_missing")."""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._load(key)
        return found

    def all(self) -> list[Schema]:
        """Return every schema of the folder that is intact, in order of its file name."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(StoreError, ValueError):
                found.append(self.get(int(path.stem[:8], 16)))
        return found

    def _load(self, key: int) -> Schema:
        for path in self._folder.glob(f"{key:08x}*.json"):
            schema = msgspec.json.decode(path.read_bytes(), type=Schema)
            if schema.sha == path.stem:
                return schema
        raise StoreError(f"no intact schema file for id {key:08x} in {self._folder.name}/", code="schema_missing")
