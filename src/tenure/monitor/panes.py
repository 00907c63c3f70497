"""The `panes` table: profiles are added to what is stored, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.monitor.measure import Cell
from tenure.monitor.profile import Ints, Profile

Edges = Mapping[tuple[str, str], Ints]
"""(stage, metric) -> the reference's edges."""

_P = t.panes.c
_COLUMNS = (_P.version, _P.stage, _P.metric, _P.pane_us, _P.n, _P.missing, _P.total, _P.low, _P.high, _P.counts)


def add(conn: Connection, endpoint: str, profiles: Mapping[Cell, Profile], edges: Edges) -> None:
    """Add profiles to the stored panes; counts go on the reference's edges where there is a reference."""
    if not profiles:
        return
    stored = _stored(conn, endpoint, sorted({cell.pane_us for cell in profiles}))
    merged = {cell: stored.get(cell, Profile.empty()) + _binned(profile, cell, edges, stored.get(cell))
              for cell, profile in profiles.items()}  # fmt: skip
    upsert(conn, t.panes, [_row(endpoint, cell, profile) for cell, profile in merged.items()])


def read(
    conn: Connection,
    endpoint: str,
    *,
    stages: tuple[str, ...],
    version: str,
    since_us: int,
    until_us: int,
    metric: str | None = None,
) -> dict[int, dict[tuple[str, str], Profile]]:
    """Return pane start -> (stage, metric) -> profile, in order of time, for since <= start < until."""
    query = sa.select(*_COLUMNS).where(
        _P.endpoint == endpoint,
        _P.stage.in_(stages),
        _P.version == version,
        _P.pane_us >= since_us,
        _P.pane_us < until_us,
    )
    if metric is not None:
        query = query.where(_P.metric == metric)
    out: dict[int, dict[tuple[str, str], Profile]] = {}
    for row in conn.execute(query.order_by(_P.pane_us)):
        out.setdefault(row.pane_us, {})[row.stage, row.metric] = _profile(row)
    return out


def count(conn: Connection, endpoint: str, stage: str, version: str, since_us: int, until_us: int) -> int:
    """Return how many panes of a stage and version have rows, for since <= start < until."""
    query = sa.select(sa.func.count(sa.distinct(_P.pane_us))).where(
        _P.endpoint == endpoint,
        _P.stage == stage,
        _P.version == version,
        _P.pane_us >= since_us,
        _P.pane_us < until_us,
        _P.n + _P.missing > 0,
    )
    return int(conn.execute(query).scalar_one())


def rebin(
    conn: Connection,
    endpoint: str,
    panes: Mapping[int, Mapping[tuple[str, str], Profile]],
    edges: Edges,
    version: str,
) -> None:
    """Store panes that were read from the grid again on a new reference's edges."""
    rows = []
    for pane_us, found in panes.items():
        for (stage, metric), profile in found.items():
            where = edges.get((stage, metric))
            if where is not None and len(where) and profile.tag == 0:
                rows.append(_row(endpoint, Cell(version, stage, metric, pane_us), profile.on(where)))
    upsert(conn, t.panes, rows)


def prune(conn: Connection, endpoint: str, before_us: int) -> int:
    """Forget the panes that started before a time; returns how many rows went.

    References and detectors hold what they need, so that this changes nothing but the charts.
    """
    return conn.execute(t.panes.delete().where(_P.endpoint == endpoint, _P.pane_us < before_us)).rowcount


def upsert(conn: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, or replace those with the same primary key."""
    if not rows:
        return
    make: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = make(table)
    key = [c.name for c in table.primary_key]
    changed = {c.name: statement.excluded[c.name] for c in table.c if c.name not in key}
    conn.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)


def _stored(conn: Connection, endpoint: str, panes_us: list[int]) -> dict[Cell, Profile]:
    query = sa.select(*_COLUMNS).where(_P.endpoint == endpoint, _P.pane_us.in_(panes_us))
    return {Cell(r.version, r.stage, r.metric, r.pane_us): _profile(r) for r in conn.execute(query)}


def _binned(profile: Profile, cell: Cell, edges: Edges, stored: Profile | None) -> Profile:
    """Keep the grid while a pane is on the grid: it is counted on the edges when it is read."""
    where = edges.get((cell.stage, cell.metric))
    on_grid = stored is not None and stored.tag == 0 and stored.cells.size > 0
    return profile if where is None or not len(where) or on_grid else profile.on(where)


def _profile(row: Any) -> Profile:
    return Profile.unpack((row.n, row.missing, row.total, row.low, row.high), row.counts)


def _row(endpoint: str, cell: Cell, profile: Profile) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        **cell._asdict(),
        "n": profile.n,
        "missing": profile.missing,
        "total": profile.total,
        "low": profile.low if profile.n else None,
        "high": profile.high if profile.n else None,
        "counts": profile.pack(),
    }
