"""Publish routing tables: a row in the database, a file by rename, then its number on the control page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.spool import write_file
from tenure.data.state import State
from tenure.deploy.router import Endpoint, Table
from tenure.deploy.serving.control_page import ControlPage


class Publisher:
    """Owns the table `routing_tables` and the folder `routing/`.

    The order makes every crash harmless: a committed table whose file or page is missing is completed by the
    next `show`, and no worker ever reads half a file.
    """

    def __init__(self, state: State, folder: Path, page: ControlPage) -> None:
        self._state = state
        self._folder = folder / "routing"
        self._page = page
        with state.read() as conn:
            self.table = _newest(conn)
        self._rollouts: dict[int, dict[str, str | None]] = {}

    def put(self, conn: Connection, endpoints: Mapping[str, Endpoint], cause: str) -> bool:
        """Store a new table if it differs from the one in force; `show` it after the commit."""
        if self.table is not None and dict(self.table.endpoints) == dict(endpoints):
            return False
        version = 1 if self.table is None else self.table.version + 1
        table = Table(version, self._state.clock.now_ns(), dict(endpoints))
        body = msgspec.json.encode(table).decode()
        row = {"version": version, "made_us": self._state.now_us(), "cause": cause, "body": body}
        conn.execute(t.routing_tables.insert().values(**row))
        self.table = table
        return True

    def show(self) -> None:
        """Make the newest committed table the one in force; cheap when it is already."""
        table = self.table
        if table is None or self._page.routing == table.version:
            return
        write_file(self._folder / f"{table.version}.json", msgspec.json.encode(table))
        self._page.routing = table.version
        self._sweep(table.version)

    def reload(self) -> None:
        """Go back to what is committed, after a failed transaction."""
        with self._state.read() as conn:
            self.table = _newest(conn)

    def rollout_at(self, version: int, endpoint: str) -> str | None:
        """Return the rollout that a past table of an endpoint belonged to."""
        if version not in self._rollouts:
            self._rollouts[version] = self._look(version)
            for old in sorted(self._rollouts)[:-200]:
                del self._rollouts[old]
        return self._rollouts[version].get(endpoint)

    def _look(self, version: int) -> dict[str, str | None]:
        table = self.table
        if table is None or table.version != version:
            query = sa.select(t.routing_tables.c.body).where(t.routing_tables.c.version == version)
            with self._state.read() as conn:
                body = conn.execute(query).scalar()
            if body is None:
                return {}
            table = msgspec.json.decode(body, type=Table)
        return {name: route.rollout for name, route in table.endpoints.items()}

    def _sweep(self, newest: int) -> None:
        for path in self._folder.glob("*.json"):
            if path.stem.isdigit() and int(path.stem) < newest - 20:
                path.unlink(missing_ok=True)


def _newest(conn: Connection) -> Table | None:
    query = sa.select(t.routing_tables.c.body).order_by(t.routing_tables.c.version.desc()).limit(1)
    body = conn.execute(query).scalar()
    return None if body is None else msgspec.json.decode(body, type=Table)
