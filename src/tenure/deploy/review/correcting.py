"""Judgements of other tools that were changed or deleted there: a new row supersedes the old one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.deploy.review import gold, store
from tenure.deploy.review.items import Receipt, Submission
from tenure.deploy.review.judging import Judging
from tenure.deploy.review.resolve import same
from tenure.errors import ConflictError


def earlier(conn: Connection, item: str, stem: str) -> list[RowMapping]:
    """Return every judgement of an item whose key begins with `stem`, oldest first, also superseded ones."""
    rows = conn.execute(sa.select(t.judgements).where(t.judgements.c.item == item).order_by(t.judgements.c.id))
    return [row for row in rows.mappings() if row["key"].startswith(stem)]


def correct(
    conn: Connection, judging: Judging, sub: Submission, *, before: Sequence[RowMapping], shown: bool, stem: str,
    now_us: int,
) -> Receipt:  # fmt: skip
    """Store a judgement in place of the one that stands of `before`, and bring its item in line.

    It is blind only if the old one was and `shown` is false. A decision that the old one made stands: a client
    has acted on it. The truth follows the correction.

    Raises:
        ConflictError: `nothing_new`, it is older than what stands, or says the same; `withdrawn`, it was deleted.
    """
    standing = {row["id"] for row in store.standing_judgements(conn, sub.item)}
    live = [row for row in before if row["id"] in standing]
    if not live:
        raise ConflictError(f"{stem} was deleted where it was made", code="withdrawn", at="item")
    old = live[-1]
    if _moment(sub.key.removeprefix(stem)) < _moment(old["key"].removeprefix(stem)):
        raise ConflictError("a newer form of this judgement is stored", code="nothing_new", at="item")
    said_same = same(json.loads(old["value"]), sub.value) and store.boxes(old["regions"]) == sub.regions
    blind = bool(old["blind"]) and not shown
    if said_same and blind == bool(old["blind"]):
        raise ConflictError("this judgement is stored and says the same", code="nothing_new", at="item")
    row = store.item(conn, sub.item)
    late = bool(old["late"]) or judging.is_late(row)
    values = {
        "reader": old["reader"], "role": old["role"], "value": dumps(sub.value), "late": int(late),
        "regions": store.boxes_text(sub.regions), "blind": int(blind), "seconds": sub.seconds, "key": sub.key,
    }  # fmt: skip
    added = supersede(conn, old, values, now_us=now_us)
    if row["kind"] != gold.ROLE:
        case, settled = judging.settle(row)
        if not late:
            judging.decide(row, case, settled)
    return Receipt(added, sub.item, late)


def withdraw(
    conn: Connection, judging: Judging, item: str, *, before: Sequence[RowMapping], now_us: int
) -> bool:  # fmt: skip
    """Take back what stands of `before`, since it was deleted where it was made; returns whether anything did.

    Its item comes up again unless others settled it. A decision that it made stands.

    Raises:
        MissingError: there is no such item.
    """
    row = store.item(conn, item)
    standing = {one["id"] for one in store.standing_judgements(conn, item)}
    live = [old for old in before if old["id"] in standing]
    for old in live:
        values = {
            "reader": old["reader"], "role": old["role"], "value": "null", "regions": "[]", "skip": store.UNDO,
            "late": 0, "blind": old["blind"], "seconds": 0.0, "key": f"undo:{old['id']}",
        }  # fmt: skip
        supersede(conn, old, values, now_us=now_us)
    if live and row["kind"] != gold.ROLE:
        judging.settle(row)
    return bool(live)


def supersede(conn: Connection, old: RowMapping, values: dict[str, Any], *, now_us: int) -> int:
    """Put a new row in place of a judgement; returns its number."""
    fixed = {"item": old["item"], "at_us": now_us, "supersedes": old["id"]}
    added = conn.execute(t.judgements.insert().values(**fixed, **values)).inserted_primary_key
    return int(added[0]) if added else 0


def _moment(text: str) -> datetime:
    """Return when a form of a judgement was made; what cannot be read is the newest."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
