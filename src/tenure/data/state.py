"""The control state: one SQLAlchemy engine, short transactions, a hash-chained audit trail."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tenure.clock import Clock
from tenure.data import state_schema as schema
from tenure.data import tables as t
from tenure.errors import StoreError

GENESIS = "0" * 64
_ONE_WRITER = sa.text("SELECT pg_advisory_xact_lock(7436)")
_READ_ONLY = {"tenure_read_only": True}


class State:
    """The database behind the controller.

    SQLite (WAL) by default, PostgreSQL by URL. Use `begin()` for a command (one transaction: the change and its
    audit row) and `read()` for queries.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self._writers = Lock()

    @classmethod
    def open(cls, url: str | Path, clock: Clock) -> State:
        """Open the database at an SQLAlchemy URL or a SQLite file path; creates or migrates it (see `schema`).

        Raises:
            StoreError: the database cannot be opened, or is newer than this version of tenure.
        """
        text = f"sqlite:///{url}" if isinstance(url, Path) else url
        try:
            engine = engine_of(text)
            schema.prepare(engine)
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"cannot open the state database: {error}", at="state") from error
        return cls(engine, clock)

    def close(self) -> None:
        self.engine.dispose()

    def now_us(self) -> int:
        """Return UTC microseconds, the unit of every `_us` column."""
        return self.clock.now_ns() // 1000

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open one write transaction; commits at the end, rolls back on an exception.

        One at a time, as SQLite has it by nature: who reads a row and then writes it never overwrites what
        another wrote in between. Keep it short, and never open one inside another.
        """
        # Threads queue here rather than at SQLite's lock, whose waiters sleep and look again: it stood idle half
        # of the time with four reviewers at work.
        with self._writers, self.engine.begin() as conn:
            if conn.dialect.name == "postgresql":
                conn.execute(_ONE_WRITER)
            yield conn

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one connection for queries; it neither waits for a writer nor keeps one waiting."""
        with self.engine.connect().execution_options(**_READ_ONLY) as conn:
            yield conn

    def audit(
        self,
        conn: Connection,
        *,
        actor: str,
        action: str,
        subject: str,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one row to the hash chain, inside the caller's transaction."""
        previous = conn.execute(sa.select(t.audit.c.hash).order_by(t.audit.c.id.desc()).limit(1)).scalar()
        row = {
            "at_us": self.now_us(),
            "actor": actor,
            "action": action,
            "subject": subject,
            "detail": dumps(detail or {}),
            "previous": previous or GENESIS,
        }
        conn.execute(t.audit.insert().values(**row, hash=audit_hash(row)))


def audit_hash(row: Mapping[str, Any] | sa.RowMapping) -> str:
    """Return SHA-256 of the previous hash and the row's canonical JSON."""
    fields = {k: row[k] for k in ("at_us", "actor", "action", "subject", "detail")}
    return hashlib.sha256(str(row["previous"]).encode() + dumps(fields).encode()).hexdigest()


def verify_audit(conn: Connection) -> int | None:
    """Return the id of the first row that breaks the chain, or None when it is whole."""
    previous = GENESIS
    for row in conn.execute(sa.select(t.audit).order_by(t.audit.c.id)).mappings():
        if row["previous"] != previous or audit_hash(row) != row["hash"]:
            return int(row["id"])
        previous = row["hash"]
    return None


def dumps(value: Any) -> str:
    """Return canonical JSON text: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def engine_of(url: str) -> Engine:
    """Return the engine for a database URL; SQLite is set to WAL and takes its write lock at once."""
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _on_begin(conn: Connection) -> None:
        # IMMEDIATE takes the write lock at once: no upgrade deadlock between a reader and a writer.
        reads = conn.get_execution_options().keys() >= _READ_ONLY.keys()
        conn.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
