"""When an endpoint is to be trained without being asked: enough new labels, or an alarm and some newer labels."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.scope.project import Retrain

EARLY = 0.1
"""After an alarm this share of `min_labels` suffices, counted from the alarm on: the world has changed, and a
training without any label of the new world would learn nothing about it."""

_MOST = 1_000_000
ACTIVE = ("running", "trained")


class Mark(msgspec.Struct, frozen=True):
    """What is remembered of an endpoint, as JSON in `meta`.

    Attributes:
        trained: order of the last resolved item that the last run could see.
        asked: order of the last resolved item when retraining was requested; None without a request.
        cause: of the request.
    """

    trained: int = 0
    asked: int | None = None
    cause: str = ""


def request(conn: Connection, endpoint: str, cause: str) -> None:
    """Remember that an alarm wants retraining; the first request stands until a run starts."""
    mark = read(conn, endpoint)
    if mark.asked is None:
        _write(conn, endpoint, Mark(mark.trained, _newest(conn), cause))


def settle(conn: Connection, endpoint: str) -> None:
    """Note that a run begins: requests are answered, and labels are counted anew from here."""
    _write(conn, endpoint, Mark(_newest(conn)))


def due(conn: Connection, endpoint: str, spec: Retrain) -> str | None:
    """Return why the endpoint is to be trained now, or None."""
    if not spec.auto_train or is_active(conn, endpoint):
        return None
    mark = read(conn, endpoint)
    new = _labels(conn, endpoint, after=mark.trained)
    if new >= spec.min_labels:
        return mark.cause or f"{new} new labels"
    if mark.asked is not None:
        since = _labels(conn, endpoint, after=max(mark.asked, mark.trained))
        if since >= math.ceil(EARLY * spec.min_labels):
            return f"{mark.cause} ({since} labels since then)"
    return None


def is_active(conn: Connection, endpoint: str) -> bool:
    """Say whether a run of the endpoint is going."""
    c = t.retrain_runs.c
    going = sa.select(c.id).where(c.endpoint == endpoint, c.state.in_(ACTIVE)).limit(1)
    return conn.execute(going).scalar() is not None


def read(conn: Connection, endpoint: str) -> Mark:
    """Return what is remembered of an endpoint."""
    text = conn.execute(sa.select(t.meta.c.value).where(t.meta.c.key == _key(endpoint))).scalar()
    return Mark() if text is None else msgspec.json.decode(text, type=Mark)


def _write(conn: Connection, endpoint: str, mark: Mark) -> None:
    text = msgspec.json.encode(mark).decode()
    known = conn.execute(t.meta.update().where(t.meta.c.key == _key(endpoint)).values(value=text)).rowcount
    if not known:
        conn.execute(t.meta.insert().values(key=_key(endpoint), value=text))


def _labels(conn: Connection, endpoint: str, *, after: int) -> int:
    return int(conn.execute(_counting(endpoint, after)).scalar_one())


def _counting(endpoint: str, after: int) -> sa.Select[Any]:
    i = t.review_items.c
    # Asked at every tick, over years of labels: the limit keeps the endpoint out of the inner query, which then
    # walks the index of resolutions from `after` on instead of all that was ever resolved for the endpoint.
    recent = sa.select(i.endpoint).where(i.resolution > after).order_by(i.resolution).limit(_MOST).subquery()
    return sa.select(sa.func.count()).where(recent.c.endpoint == endpoint)


def _newest(conn: Connection) -> int:
    return int(conn.execute(sa.select(sa.func.max(t.review_items.c.resolution))).scalar() or 0)


def _key(endpoint: str) -> str:
    return f"retrain:{endpoint}"
