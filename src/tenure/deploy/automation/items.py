"""Judged items in draw order, as one version answered them; which of them are a fair sample."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.types import Level

BATCH = 2000


class Item(msgspec.Struct, frozen=True):
    """One review item with the answer of one version.

    Attributes:
        number: draw order.
        said: the version's answer as text, as the policy's thresholds spell it.
        score: its confidence in [0, 1], or None.
        wrong: the answer differs from the truth; None without a truth.
        closed: no truth will come any more, or it has come.
        single: the truth is one reader's word.
        blind: the reader did not see the model's answer.
        lottery: drawn before routing to be labelled whatever the model says.
        automated: this answer was the decision.
        level: in force when the request came.
        resolved_us: when the truth came, or None.
    """

    number: int
    said: str
    score: float | None
    wrong: bool | None
    closed: bool
    single: bool
    blind: bool
    lottery: bool
    automated: bool
    level: Level
    resolved_us: int | None = None


class Label(msgspec.Struct, frozen=True):
    """One item whose turn came: right, wrong, or without a truth (`wrong` is None)."""

    number: int
    score: float
    wrong: bool | None
    single: bool


def read(conn: Connection, endpoint: str, version: str, *, after: int, limit: int = BATCH) -> list[Item]:
    """Return the items with a higher number than `after` that `version` answered, in draw order."""
    i, p = t.review_items.c, t.item_predictions.c
    query = (
        sa.select(i.number, i.state, i.blind, i.lottery, i.level, i.truth, i.source, i.resolved_us)
        .add_columns(p.value, p.confidence, p.automated)
        .join(t.item_predictions, (p.item == i.id) & (p.version == version))
        .where(i.endpoint == endpoint, i.number > after)
        .order_by(i.number)
        .limit(limit)
    )
    return [_item(row) for row in conn.execute(query)]


def newest(conn: Connection, endpoint: str) -> int:
    """Return the highest draw number of the endpoint, 0 without items."""
    number = t.review_items.c.number
    query = sa.select(sa.func.max(number)).where(t.review_items.c.endpoint == endpoint)
    return int(conn.execute(query).scalar() or 0)


def settled(conn: Connection, endpoint: str, *, after: int, before_us: int) -> int:
    """Return the highest number above `after` of items older than `before_us`; `after` without any.

    Their shadow answers have arrived by then, so that a reader may pass over them for good.
    """
    i = t.review_items.c
    query = sa.select(sa.func.max(i.number)).where(
        i.endpoint == endpoint, i.number > after, i.created_us < before_us
    )
    return int(conn.execute(query).scalar() or after)


def fair(item: Item) -> bool:
    """Say whether the draw of this item did not depend on a score.

    Below `partial` every item is judged and blindness is drawn by hash. From `partial` on, people see the unsure
    and the audited ones, so only lottery items are a fair sample.
    """
    return item.blind if item.level < Level.PARTIAL else item.lottery


def audited(item: Item) -> bool:
    """Say whether this is an automated decision that was drawn to be checked."""
    return item.automated and item.level >= Level.PARTIAL


def concerns(item: Item, side: str) -> bool:
    """Say whether a lineage of this side counts the item."""
    return item.score is not None and side in ("*", item.said)


def in_turn(items: Iterable[Item], *, now_us: int, wait_us: int) -> Iterator[Label]:
    """Yield the items as labels, strictly in draw order, until one is met that may still get its truth.

    An open item is waited for until `wait_us` after a later item got its truth; then it is missing. An item that
    the reader saw with the model's answer has no usable truth.
    """
    pending = list(items)
    overtaken = _overtaken(pending)
    for item, first_us in zip(pending, overtaken, strict=True):
        if not item.closed and not (first_us is not None and first_us + wait_us <= now_us):
            return
        wrong = item.wrong if item.blind and item.closed else None
        yield Label(item.number, item.score or 0.0, wrong, item.single)


def _overtaken(items: list[Item]) -> list[int | None]:
    """Return, for each item, when the first later one got its truth."""
    times: list[int | None] = []
    first: int | None = None
    for item in reversed(items):
        times.append(first)
        if item.resolved_us is not None:
            first = item.resolved_us if first is None else min(first, item.resolved_us)
    return times[::-1]


def _item(row: sa.Row[tuple[object, ...]]) -> Item:
    m = row._mapping
    value, truth = json.loads(m["value"]), m["truth"]
    resolved = m["state"] == "resolved"
    score = m["confidence"]
    return Item(
        number=int(m["number"]),
        said=str(value),
        score=None if score is None or math.isnan(score) else float(score),
        wrong=json.loads(truth) != value if resolved and truth is not None else None,
        closed=resolved or m["state"] == "expired",
        single=m["source"] not in ("agreed", "adjudicated"),
        blind=bool(m["blind"]),
        lottery=bool(m["lottery"]),
        automated=bool(m["automated"]),
        level=Level.of(m["level"]),
        resolved_us=m["resolved_us"] if resolved else None,
    )
