"""Gold items: work of known truth among the others, which its reader cannot tell apart (V5).

A drawn gold item goes out under an id of its own, made to look like the newest request's. Leases and judgements
name that id, so whoever joins judgements with review items never counts a gold reading as a label, a decision or
a training row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.deploy.review import store
from tenure.deploy.review.resolve import same
from tenure.errors import CaseError
from tenure.seeds import fresh_token, fresh_u64
from tenure.types import Value

ROLE = "gold"
_ID_DIGITS = 36
_SPREAD = 64
_CANDIDATES = 200
_G, _D, _I, _J = t.gold_items.c, t.gold_draws.c, t.review_items.c, t.judgements.c


def add(conn: Connection, item: str, *, by: str, now_us: int, truth: Value = None) -> None:
    """Make a resolved item gold; its truth now, or the one given, is what readers are measured with.

    An item that is gold already keeps its truth; a retired one is taken up again.

    Raises:
        MissingError: no such item.
        CaseError: the item has no truth and none is given.
    """
    row = store.item(conn, item)
    text = dumps(truth) if truth is not None else row["truth"]
    if text is None or (truth is None and row["state"] != "resolved"):
        raise CaseError(
            f"{item} is not resolved, so that its truth is not known; give one", code="no_truth", at="item"
        )
    values = {"endpoint": row["endpoint"], "truth": text, "added_us": now_us, "added_by": by}
    if not store.insert_missing(conn, t.gold_items, [{"item": item, **values}]):
        conn.execute(t.gold_items.update().where(_G.item == item).values(retired_us=None))


def retire(conn: Connection, item: str, *, now_us: int) -> bool:
    """Give an item out as gold no more; readings of it still count. Returns whether it was in use."""
    mine = (_G.item == item, _G.retired_us.is_(None))
    return bool(conn.execute(t.gold_items.update().where(*mine).values(retired_us=now_us)).rowcount)


def active(conn: Connection, endpoint: str | None = None) -> list[str]:
    """Return the ids of the items in use."""
    query = sa.select(_G.item).where(_G.retired_us.is_(None)).order_by(_G.item)
    return list(conn.execute(query if endpoint is None else query.where(_G.endpoint == endpoint)).scalars())


def take(
    conn: Connection, endpoint: str, reader: str, *, point: float, but: Sequence[str], now_us: int
) -> Mapping[str, Any] | None:
    """Draw a gold item that this reader has never met and note it; None where there is no such.

    `point` is a uniform number in [0, 1) that chooses among those that are left, `but` items that the reader gets
    as they are in the same breath.
    """
    met = sa.exists().where(_J.item == _G.item, _J.reader == reader)
    drawn = sa.exists().where(_D.item == _G.item, _D.reader == reader)
    held = sa.exists().where(t.leases.c.item == _G.item, t.leases.c.reader == reader)
    query = sa.select(_G.item).where(_G.endpoint == endpoint, _G.retired_us.is_(None), ~met, ~drawn, ~held)
    query = query.where(_G.item.not_in(but))
    left = list(conn.execute(query.order_by(_G.item).limit(_CANDIDATES)).scalars())
    if not left:
        return None
    item = left[int(point * len(left))]
    row = {"id": _alias(conn), "item": item, "endpoint": endpoint, "reader": reader, "at_us": now_us}
    conn.execute(t.gold_draws.insert().values(**row))
    return behind(conn, row["id"])


def behind(conn: Connection, alias: str) -> Mapping[str, Any] | None:
    """Return the item behind a gold draw's id as a row that looks like any item's, or None for another id."""
    query = sa.select(t.review_items).join(t.gold_draws, _D.item == _I.id).where(_D.id == alias)
    row = conn.execute(query).mappings().first()
    if row is None:
        return None
    plain = {"state": "open", "required": 1, "pending": 0, "deadline_us": 0, "escalated": 0, "kind": ROLE}
    return {**row, **plain, "id": alias, "source_id": row["id"]}


def source(conn: Connection, id_: str) -> str:
    """Return the request's id behind any id that a reader was given."""
    return conn.execute(sa.select(_D.item).where(_D.id == id_)).scalar() or id_


def right(truth: str, value: str) -> bool:
    """Say whether a reading (JSON) is the known truth (JSON)."""
    return same(json.loads(truth), json.loads(value))


def _alias(conn: Connection) -> str:
    """Return an id that nobody has, of the look of the newest item's: its tag cannot be checked by a reader."""
    newest = conn.execute(sa.select(_I.id).order_by(_I.number.desc()).limit(1)).scalar() or ""
    if len(newest) != _ID_DIGITS:
        return fresh_token("i")
    seq = max(0, int(newest[16:28], 16) - fresh_u64() % _SPREAD)
    return f"{newest[:16]}{seq:012x}{fresh_u64() >> 32:08x}"
