"""A real PostgreSQL cluster of our own for the tests: made in a temporary folder, stopped by its own handle."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenure.data.state import State
from tenure.data.tables import metadata

PATIENCE_S = 250


def binaries() -> Path | None:
    """Return the newest folder with initdb and pg_ctl, or None."""
    found = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    found += [Path(on_path).parent] if on_path else []
    return max(found, key=lambda p: p.parent.name.zfill(4), default=None)


def user() -> str | None:
    """Return who runs the server: PostgreSQL refuses root. None means ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL does not run as root and there is no user named postgres")


@contextmanager
def cluster() -> Iterator[str]:
    """Run a server on a free port of loopback; yields the SQLAlchemy URL of its database `postgres`."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    folder = binaries()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    root = Path(tempfile.mkdtemp(prefix="tenure-pg-"))
    owner = user()
    if owner:
        shutil.chown(root, owner)
    data = root / "data"
    held = socket.socket()  # it never listens: as long as it is bound nobody else is given the port
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    try:
        _run([folder / "initdb", "-D", data, "-U", "tenure", "-A", "trust", "-E", "UTF8", "--no-sync"], owner)
        options = (
            f"-F -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={root} -c max_connections=60"
        )
        control = [folder / "pg_ctl", "-D", data, "-w", "-t", PATIENCE_S]
        _run([*control, "-l", root / "log", "-o", options, "start"], owner)
        try:
            yield f"postgresql+psycopg://tenure@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"], owner)
    finally:
        held.close()
        shutil.rmtree(root, ignore_errors=True)


def new_database(url: str) -> str:
    """Create an empty database on the server and return its URL."""
    name = f"t{secrets.token_hex(6)}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def empty(state: State) -> None:
    """Delete every row of our tables and start their counters anew."""
    names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
    with state.begin() as conn:
        conn.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY"))


def _run(command: list[object], owner: str | None) -> None:
    # A server that inherits our pipes would keep them open, so its output goes nowhere.
    done = subprocess.run(
        [str(part) for part in command],
        user=owner,
        cwd="/",
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed with {done.returncode}")
