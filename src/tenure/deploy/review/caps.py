"""How much one person may judge: a cap per hour and per 24 hours."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.review import store
from tenure.errors import CaseError
from tenure.scope.project import Cap

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
_J = t.judgements.c


def left(conn: Connection, cap: Cap, *, endpoint: str, reader: str, now_us: int) -> tuple[int | None, int]:
    """Return how many items of an endpoint a reader may still be given, and when the cap that binds lets go.

    Skips count, what was taken back does not free anything: a cap is about the work. What the reader holds counts
    too. None is no limit.
    """
    rooms: list[tuple[int, int]] = []
    for most, window in ((cap.per_hour, HOUR_US), (cap.per_day, DAY_US)):
        if most is not None:
            rooms.append(_room(conn, most, window, endpoint=endpoint, reader=reader, now_us=now_us))
    if not rooms:
        return None, now_us
    room = min(n for n, _ in rooms)
    return room, max(until for n, until in rooms if n == room)


def refuse(endpoint: str, reader: str, until_us: int) -> CaseError:
    """Return the error that says until when a reader has done enough."""
    at = datetime.fromtimestamp(until_us / 1e6, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return CaseError(
        f"{reader} has judged as many items of {endpoint} as review.cap allows; more from {at} on",
        code="review_cap",
        at="reader",
        status=429,
    )


def _room(
    conn: Connection, most: int, window_us: int, *, endpoint: str, reader: str, now_us: int
) -> tuple[int, int]:
    ours = sa.or_(
        sa.exists().where(t.review_items.c.id == _J.item, t.review_items.c.endpoint == endpoint),
        sa.exists().where(t.gold_draws.c.id == _J.item, t.gold_draws.c.endpoint == endpoint),
    )
    mine = (_J.reader == reader, _J.at_us > now_us - window_us, ours)
    acts = sa.select(_J.at_us).where(*mine, sa.or_(_J.skip.is_(None), _J.skip != store.UNDO))
    times = list(conn.execute(acts.order_by(_J.at_us.desc()).limit(most)).scalars())
    held = (t.leases.c.reader == reader, t.leases.c.expires_us > now_us)
    open_ = int(conn.execute(sa.select(sa.func.count()).select_from(t.leases).where(*held)).scalar_one())
    until = times[most - 1] + window_us if len(times) >= most else now_us
    return max(0, most - len(times) - open_), until
