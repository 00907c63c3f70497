"""What deadlines do: a decision is handed to the log in time, or the fallback decides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.deploy.review import store
from tenure.deploy.review.items import DueDecision
from tenure.scope.project import EndpointSpec

EMIT_US = 50_000
"""A decision this close to the deadline is not written any more: a worker may have fallen back already."""

FALLEN_US = 2_000_000
"""So long after a deadline the control page says which workers lived through it."""

_D = t.decisions.c


def undelivered(
    conn: Connection, endpoints: Mapping[str, EndpointSpec], *, now_us: int, limit: int = 1000
) -> tuple[list[DueDecision], list[str]]:
    """Return people's decisions whose frames are not in the log yet, oldest first, and the ids of those too late.

    A row that is found too late (the controller was dead) is not to be written: the worker's fallback is the
    decision then, and the row says so.
    """
    mine = (_D.logged == 0, _D.by == "person")
    query = sa.select(t.decisions).where(*mine).order_by(_D.at_us, _D.id).limit(limit)
    due, gone = [], []
    for row in conn.execute(query.with_for_update()).mappings().all():
        if row["deadline_us"] and now_us > row["deadline_us"] - EMIT_US:
            fall_back(conn, row, endpoints.get(row["endpoint"]), now_us=now_us)
            gone.append(row["id"])
        else:
            due.append(_due(row))
    return due, gone


def fallen_back(conn: Connection, *, now_us: int, limit: int = 1000) -> list[DueDecision]:
    """Return the fallback's decisions not looked after yet, once it is known who lived, oldest first."""
    due = (_D.logged == 0, _D.by == "fallback", _D.at_us <= now_us - FALLEN_US)
    query = sa.select(t.decisions).where(*due).order_by(_D.at_us, _D.id).limit(limit)
    return [_due(row) for row in conn.execute(query).mappings()]


def mark_logged(conn: Connection, ids: Sequence[str]) -> None:
    """Note that the frames of these decisions are in the log."""
    for part in store.chunks(ids):
        conn.execute(t.decisions.update().where(_D.id.in_(part)).values(logged=1))


def fall_back(conn: Connection, row: RowMapping, spec: EndpointSpec | None, *, now_us: int) -> None:
    """Turn an undelivered decision into what the worker has decided at the deadline."""
    values = {"value": fallback_value(spec), "regions": "[]", "by": "fallback", "reader": "", "logged": 0}
    conn.execute(t.decisions.update().where(_D.id == row["id"]).values(**values, at_us=row["deadline_us"]))


def record_fallback(conn: Connection, row: RowMapping, spec: EndpointSpec | None) -> None:
    """Store that the fallback decided a request whose deadline passed; a worker that lived has logged it."""
    if spec is None or spec.serve.on_timeout is None:
        return
    decision = {
        "id": row["id"],
        "endpoint": row["endpoint"],
        "value": fallback_value(spec),
        "regions": "[]",
        "by": "fallback",
        "reader": "",
        "policy": row["policy"],
        "at_us": row["deadline_us"],
        "deadline_us": row["deadline_us"],
        "logged": 0,
    }
    store.insert_missing(conn, t.decisions, [decision])


def fallback_value(spec: EndpointSpec | None) -> str:
    """Return the JSON of what the project's fallback decides, null without one."""
    fallback = spec.serve.on_timeout if spec is not None else None
    return dumps(None if fallback is None else fallback.decide)


def _due(row: RowMapping) -> DueDecision:
    values = {name: row[name] for name in DueDecision.__struct_fields__ if name not in ("value", "regions")}
    return DueDecision(value=json.loads(row["value"]), regions=store.boxes(row["regions"]), **values)
