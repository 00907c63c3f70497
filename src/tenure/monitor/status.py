"""Which metrics watch, which are on trial, and which are retired, with the reason."""

from __future__ import annotations

from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import State
from tenure.errors import CaseError
from tenure.monitor import panes

Status = Literal["active", "trial", "retired"]


def set_status(state: State, endpoint: str, metric: str, status: Status, *, reason: str, by: str) -> None:
    """Change a metric's status; a board heeds it from its next reference on, because its set of bets is fixed.

    Raises:
        CaseError: the status is unknown, or there is no reason.
    """
    if status not in get_args(Status):
        raise CaseError(f"expected active, trial or retired, got {status!r}", code="unknown_status", at="status")
    if not reason.strip():
        raise CaseError("say why, such as `never moved in a year`", code="no_reason", at="reason")
    now_us = state.now_us()
    row = {"endpoint": endpoint, "name": metric, "status": status, "reason": reason.strip(), "since_us": now_us}
    with state.begin() as conn:
        panes.upsert(conn, t.metrics, [row])
        subject = f"{endpoint}.{metric}"
        state.audit(conn, actor=by, action=f"metric.{status}", subject=subject, detail={"reason": reason})


def listing(conn: Connection, endpoint: str) -> list[dict[str, Any]]:
    """Return the metrics whose status was ever set; all others are active."""
    m = t.metrics.c
    query = sa.select(t.metrics).where(m.endpoint == endpoint).order_by(m.name)
    return [dict(row) for row in conn.execute(query).mappings()]
