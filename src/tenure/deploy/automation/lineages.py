"""Rows of `lineages`: opened, moved on by newly judged items, closed."""

from __future__ import annotations

import json

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy import loss
from tenure.deploy.automation import items, lineage
from tenure.deploy.automation.rereads import Rereads
from tenure.scope.project import CertificateSpec, LossSpec

Row = sa.RowMapping


def opened(conn: Connection, endpoint: str, version: str | None = None, *, segment: str = "") -> list[Row]:
    """Return the lineages of a segment that are not closed, oldest first."""
    told: dict[str, str] = {"endpoint": endpoint, "segment": segment}
    if version is None:
        return list(conn.execute(_OPENED, told).mappings())
    return list(conn.execute(_OPENED_OF, told | {"version": version}).mappings())


_L = t.lineages.c
_OPENED = (  # asked several times a second for each segment: made once
    sa.select(t.lineages)
    .where(_L.endpoint == sa.bindparam("endpoint"), _L.segment == sa.bindparam("segment"), _L.state != "closed")
    .order_by(_L.id)
)
_OPENED_OF = _OPENED.where(_L.version == sa.bindparam("version"))


def counts_of(row: Row) -> lineage.Counts:
    """Return the typed counts of a row."""
    return counts_of_text(row["counts"])


def counts_of_text(text: str) -> lineage.Counts:
    """Return the typed counts of the column `counts`."""
    return msgspec.json.decode(text, type=lineage.Counts)


def grid_of(row: Row) -> list[float]:
    """Return the thresholds of a row, safest first; empty in the pilot."""
    return [float(x) for x in json.loads(row["grid"])]


def fixed_of(row: Row) -> lineage.Grid | None:
    """Return what was fixed before the first label of a row; None in the pilot."""
    thresholds = grid_of(row)
    return lineage.Grid(tuple(thresholds), counts_of(row).starts) if thresholds else None


def open_one(
    conn: Connection,
    endpoint: str,
    version: str,
    side: str,
    *,
    bound: float,
    delta: float,
    now_us: int,
    grid: lineage.Grid | None = None,
    renewal: bool = False,
    by: LossSpec = loss.EQUAL,
    segment: str = "",
    population: str = "",
    weighted: bool = False,
    again: Rereads | None = None,
) -> int:
    """Open a lineage that counts only items drawn from now on; returns its id.

    Args:
        conn: the transaction.
        endpoint: name.
        version: whose answers.
        side: output label, or `*`.
        bound: on the error rate.
        delta: to be spent once.
        now_us: start of the data.
        grid: fixed thresholds and starts; None = from a pilot.
        renewal: counts audits at the one threshold in force.
        by: what counts as wrong.
        segment: whose items count.
        population: the cases of that segment in words, see `Automation.population`.
        again: bound and share of agreements that are read again, for a claim against adjudicated truth.
        weighted: all blind labels count, by one over their chances, instead of a fair sample.
    """
    newest = items.newest(conn, endpoint)
    c = t.lineages
    earlier = (
        (c.c.endpoint == endpoint) & (c.c.version == version) & (c.c.side == side) & (c.c.segment == segment)
    )
    attempt = int(conn.execute(sa.select(sa.func.count()).select_from(c).where(earlier)).scalar() or 0) + 1
    counts = (
        lineage.start(
            grid.thresholds, since=newest, starts=grid.starts, renewal=renewal, by=by, population=population,
            weighted=weighted, again=again,
        )
        if grid
        else lineage.Counts(since=newest, loss=by, population=population, weighted=weighted, rereads=again)
    )  # fmt: skip
    values = {
        "endpoint": endpoint,
        "version": version,
        "segment": segment,
        "side": side,
        "bound": bound,
        "delta": delta,
        "started_us": now_us,
        "state": "open" if grid else "pilot",
        "grid": json.dumps(grid.thresholds if grid else ()),
        "counts": _json(counts),
        "labels": 0,
        "after_item": newest,
        "last_item": newest,
        "attempt": attempt,
        "note": "",
    }
    key = conn.execute(c.insert().values(**values)).inserted_primary_key
    return int(key[0] if key else 0)


def close(conn: Connection, row: Row, why: str) -> None:
    """Close a lineage; its budget is spent."""
    c = t.lineages
    conn.execute(c.update().where(c.c.id == row["id"]).values(state="closed", note=why))


def fix_grid(conn: Connection, row: Row, grid: lineage.Grid, *, after_item: int) -> None:
    """Fix the thresholds; only items with a higher number than `after_item` count."""
    before = counts_of(row)
    counts = lineage.start(
        grid.thresholds, since=before.since, starts=grid.starts, by=before.loss, population=before.population,
        weighted=before.weighted, again=before.rereads,
    )  # fmt: skip
    c = t.lineages
    conn.execute(
        c.update()
        .where(c.c.id == row["id"])
        .values(
            state="open",
            grid=json.dumps(grid.thresholds),
            counts=_json(counts),
            after_item=after_item,
            last_item=after_item,
        )
    )


def run_pilot(conn: Connection, row: Row, spec: CertificateSpec, *, now_us: int) -> bool:
    """Collect unlabelled scores; returns whether the grid was fixed."""
    batch = items.read(
        conn, row["endpoint"], row["version"], side="*", sample="fair", after=row["last_item"], limit=spec.pilot,
        segment=row["segment"],
    )  # fmt: skip
    own = [x.score for x in batch if row["side"] in ("*", x.said)]
    counts = lineage.pilot(counts_of(row), own, len(batch))
    last = batch[-1].number if batch else row["last_item"]
    grid = lineage.grid_of(counts, bound=row["bound"], delta=row["delta"], wanted=spec.pilot, planned=spec.plan)
    if grid is not None:
        fix_grid(conn, row, grid, after_item=last)
        return True
    if len(batch) < spec.pilot:  # pass over the items of other segments, which may be all there are
        last = items.settled(conn, row["endpoint"], after=last, before_us=now_us - items.SETTLE_US)
    if batch or last > row["last_item"] or not row["note"]:
        _save(conn, row, counts, last, wanted=spec.pilot)
    return False


def count(
    conn: Connection, row: Row, spec: CertificateSpec, *, now_us: int, wait_us: int
) -> tuple[lineage.Counts, int]:
    """Count the items whose turn came; returns the counts and the last counted item."""
    counts, grid = counts_of(row), grid_of(row)
    labels, last = items.take(
        conn,
        row["endpoint"],
        row["version"],
        side=row["side"],
        sample=lineage.sample_of(counts),
        reread=counts.rereads.share if counts.rereads else 0.0,
        after=row["last_item"],
        now_us=now_us,
        wait_us=wait_us,
        by=counts.loss,
        segment=row["segment"],
    )
    if counts.renewal:
        labels = [x for x in labels if x.score >= grid[0]]
    after = lineage.advance(counts, grid, row["bound"], labels)
    if labels or last > row["last_item"] or not row["note"]:
        _save(conn, row, after, last, wanted=spec.pilot)
    return after, last


def _save(conn: Connection, row: Row, counts: lineage.Counts, last: int, *, wanted: int) -> None:
    note = lineage.note(counts, bound=row["bound"], delta=row["delta"], side=row["side"], wanted=wanted)
    c = t.lineages
    conn.execute(
        c.update()
        .where(c.c.id == row["id"])
        .values(counts=_json(counts), labels=counts.labels, last_item=last, note=note)
    )


def _json(counts: lineage.Counts) -> str:
    return msgspec.json.encode(counts).decode()
