"""What comes into the queue: items, and what each version said about them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.deploy.review import store
from tenure.deploy.review.items import ItemPrediction, NewItem
from tenure.deploy.review.terms import Terms

_I = t.review_items.c


def add(conn: Connection, terms: Terms, items: Sequence[NewItem]) -> int:
    """Add items, numbered in the order given; returns how many were new."""
    new = {item.id: item for item in reversed(items)}
    for part in store.chunks(new):
        for known in conn.execute(sa.select(_I.id).where(_I.id.in_(part))).scalars():
            del new[known]
    fresh = list(reversed(new.values()))
    if not fresh:
        return 0
    first = store.take_numbers(conn, "review.number", len(fresh))
    rows = [_item(item, number, terms) for number, item in enumerate(fresh, first)]
    conn.execute(t.review_items.insert(), rows)
    return len(rows)


def add_predictions(conn: Connection, terms: Terms, preds: Sequence[ItemPrediction]) -> set[str]:
    """Add answers, of which a version's first stands; returns the judged items that have to be settled anew."""
    touched: set[str] = set()
    fresh = {(p.item, p.version): p for p in reversed(preds)}
    for part in store.chunks(p.item for p in preds):
        query = sa.select(_I.id, _I.state, _I.endpoint).where(_I.id.in_(part))
        known = {row.id: row for row in conn.execute(query)}
        said = [p for p in fresh.values() if p.item in known]
        store.insert_missing(conn, t.item_predictions, [_prediction(p) for p in said])
        _prioritise(conn, terms, [(p, known[p.item].endpoint) for p in said if p.role == "primary"])
        touched |= {i for i, row in known.items() if row.state in ("judged", "resolved")}
    return touched


def _prioritise(conn: Connection, terms: Terms, preds: Sequence[tuple[ItemPrediction, str]]) -> None:
    """Set the priority of fresh items to cost x uncertainty where the endpoint beside them names costs."""
    for pred, endpoint in preds:
        costs = terms.review(endpoint).costs
        if costs and pred.confidence is not None:
            cost = costs.get(str(pred.value), 1.0) * (1.0 - pred.confidence)
            fresh = (_I.id == pred.item, _I.priority == 0.0)
            conn.execute(t.review_items.update().where(*fresh).values(priority=cost))


def _item(item: NewItem, number: int, terms: Terms) -> dict[str, object]:
    required = item.required if item.required is not None else terms.review(item.endpoint).readers
    row: dict[str, object] = {name: getattr(item, name) for name in NewItem.__struct_fields__}
    return row | {
        "number": number,
        "state": "open",
        "required": required,
        "blind": int(item.blind),
        "pending": int(item.pending),
        "lottery": int(item.lottery),
        "record": None if item.record is None else dumps(item.record),
    }


def _prediction(pred: ItemPrediction) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(pred, name) for name in ItemPrediction.__struct_fields__}
    regions = store.boxes_text(pred.regions)
    why = None if pred.contributions is None else dumps(pred.contributions)
    return row | {
        "value": dumps(pred.value),
        "regions": regions,
        "automated": int(pred.automated),
        "contributions": why,
    }
