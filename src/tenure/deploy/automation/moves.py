"""Rows of `levels`: every move of the degree of automation with what it rested on; the newest is in force."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.deploy.automation import certificates, levels
from tenure.types import Level


def newest(conn: Connection, endpoint: str, segment: str = "") -> sa.RowMapping | None:
    """Return the newest move of a segment, None before the first."""
    return conn.execute(_NEWEST, {"endpoint": endpoint, "segment": segment}).mappings().first()


_C = t.levels.c
_NEWEST = (  # asked several times a second for each segment: made once
    sa.select(t.levels)
    .where(_C.endpoint == sa.bindparam("endpoint"), _C.segment == sa.bindparam("segment"))
    .order_by(_C.id.desc())
    .limit(1)
)


def held_down(conn: Connection, endpoint: str, segment: str) -> bool:
    """Say whether a person lowered the level last: then only a person raises it."""
    row = newest(conn, endpoint, segment)
    return row is not None and bool(json.loads(row["numbers"]).get("hold"))


def append(
    conn: Connection, endpoint: str, old: Level, to: Level, *, now_us: int, author: str, cause: str, hold: bool,
    segment: str, evidence: levels.Evidence | None,
) -> None:  # fmt: skip
    """Write a move.

    Args:
        conn: the transaction.
        endpoint: name.
        old: level that was in force.
        to: level that is.
        now_us: wall time, UTC microseconds.
        author: who moved it.
        cause: why, in words.
        hold: a person lowered it, so that it does not climb by itself.
        segment: whose level it is.
        evidence: what the move rests on; stored beside the numbers of the certificates in force.
    """
    numbers: dict[str, Any] = {"hold": hold}
    if evidence is not None:
        numbers["evidence"] = msgspec.to_builtins(evidence)
        numbers["certificates"] = [row["id"] for row in certificates.in_force(conn, endpoint, segment)]
    row = {
        "endpoint": endpoint,
        "segment": segment,
        "at_us": now_us,
        "from_level": old.word,
        "to_level": to.word,
        "author": author,
        "cause": cause,
        "numbers": dumps(numbers),
    }
    conn.execute(t.levels.insert().values(**row))
