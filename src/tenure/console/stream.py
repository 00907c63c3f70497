"""Server-sent events: small notices that something changed; clients fetch what they show again."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import anyio
import msgspec
import sqlalchemy as sa
from anyio import to_thread
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import State

POLL_S = 0.5
KEEP = 512
PING_S = 15.0

Marks = Mapping[tuple[str, str], tuple[Any, ...]]
"""(topic, endpoint) -> numbers that differ when something changed."""


class Notice(msgspec.Struct, frozen=True):
    """One change. `id` counts up inside one life of the server."""

    id: int
    topic: str
    endpoint: str


class Stream:
    """Watches the state while somebody listens, and replays what a reconnecting client missed."""

    def __init__(self, state: State, endpoints: Iterable[str], *, poll_s: float = POLL_S) -> None:
        self._state = state
        self._endpoints = tuple(endpoints)
        self._poll_s = poll_s
        self._boot = secrets.token_hex(4)
        self._recent: deque[Notice] = deque(maxlen=KEEP)
        self._last = 0
        self._marks: Marks | None = None
        self._looked = anyio.Lock()
        self._ended = anyio.Event()

    def end(self) -> None:
        """End all streams in order; clients come again by themselves."""
        self._ended.set()

    async def events(self, last_event_id: str) -> AsyncIterator[bytes]:
        """Yield the stream of one client, from behind `last_event_id` (`boot-number`, or empty).

        A client that missed more than is kept, or that knew an earlier life of the server, first gets a `reset`:
        everything it shows may be old.
        """
        await self.look()
        position = self._position(last_event_id)
        yield b"retry: 1000\n\n"
        if position is None:
            position = self._last
            yield self._frame(Notice(position, "reset", ""))
        quiet = 0.0
        while not self._ended.is_set():
            fresh = [n for n in self._recent if n.id > position]
            for notice in fresh:
                yield self._frame(notice)
            position = self._last
            quiet = 0.0 if fresh else quiet + self._poll_s
            if quiet >= PING_S:
                yield b": ping\n\n"
                quiet = 0.0
            with anyio.move_on_after(self._poll_s):
                await self._ended.wait()
            await self.look()

    async def look(self) -> None:
        """Compare the state with what was seen last; many clients cost one look."""
        if self._looked.locked():
            return
        async with self._looked:
            now = await to_thread.run_sync(self._read)
            for topic, endpoint in changed(self._marks, now):
                self._last += 1
                self._recent.append(Notice(self._last, topic, endpoint))
            self._marks = now

    def _read(self) -> Marks:
        with self._state.read() as conn:
            return marks(conn, self._endpoints)

    def _position(self, text: str) -> int | None:
        boot, _, number = text.rpartition("-")
        if boot != self._boot or not number.isdigit():
            return None
        oldest = self._recent[0].id if self._recent else self._last + 1
        return int(number) if int(number) >= oldest - 1 else None

    def _frame(self, notice: Notice) -> bytes:
        body = msgspec.json.encode({"topic": notice.topic, "endpoint": notice.endpoint, "id": notice.id})
        return f"id: {self._boot}-{notice.id}\ndata: ".encode() + body + b"\n\n"


def changed(before: Marks | None, now: Marks) -> list[tuple[str, str]]:
    """Return which topics differ, in a stable order; nothing at the first look.

    Example:
        >>> changed({("alarms", "a"): (1,)}, {("alarms", "a"): (2,)})
        [('alarms', 'a')]
    """
    if before is None:
        return []
    return sorted(key for key in {*before, *now} if before.get(key) != now.get(key))


def marks(conn: Connection, endpoints: Iterable[str]) -> Marks:
    """Read the marks: a few maxima, each answered from an index or a small table."""
    found: dict[tuple[str, str], tuple[Any, ...]] = {}
    for name in endpoints:
        for topic, (table, values) in _BY_ENDPOINT.items():
            found[topic, name] = tuple(conn.execute(sa.select(*values).where(table.c.endpoint == name)).one())
    for topic, values in _WHOLE.items():
        found[topic, ""] = tuple(conn.execute(sa.select(*values)).one())
    return found


_max, _sum, _count = sa.func.max, sa.func.sum, sa.func.count
_A, _C, _I = t.alarms.c, t.certificates.c, t.review_items.c
_BY_ENDPOINT: dict[str, tuple[sa.Table, tuple[Any, ...]]] = {
    "alarms": (t.alarms, tuple(map(_max, (_A.id, _A.fired_us, _A.acknowledged_us, _A.resolved_us)))),
    "rollouts": (t.rollouts, (_count(), _max(t.rollouts.c.updated_us))),
    "levels": (t.levels, (_max(t.levels.c.id),)),
    "lineages": (t.lineages, (_max(t.lineages.c.id), _sum(t.lineages.c.labels))),
    "certificates": (t.certificates, (_max(_C.id), _max(_C.ended_us), _sum(_C.audit_n))),
    "panes": (t.panes, (_max(t.panes.c.pane_us),)),
    "versions": (t.versions, (_count(), _max(t.versions.c.created_us))),
    "retrain": (t.retrain_runs, (_count(), _max(t.retrain_runs.c.ended_us))),
}
_WHOLE: dict[str, tuple[Any, ...]] = {
    "reviews": tuple(
        sa.select(_max(column)).scalar_subquery() for column in (_I.number, _I.resolution, t.judgements.c.id)
    ),
    "events": (_max(t.events.c.id),),
    "evidence": (_max(t.verdicts.c.at_us),),
    "audit": (_max(t.audit.c.id),),
    "routing": (_max(t.routing_tables.c.version),),
}
