"""Judgements whose item somebody was reading when they came: kept, and tried again once it is free.

Label Studio sends a webhook once: what may be stored in a moment must not be refused now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from threading import Lock

import msgspec
import sqlalchemy as sa

from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review import store
from tenure.deploy.review.queue import ReviewQueue
from tenure.maintain.exchange import taking
from tenure.maintain.exchange.entry import Taken

_W = t.waiting_judgements.c
_TURN = Lock()
"""A judgement that is tried again must not be deleted meanwhile; both happen in the controller's process."""


def keep(state: State, endpoint: str, some: Sequence[Taken]) -> None:
    """Keep judgements to try again; the same one is kept once."""
    now_us = state.now_us()
    rows = [
        {
            "key": one.key,
            "endpoint": endpoint,
            "body": msgspec.json.encode(one).decode(),
            "at_us": now_us + number,
        }
        for number, one in enumerate(some)
    ]
    with state.begin() as conn:
        store.insert_missing(conn, t.waiting_judgements, rows)


def drop(state: State, endpoint: str, numbers: Iterable[str]) -> set[str]:
    """Forget what waits of annotations that were deleted; returns those that something waited of."""
    found: set[str] = set()
    with _TURN, state.begin() as conn:
        for number in numbers:
            mine = (_W.endpoint == endpoint, _W.key.like(taking.pattern(number), escape="\\"))
            if conn.execute(t.waiting_judgements.delete().where(*mine)).rowcount:
                found.add(number)
    return found


def resume(state: State, queue: ReviewQueue) -> int:
    """Try what waits again, oldest first; returns how many judgements do not wait any more.

    What was stored, or is refused for good now, stands in the audit trail as `judgements.resumed`.
    """
    with state.read() as conn:
        if conn.execute(sa.select(_W.key).limit(1)).scalar() is None:
            return 0
    with _TURN:
        return sum(_resume(state, queue, endpoint, some) for endpoint, some in _waiting(state).items())


def _waiting(state: State) -> dict[str, list[Taken]]:
    found: dict[str, list[Taken]] = defaultdict(list)
    with state.read() as conn:
        for row in conn.execute(sa.select(t.waiting_judgements).order_by(_W.at_us).limit(taking.AT_ONCE)):
            found[row.endpoint].append(msgspec.json.decode(row.body, type=Taken))
    return found


def _resume(state: State, queue: ReviewQueue, endpoint: str, some: Sequence[Taken]) -> int:
    held: list[Taken] = []
    report = taking.take(state, queue, endpoint, some, held=held)
    done = {one.key for one in some} - {one.key for one in held}
    if not done:
        return 0
    detail = {"stored": report.stored, "known": report.known, "refused": report.refused}
    with state.begin() as conn:
        conn.execute(t.waiting_judgements.delete().where(_W.key.in_(done)))
        state.audit(conn, actor="tenure", action="judgements.resumed", subject=endpoint, detail=detail)
    return len(done)
