"""What happened: versions, retraining, certificates, the audit trail, and what was live at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tenure.console.query import many, newest, one
from tenure.console.route import VIEW, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.data.state import State, verify_audit
from tenure.errors import CaseError

_ENDPOINT = {"endpoint": "only of this one"}


def versions(services: Services, ask: Ask) -> dict[str, Any]:
    """Return registered versions with their provenance, newest first."""
    statement = (
        sa.select(t.versions).where(*_only(services, ask, t.versions)).order_by(t.versions.c.created_us.desc())
    )
    with services.state.read() as conn:
        found = many(conn, statement.limit(200), decode=("manifest", "provenance"))
    return {"versions": found}


def certificates(services: Services, ask: Ask) -> dict[str, Any]:
    """Return certificates with their claims in words, newest first."""
    with services.state.read() as conn:
        found = newest(conn, t.certificates, 200, *_only(services, ask, t.certificates))
    return {"certificates": found, "now_us": services.state.now_us()}


def audit(services: Services, ask: Ask) -> dict[str, Any]:
    """Return the audit trail, newest first, before a row id; `broken_at` names the first row that was altered."""
    before = ask.integer("before", 2**53, high=2**53)
    with services.state.read() as conn:
        limit = ask.integer("limit", 100, low=1, high=1000)
        found = newest(conn, t.audit, limit, t.audit.c.id < before, decode=("detail",))
        broken = verify_audit(conn) if ask.query.get("verify") else None
    return {"audit": found, "verified": bool(ask.query.get("verify")), "broken_at": broken}


def history(services: Services, ask: Ask) -> dict[str, Any]:
    """Return what was live at a time: the routing table, and the level of each endpoint and segment."""
    at_us = moment(ask.query.get("at", ""), services.state.now_us())
    return live_at(services.state, list(services.project.endpoints), at_us)


def live_at(state: State, endpoints: Sequence[str], at_us: int) -> dict[str, Any]:
    """Return the routing table and the levels in force at `at_us`; `ENDPOINT/SEGMENT` names a segment's."""
    table, level = t.routing_tables, t.levels
    with state.read() as conn:
        routing = one(
            conn,
            sa.select(table).where(table.c.made_us <= at_us).order_by(table.c.version.desc()).limit(1),
            decode=("body",),
        )
        moved = (level.c.endpoint.in_(endpoints)) & (level.c.at_us <= at_us)
        newest = sa.select(sa.func.max(level.c.id)).where(moved).group_by(level.c.endpoint, level.c.segment)
        rows = conn.execute(sa.select(level).where(level.c.id.in_(newest)).order_by(level.c.segment)).mappings()
        levels: dict[str, Any] = dict.fromkeys(endpoints)
        for row in rows:
            place = f"{row['endpoint']}/{row['segment']}" if row["segment"] else row["endpoint"]
            levels[place] = {name: row[name] for name in ("to_level", "at_us", "author", "cause")}
    return {"at_us": at_us, "routing": routing, "levels": levels}


def moment(text: str, now_us: int) -> int:
    """Return UTC microseconds of an ISO 8601 time with its zone; empty text is now.

    Raises:
        CaseError: the text is no such time.

    Example:
        >>> moment("1970-01-01T00:00:01Z", 0)
        1000000
    """
    if not text:
        return now_us
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise CaseError(
            f"expected an ISO 8601 time with a zone such as 2026-05-01T12:00:00Z, got {text!r}",
            code="invalid_query",
            at="at",
            status=400,
        )
    return round(when.timestamp() * 1_000_000)


def _only(services: Services, ask: Ask, table: sa.Table) -> list[Any]:
    name = ask.query.get("endpoint")
    return [table.c.endpoint == endpoint_of(services, name)] if name else []


ROUTES = (
    Route(
        "GET", "/api/versions", VIEW, versions, "Registered versions and where they come from", query=_ENDPOINT
    ),
    Route("GET", "/api/certificates", VIEW, certificates, "Certificates and their claims", query=_ENDPOINT),
    Route(
        "GET",
        "/api/audit",
        VIEW,
        audit,
        "The audit trail, newest first",
        query={"before": "row id", "limit": "1 to 1000", "verify": "1 checks the hash chain"},
    ),
    Route(
        "GET",
        "/api/history",
        VIEW,
        history,
        "What was live at a time",
        query={"at": "ISO 8601 with zone; default now"},
    ),
)
