"""Addresses of databases as people write them, and engines for them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from tenure.errors import CaseError, StoreError

DIALECTS = ("sqlite", "postgresql")


def url_of(text: str) -> URL:
    """Return a database address with the driver that tenure brings.

    Raises:
        CaseError: it is no address, or of another database.
    """
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError as error:
        raise CaseError(
            f"expected sqlite:///file or postgresql://user@host/name, got {text!r}", at=text
        ) from error
    if url.get_backend_name() not in DIALECTS:
        raise CaseError(f"cannot read {url.get_backend_name()}; expected one of {', '.join(DIALECTS)}", at="url")
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def engine_of(url: URL) -> Engine:
    """Return an engine that keeps the database's own settings; raises StoreError without a driver."""
    try:
        waits = {"timeout": 30} if url.get_backend_name() == "sqlite" else {}
        return sa.create_engine(url, connect_args=waits)
    except ModuleNotFoundError as error:
        raise StoreError(f"{error.name} is not installed; install tenure[postgres]", at="url") from error


def connect(engine: Engine) -> Connection:
    """Open a connection; raises StoreError where there is no database."""
    try:
        return engine.connect()
    except sa.exc.SQLAlchemyError as error:
        raise failed("cannot connect to the database", error) from error


def failed(what: str, error: sa.exc.SQLAlchemyError) -> StoreError:
    """Return what went wrong, in one line and without the statement's parameters."""
    cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return StoreError(f"{what}: {cause}", code="database_failed", at="database")


def shown(url: URL) -> str:
    """Return the address without its password."""
    return url.render_as_string(hide_password=True)
