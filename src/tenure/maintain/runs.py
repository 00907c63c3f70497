"""Rows of `retrain_runs`: opened, told of, ended, and never left running by a crash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.errors import MissingError
from tenure.maintain.trigger import ACTIVE

CRASHED = "tenure ended while this run was going"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One retraining run; `state` is running, trained, registered or failed.

    `metrics` holds `command` (its metrics.json), `comparison` and `verdict` (the same in words), or `error`.
    """

    id: str
    endpoint: str
    cause: str
    state: str
    snapshot: str
    version: str | None
    metrics: dict[str, Any]
    log: str
    started_us: int
    ended_us: int | None

    @property
    def error(self) -> str | None:
        """Why it failed, in words."""
        found = self.metrics.get("error")
        return None if found is None else str(found)


def open_run(conn: Connection, id_: str, *, endpoint: str, cause: str, now_us: int) -> None:
    """Add a run that begins now."""
    conn.execute(
        t.retrain_runs.insert().values(
            id=id_, endpoint=endpoint, cause=cause, state="running", snapshot="", metrics="{}", log="",
            started_us=now_us,
        )
    )  # fmt: skip


def change(conn: Connection, id_: str, **values: Any) -> None:
    """Write columns of a run; `metrics` may be a mapping."""
    if isinstance(values.get("metrics"), Mapping):
        values["metrics"] = dumps(values["metrics"])
    conn.execute(t.retrain_runs.update().where(t.retrain_runs.c.id == id_).values(**values))


def one(conn: Connection, id_: str) -> Run:
    """Return a run; raises MissingError."""
    row = conn.execute(sa.select(t.retrain_runs).where(t.retrain_runs.c.id == id_)).mappings().first()
    if row is None:
        raise MissingError(f"there is no retraining run {id_!r}", at="run")
    return _run(row)


def history(conn: Connection, endpoint: str | None = None) -> list[Run]:
    """Return the runs of an endpoint (None = all), newest first."""
    c = t.retrain_runs.c
    query = sa.select(t.retrain_runs).order_by(c.started_us.desc(), c.id)
    if endpoint is not None:
        query = query.where(c.endpoint == endpoint)
    return [_run(row) for row in conn.execute(query).mappings()]


def active(conn: Connection, endpoint: str | None = None) -> list[Run]:
    """Return the runs that have not ended."""
    return [run for run in history(conn, endpoint) if run.state in ACTIVE]


def give_up(conn: Connection, run: Run, *, now_us: int) -> None:
    """End a run whose process is gone. What it had registered stays registered."""
    state = "registered" if run.version is not None else "failed"
    change(conn, run.id, state=state, ended_us=now_us, metrics={**run.metrics, "error": CRASHED})


def attempt(conn: Connection, endpoint: str, version: str, *, cut_us: int | None) -> int:
    """Return the number of this comparison on the frozen cases: 1, and 1 more for each other version tested.

    Test sets that overlap in time count as the same: a few new cases do not make a used one fresh.
    """
    tested = {
        found["challenger"]
        for run in history(conn, endpoint)
        if (found := run.metrics.get("comparison"))
        and found.get("p") is not None
        and (cut_us is None or (found.get("until_us") or 0) >= cut_us)
    }
    return 1 + len(tested - {version})


def _run(row: RowMapping) -> Run:
    values = {name: row[name] for name in Run.__struct_fields__}
    return Run(**{**values, "metrics": json.loads(row["metrics"] or "{}")})
