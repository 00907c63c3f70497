"""Notes such as "new lamp": drawn on every chart and offered as an explanation of an alarm."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import State
from tenure.errors import CaseError


def add_event(state: State, endpoint: str | None, text: str, author: str, *, at_us: int | None = None) -> int:
    """Note that something changed around the system; returns the note's number.

    Args:
        state: the control state.
        endpoint: its name; None = the whole project.
        text: what changed, in the user's words.
        author: who says so.
        at_us: when it changed; default now.

    Raises:
        CaseError: the text is empty.
    """
    words = " ".join(text.split())
    if not words:
        raise CaseError("an event needs words, such as `new lamp`", code="empty_event", at="text")
    with state.begin() as conn:
        when = state.now_us() if at_us is None else at_us
        result = conn.execute(t.events.insert().values(endpoint=endpoint, at_us=when, text=words, author=author))
        number = int(result.inserted_primary_key[0])  # type: ignore[index]
        state.audit(conn, actor=author, action="event.add", subject=endpoint or "project", detail={"text": words})
    return number


def listing(
    conn: Connection, endpoint: str | None = None, *, since_us: int = 0, until_us: int | None = None
) -> list[dict[str, Any]]:
    """Return the events of an endpoint and of the whole project in order of time; all with endpoint None."""
    e = t.events.c
    query = sa.select(t.events).where(e.at_us >= since_us).order_by(e.at_us, e.id)
    if until_us is not None:
        query = query.where(e.at_us <= until_us)
    if endpoint is not None:
        query = query.where(sa.or_(e.endpoint == endpoint, e.endpoint.is_(None)))
    return [dict(row) for row in conn.execute(query).mappings()]
