"""Reading the control state into plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection


def many(conn: Connection, statement: Any, *, decode: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the rows as dicts; the columns in `decode` hold JSON text and come back as values."""
    return [_plain(row, decode) for row in conn.execute(statement).mappings()]


def one(conn: Connection, statement: Any, *, decode: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return the first row as a dict, or None."""
    row = conn.execute(statement).mappings().first()
    return None if row is None else _plain(row, decode)


def newest(
    conn: Connection, table: sa.Table, limit: int, *where: Any, decode: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return up to `limit` rows of a table with a serial id, newest first."""
    statement = sa.select(table).where(*where).order_by(table.c.id.desc()).limit(limit)
    return many(conn, statement, decode=decode)


def _plain(row: sa.RowMapping, decode: Sequence[str]) -> dict[str, Any]:
    values = dict(row)
    for name in decode:
        if isinstance(values.get(name), str):
            values[name] = json.loads(values[name])
    return values
