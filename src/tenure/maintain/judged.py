"""What is known of a judged request: the item, what the model said, who read it and how, and what was decided."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.deploy.automation.items import fair
from tenure.deploy.review import store
from tenure.types import Box, Value

_I, _J, _P, _D = t.review_items.c, t.judgements.c, t.item_predictions.c, t.decisions.c


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """An item with its joins.

    Attributes:
        item: its row of `review_items`, with `fair`.
        readings: its judgements that stand, oldest first.
        blind: every reading that the truth stands on was made without the model's answer; False without readings.
        shown: some reading that the truth stands on was made with the model's answer in view.
        predicted, confidence, regions: what the version that answered said; None without one.
        decision, decided_by: what was acted on, and whether the model, a person or the fallback said it.
    """

    item: RowMapping
    readings: tuple[RowMapping, ...] = ()
    blind: bool = False
    shown: bool = False
    predicted: Value = None
    confidence: float | None = None
    regions: tuple[Box, ...] = ()
    decision: Value = None
    decided_by: str = ""


def select(
    conn: Connection,
    endpoint: str,
    *,
    since_us: int,
    until_us: int | None = None,
    states: Sequence[str] = ("resolved",),
) -> list[Judged]:
    """Return the items of requests in [since, until) that are in these states, oldest first."""
    mine = [_I.endpoint == endpoint, _I.state.in_(states), _I.created_us >= since_us]
    if until_us is not None:
        mine.append(_I.created_us < until_us)
    query = sa.select(t.review_items, sa.case((fair(), 1), else_=0).label("fair")).where(*mine)
    items = conn.execute(query.order_by(_I.created_us, _I.id)).mappings().all()
    readings, said, decided = _readings(conn, mine), _predictions(conn, mine), _decisions(conn, mine)
    return [_judged(i, readings[i["id"]], said.get(i["id"]), decided.get(i["id"])) for i in items]


def relied_on(source: str, readings: Sequence[RowMapping]) -> list[RowMapping]:
    """Return the readings that a truth stands on, of those that stand, oldest first.

    An outcome and an open item stand on none, an adjudicated truth on the adjudicator's, any other on the first
    reading and every later blind one (`deploy/review/resolve.py`).
    """
    if source in ("", "outcome"):
        return []
    if source == "adjudicated":
        return [r for r in readings if r["role"] == "adjudicator"][:1]
    return [r for number, r in enumerate(readings) if number == 0 or r["blind"]]


def _readings(conn: Connection, mine: Sequence[Any]) -> dict[str, list[RowMapping]]:
    newer = t.judgements.alias()
    stands = ~sa.exists().where(newer.c.item == _J.item, newer.c.supersedes == _J.id)
    query = sa.select(t.judgements).join(t.review_items, _I.id == _J.item)
    found: dict[str, list[RowMapping]] = defaultdict(list)
    for row in conn.execute(query.where(*mine, _J.skip.is_(None), stands).order_by(_J.id)).mappings():
        found[row["item"]].append(row)
    return found


def _predictions(conn: Connection, mine: Sequence[Any]) -> dict[str, RowMapping]:
    query = sa.select(t.item_predictions).join(t.review_items, _I.id == _P.item)
    found = conn.execute(query.where(*mine, _P.version == _I.version)).mappings()
    return _by(found, "item")


def _decisions(conn: Connection, mine: Sequence[Any]) -> dict[str, RowMapping]:
    query = sa.select(_D.id, _D.value, _D.by).join(t.review_items, _I.id == _D.id).where(*mine)
    return _by(conn.execute(query).mappings(), "id")


def _by(rows: Iterable[RowMapping], name: str) -> dict[str, RowMapping]:
    return {row[name]: row for row in rows}


def _judged(
    item: RowMapping, readings: list[RowMapping], said: RowMapping | None, decided: RowMapping | None
) -> Judged:
    basis = relied_on(item["source"] or "", readings)
    predicted = None if said is None else json.loads(said["value"])
    decision, by = (None, "") if decided is None else (json.loads(decided["value"]), decided["by"])
    if not by and said is not None and said["automated"]:
        decision, by = predicted, "model"
    return Judged(
        item=item,
        readings=tuple(readings),
        blind=bool(basis) and all(r["blind"] for r in basis),
        shown=any(not r["blind"] for r in basis),
        predicted=predicted,
        confidence=None if said is None else said["confidence"],
        regions=() if said is None else store.boxes(said["regions"]),
        decision=decision,
        decided_by=by,
    )
