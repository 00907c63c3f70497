"""Keep the manifest of sealed files, seal, merge and delete by retention: the slow part of the keeper's work."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from queue import Queue
from threading import Thread, get_native_id

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.keeper import Keeper
from tenure.data.seal import LogFile, Merged
from tenure.data.state import State

CONSUMER = "controller"
_NICE = 10
_log = logging.getLogger("tenure.controller")


class Archive:
    """Positions of the controller in the log, and the manifest of what was sealed."""

    def __init__(self, state: State, keeper: Keeper) -> None:
        self._state = state
        self._keeper = keeper
        self._committed: dict[str, int] = {}
        self._sealed: list[LogFile] = []
        self._todo: Queue[str | None] | None = None  # to the thread that seals, where there is one
        self._done: Queue[tuple[str, list[LogFile] | None]] = Queue()
        self._under_way: set[str] = set()

    def recover(self) -> None:
        """Start where the last committed transaction ended; find sealed files that it did not note."""
        self.rewind()
        with self._state.read() as conn:
            known = set(conn.execute(sa.select(t.log_files.c.path)).scalars())
        self._note(self._keeper.unlisted(known))

    def rewind(self) -> None:
        """Read again what a failed transaction had taken; the database says whether its commit failed, too."""
        p = t.positions.c
        with self._state.read() as conn:
            query = sa.select(p.segment, p.offset).where(p.consumer == CONSUMER)
            self._committed = {row.segment: row.offset for row in conn.execute(query)}
        self._keeper.restore(self._committed)

    def store(self, conn: Connection) -> Mapping[str, int]:
        """Write the positions that changed, in the transaction of what was made of the frames."""
        now = self._keeper.positions()
        p = t.positions
        for segment, offset in now.items():
            if self._committed.get(segment) == offset:
                continue
            where = (p.c.consumer == CONSUMER) & (p.c.segment == segment)
            if conn.execute(p.update().where(where).values(offset=offset)).rowcount == 0:
                conn.execute(p.insert().values(consumer=CONSUMER, segment=segment, offset=offset))
        gone = [segment for segment in self._committed if segment not in now]
        if gone:
            conn.execute(p.delete().where(p.c.consumer == CONSUMER, p.c.segment.in_(gone)))
        return now

    def committed(self, positions: Mapping[str, int]) -> None:
        self._committed = dict(positions)

    def seal(self) -> int:
        """Seal finished segments that were dealt with; returns how many files were made.

        Where `work` runs, that thread seals, and this takes in what it has done.
        """
        if self._todo is None:
            self._sealed += self._keeper.seal_due(self._committed)
        else:
            for name in self._keeper.due(self._committed):
                if name not in self._under_way:
                    self._under_way.add(name)
                    self._todo.put(name)
            while not self._done.empty():
                name, files = self._done.get()
                self._under_way.discard(name)
                if files is not None:
                    self._keeper.forget(name)
                    self._sealed += files  # kept until they are noted
        made = len(self._sealed)
        self._note(self._sealed)
        self._sealed = []
        return made

    def work(self) -> Thread:
        """Start the thread that seals. It yields the processor to everything else: no client waits for it."""
        self._todo = todo = Queue[str | None]()
        thread = Thread(target=self._work, args=(todo,), name="seal", daemon=True)
        thread.start()
        return thread

    def rest(self, thread: Thread, timeout_s: float) -> None:
        """End the thread that seals; a segment that it leaves is sealed by the next controller."""
        todo, self._todo = self._todo, None
        if todo is not None:
            todo.put(None)
        thread.join(timeout_s)

    def _work(self, todo: Queue[str | None]) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)
        while (name := todo.get()) is not None:
            try:
                self._done.put((name, self._keeper.seal(name)))
            except Exception:  # noqa: BLE001  # tried again: the segment stays due
                _log.exception("cannot seal segment %s; it is tried again", name)
                self._done.put((name, None))

    def tidy(self, *, retention_s: float, quota_bytes: int, protected: Collection[tuple[int, int]]) -> None:
        """Merge the files of past hours and delete payloads past their retention."""
        self._merge(self._keeper.compact())
        self._merge(self._keeper.retain(retention_s=retention_s, quota_bytes=quota_bytes, protected=protected))
        self._keeper.sweep()

    def _merge(self, merged: Merged) -> None:
        if merged.removed:
            with self._state.begin() as conn:
                conn.execute(t.log_files.delete().where(t.log_files.c.path.in_(merged.removed)))
        self._note(merged.added)

    def _note(self, files: Iterable[LogFile]) -> None:
        rows = [msgspec.to_builtins(file) for file in files]
        if not rows:
            return
        with self._state.begin() as conn:
            conn.execute(t.log_files.delete().where(t.log_files.c.path.in_([row["path"] for row in rows])))
            conn.execute(t.log_files.insert(), rows)
