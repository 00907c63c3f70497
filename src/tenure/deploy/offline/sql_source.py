"""Rows of a query, in pages ordered by a unique key, so that a row has the same number whenever it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data.schema import InputSchema
from tenure.deploy.offline import database
from tenure.deploy.offline.rows import Item
from tenure.deploy.offline.source import Fingerprint, Wanted
from tenure.errors import CaseError

_PAGE = 2000
_LOOK = 200
_PYTHON: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "text": (str,), "category": (str,),
}  # fmt: skip


class Extent(NamedTuple):
    """How many rows a query has, how many with a key, how many different keys, and the first and last key."""

    rows: int
    keyed: int
    distinct: int
    first: Any
    last: Any


class SqlSource:
    """One SELECT on SQLite or PostgreSQL.

    Every page is a query of its own: no transaction stays open for hours. Rows that others add or remove
    meanwhile are found by `fingerprint`, which is taken again at the end.

    Args:
        url: of the database.
        query: one SELECT.
        key: a column of its result, unique and never null; rows are read in its order.
        wanted: what is read.

    Raises:
        CaseError: the query is wrong, lacks a column, has one of a wrong type, or the key is not unique.
        StoreError: the database cannot be reached.
    """

    is_exact = True

    def __init__(self, url: str, query: str, key: str, wanted: Wanted) -> None:
        self._url = database.url_of(url)
        self._engine = database.engine_of(self._url)
        self._query, self._key, self._wanted = query.strip().rstrip(";"), key, wanted
        self._quoted = self._engine.dialect.identifier_preparer.quote(key)
        self.name = f"a query on {self._url.database}"
        with database.connect(self._engine) as conn:
            self._columns = self._check(conn)
            self._extent = self._measure(conn)
        self.total: int | None = self._extent.rows

    def fingerprint(self) -> Fingerprint:
        with database.connect(self._engine) as conn:
            extent = self._measure(conn)
            ends = [self._rows(conn, f"ORDER BY {self._quoted} {way} LIMIT {_LOOK}") for way in ("ASC", "DESC")]
        sample = hashlib.sha256(repr((tuple(extent), ends)).encode()).hexdigest()
        return Fingerprint(
            database=database.shown(self._url), query=self._query, key=self._key, rows=extent.rows, sample=sample
        )

    def items(self, start: int) -> Iterator[Item]:
        row, last = start, None
        if start:
            with database.connect(self._engine) as conn:
                found = self._rows(conn, f"ORDER BY {self._quoted} LIMIT 1 OFFSET {start - 1}")
            if not found:
                return
            last = found[0][self._columns.index(self._key)]
        while page := self._page(last):
            for line in page:
                yield Item(row, self._item(line))
                row += 1
            last = page[-1][self._columns.index(self._key)]

    def _page(self, last: Any) -> list[tuple[Any, ...]]:
        where = "" if last is None else f"WHERE {self._quoted} > :last"
        with database.connect(self._engine) as conn:
            return self._rows(conn, f"{where} ORDER BY {self._quoted} LIMIT {_PAGE}", last=last)

    def _item(self, line: tuple[Any, ...]) -> dict[str, Any]:
        fields, values = self._wanted.schema.fields, dict(zip(self._columns, line, strict=True))
        chosen = self._wanted.chosen(self._columns)
        return {n: plain(values[n], fields[n].type if n in fields else "text") for n in chosen}

    def _rows(self, conn: Connection, rest: str, **parameters: Any) -> list[tuple[Any, ...]]:
        given = {name: value for name, value in parameters.items() if value is not None}
        return [tuple(row) for row in self._run(conn, f"SELECT * FROM ({self._escaped()}) AS q {rest}", given)]

    def _run(self, conn: Connection, sql: str, given: dict[str, Any]) -> sa.CursorResult[Any]:
        try:
            return conn.execute(sa.text(sql), given)
        except sa.exc.OperationalError as error:
            raise (
                self._wrong(error)
                if "syntax" in str(error) or "no such" in str(error)
                else database.failed("cannot read the query's rows", error)
            ) from error
        except sa.exc.SQLAlchemyError as error:
            raise self._wrong(error) from error

    def _wrong(self, error: sa.exc.SQLAlchemyError) -> CaseError:
        return CaseError(database.failed("the query is wrong", error).message, code="query_invalid", at="--sql")

    def _escaped(self) -> str:
        return self._query.replace("\\:", ":").replace(":", "\\:")  # a colon is no parameter of ours

    def _check(self, conn: Connection) -> list[str]:
        found = self._run(conn, f"SELECT * FROM ({self._escaped()}) AS q LIMIT {_LOOK}", {})
        columns, rows = list(found.keys()), [tuple(row) for row in found]
        self._wanted.check(columns, "the query")
        if self._key not in columns:
            raise CaseError(
                f"the query has no column {self._key}; there is: {', '.join(columns)}", code="missing_column",
                at="--key",
            )  # fmt: skip
        for name in self._wanted.fields:
            if name in columns:
                _check_type(self._wanted.schema, name, [row[columns.index(name)] for row in rows])
        return columns

    def _measure(self, conn: Connection) -> Extent:
        k = self._quoted
        sql = (
            f"SELECT count(*), count({k}), count(DISTINCT {k}), min({k}), max({k}) FROM ({self._escaped()}) AS q"
        )
        extent = Extent(*tuple(self._run(conn, sql, {}).one()))
        if not extent.rows == extent.keyed == extent.distinct:
            raise CaseError(
                f"column {self._key} must be unique and never null to order {extent.rows} rows; it has "
                f"{extent.rows - extent.keyed} nulls and {extent.distinct} different values",
                code="key_not_unique",
                at="--key",
            )
        return extent


def plain(value: Any, kind: str) -> Any:
    """Return a database's value as JSON would have it: decimals as numbers, 0 and 1 as truth values."""
    if isinstance(value, Decimal):
        return int(value) if kind == "int" and value == value.to_integral_value() else float(value)
    if kind == "bool" and type(value) is int and value in (0, 1):  # SQLite has no truth values
        return bool(value)
    return None if isinstance(value, float) and value != value else value


def _check_type(schema: InputSchema, name: str, values: list[Any]) -> None:
    """Raise CaseError (code `column_type`) where none of the first values could be one of the field."""
    kind = schema.fields[name].type if name in schema.fields else "text"
    known = [plain(value, kind) for value in values if value is not None]
    if known and not any(isinstance(v, _PYTHON[kind]) and not (kind != "bool" and v is True) for v in known):
        raise CaseError(
            f"the query's column {name} holds {type(known[0]).__name__}, the endpoint's field is {kind}; cast it "
            "in the query",
            code="column_type",
            at=name,
        )
