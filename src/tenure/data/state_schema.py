"""The version of the control state's schema: made, checked and migrated forward when the state is opened."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tenure.data import tables as t
from tenure.errors import StoreError

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).parent / "migrations"
_LOCK = 7438
_VERSION = sa.table("alembic_version", sa.column("version_num", sa.String))


def head() -> str:
    """Return the newest revision that this code knows, such as `0001`."""
    return max(path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py"))


def prepare(engine: Engine) -> None:
    """Create the tables in an empty database, or migrate an older one forward after a backup.

    An SQLite file is copied to `<file>.<revision>.bak` first. A PostgreSQL database is migrated in one
    transaction; backing it up is the operator's.

    Raises:
        StoreError: the schema is newer than this code, or the tables are not ours; nothing was changed then.
    """
    if not _settled(engine):
        _backup(engine)
        with engine.begin() as conn:
            _exclusive(conn)
            upgrade(conn)


def current(conn: Connection) -> str | None:
    """Return the database's revision, or None where it has none."""
    if not sa.inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(sa.select(_VERSION.c.version_num)).scalar()


def upgrade(conn: Connection, to: str = "head") -> None:
    """Apply the revisions up to `to` inside the caller's transaction."""
    from alembic import command

    command.upgrade(config(conn), to)


def config(conn: Connection) -> Config:
    """Return Alembic's configuration for one connection."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = conn
    return made


def _settled(engine: Engine) -> bool:
    """Make an empty database, check another; returns whether the schema is the one that this code knows."""
    with engine.begin() as conn:
        _exclusive(conn)
        found = current(conn)
        if found is None:
            _create(conn)
            return True
        if found > head():
            raise StoreError(
                f"the state database has schema {found}, this version of tenure knows {head()}; "
                "use the version that wrote it, or a newer one",
                code="schema_newer",
                at="state",
            )
        return found == head()


def _create(conn: Connection) -> None:
    ours = {table.name for table in t.metadata.tables.values()}
    there = ours & set(sa.inspect(conn).get_table_names())
    if there:
        names = ", ".join(sorted(there)[:3])
        raise StoreError(
            f"the state database has tables ({names}, …) but no schema version, so tenure did not make it; "
            "give an empty database",
            code="schema_unknown",
            at="state",
        )
    t.metadata.create_all(conn, checkfirst=False)
    conn.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    conn.execute(_VERSION.insert().values(version_num=head()))


def _exclusive(conn: Connection) -> None:
    """Let one process at a time create or migrate; SQLite's BEGIN IMMEDIATE does so already."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def _backup(engine: Engine) -> Path | None:
    """Copy an SQLite file beside itself, consistent also while others write; None where there is no file."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name == ":memory:":
        return None
    with engine.connect() as conn:
        revision = current(conn)
    copy = Path(f"{name}.{revision}.bak")
    new = copy.with_suffix(".new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(name)) as source, closing(sqlite3.connect(new)) as target:
            source.backup(target)
    except sqlite3.Error as error:
        raise StoreError(
            f"cannot back up the state database before migrating it: {error}", at=str(new)
        ) from error
    new.replace(copy)
    return copy
