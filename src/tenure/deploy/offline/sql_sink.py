"""An output table: a chunk's rows and the line that says so are one transaction of the target database."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import URL

from tenure.deploy.offline import database, table
from tenure.deploy.offline import manifest as manifests
from tenure.deploy.offline.manifest import Chunk, Manifest, Terms
from tenure.deploy.offline.rows import Answered, Rejected, counts
from tenure.deploy.offline.table import Layout
from tenure.errors import CaseError, ConflictError

_metadata = sa.MetaData()
RUNS = sa.Table(
    "tenure_score_runs",
    _metadata,
    sa.Column("run", sa.String(16), primary_key=True),
    sa.Column("target", sa.String, nullable=False, index=True),
    sa.Column("started_us", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # JSON of manifest.Manifest without its chunks
)
CHUNKS = sa.Table(
    "tenure_score_chunks",
    _metadata,
    sa.Column("run", sa.String(16), primary_key=True),
    sa.Column("chunk", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", sa.Text, nullable=False),  # JSON of manifest.Chunk
)


def target_of(text: str) -> tuple[URL, str]:
    """Return (database, table) of an address such as `postgresql://host/db?table=scores`.

    Raises:
        CaseError: it names no table, or another database.
    """
    url = database.url_of(text)
    name = url.query.get("table")
    if not isinstance(name, str) or not name:
        raise CaseError(f"which table? End the address with ?table=NAME: {database.shown(url)}", at="output")
    return url.difference_update_query(["table"]), name


class SqlSink:
    """A table with a row per answered row, and `<table>_quarantine` with those that failed.

    Both tables are keyed by (run, row), so that not even two runs at once could store a row twice. One connection
    does everything: on PostgreSQL it also holds the lock, so that whoever lost the lock cannot commit.
    """

    def __init__(self, address: str, layout: Layout) -> None:
        self._url, name = target_of(address)
        schema, _, plain = name.rpartition(".")
        self._schema, self._table, self._layout = schema or None, plain, layout
        self.name = f"table {name} of {database.shown(self._url)}"
        self._target = name
        self._engine = database.engine_of(self._url)
        own = sa.MetaData()
        self._rows = sa.Table(plain, own, *_columns(layout), schema=self._schema)
        self._failed = sa.Table(f"{plain}_quarantine", own, *_failed_columns(), schema=self._schema)

    def __enter__(self) -> SqlSink:
        self._conn = database.connect(self._engine)
        try:
            self._lock = self._take_lock()
            self._prepare()
        except BaseException:
            self._conn.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._conn.invalidate()  # a pooled connection would keep the lock
        self._conn.close()
        if self._lock is not None:
            os.close(self._lock)
        self._engine.dispose()

    def open(self, terms: Terms, *, run: int, now_us: int, restart: bool) -> Manifest:
        with self._begin():
            known = self._newest()
            goes_on = known is not None and (
                known.state == "running" or not manifests.changes(known.terms, terms)
            )
            if known is not None and goes_on and not restart:
                manifests.refuse_changes(known.terms, terms)
                return known
            if known is not None and goes_on:
                self._remove(known.run)
            made = Manifest(run=f"{run:016x}", terms=terms, started_us=now_us)
            row = {"run": made.run, "target": self._target, "started_us": now_us, "body": _body(made)}
            self._conn.execute(RUNS.insert().values(**row))
            return made

    def commit(self, manifest: Manifest, answered: Sequence[Answered], rejected: Sequence[Rejected]) -> Manifest:
        chunk = Chunk(len(manifest.chunks), manifest.rows, counts(list(answered), list(rejected)))
        with self._begin():
            if answered:
                lines = [self._line(manifest.run, self._layout.line(row)) for row in answered]
                self._conn.execute(self._rows.insert(), lines)
            if rejected:
                self._conn.execute(self._failed.insert(), [_failed(manifest.run, row) for row in rejected])
            body = msgspec.json.encode(chunk).decode()
            self._conn.execute(CHUNKS.insert().values(run=manifest.run, chunk=chunk.number, body=body))
        return msgspec.structs.replace(manifest, chunks=(*manifest.chunks, chunk))

    def finish(self, manifest: Manifest, *, now_us: int) -> Manifest:
        done = msgspec.structs.replace(manifest, state="finished", finished_us=now_us)
        with self._begin():
            self._conn.execute(RUNS.update().where(RUNS.c.run == done.run).values(body=_body(done)))
        return done

    @contextmanager
    def _begin(self) -> Iterator[None]:
        try:
            with self._conn.begin():
                yield
        except sa.exc.SQLAlchemyError as error:
            raise database.failed(f"cannot write to {self.name}", error) from error

    def _line(self, run: str, line: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: _cell(line[name]) for name in self._layout.keep}
        return {"run": run, **{name: _storable(value) for name, value in {**line, **kept}.items()}}

    def _newest(self) -> Manifest | None:
        """Return the target's newest run with its committed chunks."""
        query = sa.select(RUNS.c.body).where(RUNS.c.target == self._target)
        body = self._conn.execute(query.order_by(RUNS.c.started_us.desc(), RUNS.c.run).limit(1)).scalar()
        if body is None:
            return None
        found = manifests.decode(body, RUNS.name)
        stored = sa.select(CHUNKS.c.body).where(CHUNKS.c.run == found.run).order_by(CHUNKS.c.chunk)
        chunks = [msgspec.json.decode(text, type=Chunk) for text in self._conn.execute(stored).scalars()]
        return msgspec.structs.replace(found, chunks=tuple(chunks))

    def _remove(self, run: str) -> None:
        for each in (self._rows, self._failed, CHUNKS, RUNS):
            self._conn.execute(each.delete().where(each.c.run == run))

    def _prepare(self) -> None:
        """Make the tables that are absent; refuse a target that is another kind of table."""
        with self._begin():
            _metadata.create_all(self._conn)
            self._rows.metadata.create_all(self._conn)
            for each in (self._rows, self._failed):
                there = {c["name"] for c in sa.inspect(self._conn).get_columns(each.name, schema=self._schema)}
                lacking = [c.name for c in each.c if c.name not in there]
                if lacking:
                    raise ConflictError(
                        f"table {each.name} is there without column {', '.join(lacking)}; choose another table",
                        code="output_taken",
                        at=each.name,
                    )

    def _take_lock(self) -> int | None:
        """Hold the target for this process: a session lock on PostgreSQL, a lock file beside SQLite's file."""
        taken = ConflictError(f"another run is writing to {self.name}", code="run_active")
        if self._url.get_backend_name() == "postgresql":
            key = int.from_bytes(hashlib.sha256(self._target.encode()).digest()[:8], "big", signed=True)
            with self._begin():
                if not self._conn.execute(sa.select(sa.func.pg_try_advisory_lock(key))).scalar():
                    raise taken
            return None
        if not self._url.database or self._url.database == ":memory:":
            return None
        fd = os.open(f"{self._url.database}.score-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise taken from None
        return fd


def _columns(layout: Layout) -> list[sa.Column[Any]]:
    columns: list[sa.Column[Any]] = [sa.Column("run", sa.String(16), primary_key=True)]
    number = {"confidence", *(layout.chances if layout.labels else ()), *(("value",) if layout.number else ())}
    for name in layout.columns:
        if name == "row":
            columns.append(sa.Column("row", sa.BigInteger, primary_key=True, autoincrement=False))
        else:
            columns.append(sa.Column(name, sa.Double if name in number else sa.Text))
    return columns


def _failed_columns() -> list[sa.Column[Any]]:
    texts = [sa.Column(name, sa.Text) for name in ("id", "code", "reason", "at", "record")]
    row: sa.Column[Any] = sa.Column("row", sa.BigInteger, primary_key=True, autoincrement=False)
    return [sa.Column("run", sa.String(16), primary_key=True), row, *texts]


def _failed(run: str, row: Rejected) -> dict[str, Any]:
    told = {"id": row.id, "code": row.code, "reason": row.reason, "at": row.at}
    told = {name: _storable(value) for name, value in told.items()}
    return {"run": run, "row": row.row, **told, "record": table.json_text(row.record)}


def _cell(value: Any) -> str | None:
    return table.text(value if value is None or isinstance(value, str | int | float) else str(value))


def _storable(value: Any) -> Any:
    """Return a text as PostgreSQL takes it, which has no zero character; anything else as it is."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


def _body(manifest: Manifest) -> str:
    return msgspec.json.encode(msgspec.structs.replace(manifest, chunks=())).decode()
