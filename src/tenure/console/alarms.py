"""Alarms and events: what moved, and the notes that people draw on the charts."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import sqlalchemy as sa

from tenure.console.query import many, newest
from tenure.console.route import OPERATE, VIEW, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.errors import MissingError
from tenure.monitor import alarms as life
from tenure.monitor import events as notes

_ORDER = sa.case({"firing": 0, "acknowledged": 1, "no_data": 2, "pending": 3}, value=t.alarms.c.state, else_=4)


class NewEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A note; without an endpoint it is about the whole project."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    endpoint: str | None = None


def alarms(services: Services, ask: Ask) -> dict[str, Any]:
    """Return alarms, open ones first, then newest first."""
    where = []
    if ask.query.get("endpoint"):
        where.append(t.alarms.c.endpoint == endpoint_of(services, ask.query["endpoint"]))
    if ask.query.get("state"):
        where.append(t.alarms.c.state == ask.query["state"])
    limit = ask.integer("limit", 100, low=1, high=1000)
    statement = sa.select(t.alarms).where(*where).order_by(_ORDER, t.alarms.c.id.desc()).limit(limit)
    with services.state.read() as conn:
        found = many(conn, statement, decode=("numbers", "actions"))
    return {"alarms": found, "now_us": services.state.now_us()}


def events(services: Services, ask: Ask) -> dict[str, Any]:
    """Return notes, newest first."""
    where = []
    if ask.query.get("endpoint"):
        name = endpoint_of(services, ask.query["endpoint"])
        where.append(sa.or_(t.events.c.endpoint == name, t.events.c.endpoint.is_(None)))
    with services.state.read() as conn:
        return {"events": newest(conn, t.events, ask.integer("limit", 200, low=1, high=1000), *where)}


def add_event(services: Services, ask: Ask) -> dict[str, Any]:
    """Add a note at this moment; it is drawn on every chart of its endpoint."""
    body: NewEvent = ask.body
    name = None if body.endpoint is None else endpoint_of(services, body.endpoint)
    return {"id": notes.add_event(services.state, name, body.text, ask.who.name)}


def acknowledge(services: Services, ask: Ask) -> dict[str, Any]:
    """Say that a person knows of an alarm."""
    return _moved(services, life.acknowledge(services.state, _number(ask), ask.who.name))


def resolve(services: Services, ask: Ask) -> dict[str, Any]:
    """Close an alarm by hand."""
    return _moved(services, life.resolve(services.state, _number(ask), ask.who.name))


def _moved(services: Services, event: life.AlarmEvent) -> dict[str, Any]:
    services.publish()
    return {"id": event.alarm, "state": event.state}


def _number(ask: Ask) -> int:
    text = ask.path["id"]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise MissingError(f"there is no alarm {text!r}", at="id")
    return int(text)


ROUTES = (
    Route(
        "GET",
        "/api/alarms",
        VIEW,
        alarms,
        "Alarms, open ones first",
        query={"endpoint": "only of this one", "state": "only in this state", "limit": "1 to 1000"},
    ),
    Route("POST", "/api/alarms/{id}/acknowledge", OPERATE, acknowledge, "Say that a person knows"),
    Route("POST", "/api/alarms/{id}/resolve", OPERATE, resolve, "Close an alarm by hand"),
    Route(
        "GET",
        "/api/events",
        VIEW,
        events,
        "Notes, newest first",
        query={"endpoint": "only of this one", "limit": "1 to 1000"},
    ),
    Route("POST", "/api/events", OPERATE, add_event, "Add a note to the charts", NewEvent),
)
