"""The blindly judged items of an endpoint, as a version, its first reader and the truth answered them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.automation import readings
from tenure.deploy.automation.items import fair
from tenure.types import Box, Value

LIMIT = 100_000
_KNOWN = ("judged", "conflict", "resolved", "expired")
_TWICE = ("agreed", "adjudicated")


class Said(msgspec.Struct, frozen=True):
    """One judge's answer."""

    value: Value
    regions: tuple[Box, ...] = ()


Same = Callable[[Said, Said], bool]
"""Whether two answers count as the same."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One item with a first blind reading.

    Attributes:
        item: id of the request.
        number: draw order.
        unit: what shares a fate; empty where not told.
        model: the version's answer.
        person: the first blind reader's.
        truth: the answer after a second reading or an adjudication; None without one.
        waiting: a second reading was drawn and is not done, or never came.
        differed: the first reader differed from some version, so the draw was that of disagreements.
        readers: how many readings the item asks for at least.
    """

    item: str
    number: int
    unit: str
    model: Said
    person: Said
    truth: Said | None = None
    waiting: bool = False
    differed: bool = False
    readers: int = 1


def read(
    conn: Connection, endpoint: str, version: str, since_us: int = 0, segment: str | None = None
) -> list[Case]:
    """Return the cases in draw order, at most 100,000 of the newest; those of one segment where it is told.

    Only items whose draw did not depend on a score count. An item that waits for its second reader is there
    already: were it left out until then, disagreements would be missing more often than agreements.
    """
    first, others = _first_readings(conn, endpoint, since_us), _answers(conn, endpoint, since_us)
    found = []
    query = _query(endpoint, version, since_us)
    if segment is not None:
        query = query.where(t.review_items.c.segment == segment)
    for row in conn.execute(query):
        person = first.get(row.id)
        if person is not None:
            found.append(_case(row, person, others.get(row.id, ())))
    return found[::-1]


def independent(cases: Sequence[Case]) -> list[Case]:
    """Return the first case of each unit: what may be counted as independent."""
    seen: set[str] = set()
    return [c for c in cases if not c.unit or not (c.unit in seen or seen.add(c.unit))]  # type: ignore[func-returns-value]


def _query(endpoint: str, version: str, since_us: int) -> sa.Select[Any]:
    i, p = t.review_items.c, t.item_predictions.c
    wanted = (i.id, i.number, i.unit, i.state, i.truth, i.truth_regions, i.source, i.required)
    return (
        sa.select(*wanted, p.value, p.regions)
        .join(t.item_predictions, (p.item == i.id) & (p.version == version))
        .where(i.endpoint == endpoint, i.state.in_(_KNOWN), i.blind == 1, i.created_us >= since_us)
        .where(fair())
        .order_by(i.number.desc())
        .limit(LIMIT)
    )


def _case(row: Any, person: tuple[str, str], answers: Sequence[str]) -> Case:
    twice = row.state == "resolved" and row.source in _TWICE and row.truth is not None
    mine = json.loads(person[0])
    return Case(
        item=row.id,
        number=row.number,
        unit=row.unit,
        model=_said(row.value, row.regions),
        person=_said(*person),
        truth=_said(row.truth, row.truth_regions) if twice else None,
        waiting=row.state != "resolved",
        differed=any(json.loads(answer) != mine for answer in answers),
        readers=row.required,
    )


def _said(value: str, regions: str | None) -> Said:
    return Said(json.loads(value), msgspec.json.decode(regions or "[]", type=tuple[Box, ...]))


def _answers(conn: Connection, endpoint: str, since_us: int) -> dict[str, list[str]]:
    """Return item -> what each version answered, as JSON texts."""
    i, p = t.review_items.c, t.item_predictions.c
    query = (
        sa.select(p.item, p.value)
        .join(t.review_items, i.id == p.item)
        .where(i.endpoint == endpoint, i.blind == 1, i.created_us >= since_us)
    )
    found: dict[str, list[str]] = {}
    for row in conn.execute(query):
        found.setdefault(row.item, []).append(row.value)
    return found


def _first_readings(conn: Connection, endpoint: str, since_us: int) -> dict[str, tuple[str, str]]:
    """Return item -> (value, regions) of its first blind reader."""
    j, i = t.judgements.c, t.review_items.c
    query = (
        sa.select(j.id, j.item, j.role, j.value, j.regions, j.skip, j.supersedes)
        .join(t.review_items, i.id == j.item)
        .where(i.endpoint == endpoint, i.created_us >= since_us)
        .where(j.role == "reader", j.blind == 1)
        .order_by(j.id)
    )
    first = readings.first(list(conn.execute(query).mappings()))
    return {item: (row["value"], row["regions"]) for item, row in first.items()}
