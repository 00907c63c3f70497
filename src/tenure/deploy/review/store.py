"""Review rows in SQL: loading an item's case, and writing how it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.deploy.review.items import Truth
from tenure.deploy.review.resolve import (
    GIVE_UP,
    Case,
    Conflict,
    Expired,
    Open,
    Reading,
    Resolved,
    Standing,
    resolve,
)
from tenure.errors import MissingError
from tenure.scope.project import Review
from tenure.seeds import draw
from tenure.types import Box, Level

WAITING = ("open", "judged", "conflict")
UNDO = "undo"
_BOXES = msgspec.json.Decoder(tuple[Box, ...])
_CHUNK = 500
Row = RowMapping | Mapping[str, Any]


def insert_missing(conn: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows whose key is new and leave the others as they are; returns how many were new."""
    if not rows:
        return 0
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    return conn.execute(insert(table).on_conflict_do_nothing(), list(rows)).rowcount


def take_numbers(conn: Connection, counter: str, n: int = 1) -> int:
    """Return the first of `n` fresh numbers of a counter that never goes back."""
    key = t.meta.c.key == counter
    last = int(conn.execute(sa.select(t.meta.c.value).where(key)).scalar() or 0)
    if last == 0:
        insert_missing(conn, t.meta, [{"key": counter, "value": "0"}])
    conn.execute(t.meta.update().where(key).values(value=str(last + n)))
    return last + 1


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """Yield sorted ids in pieces that fit one statement; sorted, so that rows are always locked in one order."""
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), _CHUNK):
        yield ordered[start : start + _CHUNK]


def item(conn: Connection, id_: str) -> RowMapping:
    """Return one item's row, locked until the end of the transaction.

    Raises:
        MissingError: there is none.
    """
    query = sa.select(t.review_items).where(t.review_items.c.id == id_).with_for_update()
    row = conn.execute(query).mappings().first()
    if row is None:
        raise MissingError(f"there is no review item {id_!r}", at="item")
    return row


def standing_judgements(conn: Connection, id_: str) -> list[RowMapping]:
    """Return an item's judgements and skips without those that were taken back or corrected, oldest first."""
    query = sa.select(t.judgements).where(t.judgements.c.item == id_).order_by(t.judgements.c.id)
    rows = conn.execute(query).mappings().all()
    replaced = {row["supersedes"] for row in rows}
    return [row for row in rows if row["id"] not in replaced and row["skip"] != UNDO]


def case_of(conn: Connection, row: Row, review: Review, *, salt: str) -> Case:
    """Return everything that decides how an item stands.

    While a client waits, a judgement that came after its lease does not count: the item must stay in the queue.
    Where skips escalate, only an adjudicator who cannot say either closes an item.
    """
    rows = [r for r in standing_judgements(conn, row["id"]) if not (row["pending"] and r["late"])]
    said = sa.select(t.item_predictions.c.value).where(t.item_predictions.c.item == row["id"])
    skipped = [r for r in rows if r["skip"] is not None]
    escalates = bool(row["escalated"]) or review.escalate_after is not None
    final = sum(r["role"] == "adjudicator" for r in skipped)
    return Case(
        required=row["required"],
        readings=tuple(reading(r) for r in rows if r["skip"] is None),
        predictions=tuple(json.loads(v) for v in conn.execute(said).scalars()),
        draw=draw(f"second:{salt}", row["id"]),
        disagreements=review.second_reader.disagreements,
        agreements=review.second_reader.agreements,
        skips=GIVE_UP * final if escalates else len(skipped),
        pending=bool(row["pending"]),
        closed=not row["pending"] and _is_closed(conn, row, review),
    )


def is_evidence(row: Row) -> bool:
    """Say whether the item's label counts for certificates or rollouts: its draw did not depend on a score."""
    return bool(row["lottery"] or (row["blind"] and Level.of(row["level"]) < Level.PARTIAL))


def _is_closed(conn: Connection, row: Row, review: Review) -> bool:
    """Say whether the project wants no truth any more of an item that is late as this one is."""
    if review.on_late == "close" and row["missed_us"] is not None:
        return True
    return review.on_fallback == "close" and not is_evidence(row) and _fell_back(conn, row)


def _fell_back(conn: Connection, row: Row) -> bool:
    """Say whether the fallback answered the client."""
    d = t.decisions.c
    query = sa.select(d.by).where(d.id == row["id"])
    return bool(row["deadline_us"]) and conn.execute(query).scalar() == "fallback"


def reading(row: RowMapping) -> Reading:
    """Return a judgement's row as the rules see it."""
    return Reading(
        row["reader"],
        json.loads(row["value"]),
        boxes(row["regions"]),
        adjudicator=row["role"] == "adjudicator",
        blind=bool(row["blind"]),
    )


def settle(conn: Connection, row: Row, case: Case, *, now_us: int) -> Standing:
    """Work out how an item stands and write it if it changed.

    A truth that came as an outcome is not changed by readers.
    """
    standing = resolve(case)
    if row["source"] == "outcome":
        return standing
    values = _columns(standing)
    if any(row[name] != value for name, value in values.items()):
        _write(conn, row["id"], values, now_us=now_us)
    return standing


def write_outcome(conn: Connection, id_: str, value: Any, *, now_us: int) -> None:
    """Store a truth that came from the world itself."""
    values = {"state": "resolved", "truth": dumps(value), "truth_regions": "[]", "source": "outcome"}
    _write(conn, id_, values, now_us=now_us)


def boxes(text: str | None) -> tuple[Box, ...]:
    """Return boxes from their column."""
    return _BOXES.decode(text or "[]")


def boxes_text(regions: Sequence[Box]) -> str:
    """Return the column form of boxes."""
    return msgspec.json.encode(regions).decode()


def _columns(standing: Standing) -> dict[str, str | None]:
    none = {"truth": None, "truth_regions": None, "source": None}
    match standing:
        case Open(judged=judged):
            return {"state": "judged" if judged else "open", **none}
        case Conflict():
            return {"state": "conflict", **none}
        case Expired():
            return {"state": "expired", **none}
        case Resolved(truth=truth, regions=regions, source=source):
            return {
                "state": "resolved",
                "truth": dumps(truth),
                "truth_regions": boxes_text(regions),
                "source": source,
            }


def _write(conn: Connection, id_: str, values: Mapping[str, str | None], *, now_us: int) -> None:
    done = values["state"] == "resolved"
    order = {
        "resolved_us": now_us if done else None,
        "resolution": take_numbers(conn, "review.resolution") if done else None,
    }
    conn.execute(t.review_items.update().where(t.review_items.c.id == id_).values(**values, **order))


def truths(conn: Connection, after: int, limit: int) -> list[Truth]:
    """Return resolved items with a higher `resolution` than `after`, in that order."""
    i = t.review_items.c
    query = sa.select(t.review_items).where(i.resolution > after).order_by(i.resolution).limit(limit)
    return [_truth(row) for row in conn.execute(query).mappings()]


def _truth(row: RowMapping) -> Truth:
    same = {n: row[n] for n in Truth.__struct_fields__ if n not in ("item", "truth", "regions")}
    return Truth(item=row["id"], truth=json.loads(row["truth"]), regions=boxes(row["truth_regions"]), **same)
