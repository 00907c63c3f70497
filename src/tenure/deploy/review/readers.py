"""How each reader does: speed, agreement on gold and on double reads, overrides, and whether it has fallen."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.review import store
from tenure.deploy.review.resolve import same
from tenure.stats import interval
from tenure.stats.decline import Decline, decline

FEW = 30
"""With fewer checked readings a share says little; it is marked so."""

ALPHA = 0.01
"""Chance that a reader who stays as good as ever is ever said to have fallen."""

_J, _I, _D, _G, _P = (
    table.c for table in (t.judgements, t.review_items, t.gold_draws, t.gold_items, t.item_predictions)
)


class Share(msgspec.Struct, frozen=True):
    """`k` of `n` with the exact 95 % interval; `few` says that there are too few to judge anybody by."""

    k: int
    n: int
    share: float | None
    low: float
    high: float
    few: bool

    @classmethod
    def of(cls, hits: Sequence[bool]) -> Share:
        """Count hits."""
        k, n = sum(hits), len(hits)
        low, high = interval.clopper_pearson(k, n)
        return cls(k, n, k / n if n else None, low, high, n < FEW)


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """One reader of one endpoint. Seconds are active ones; None where nothing was measured.

    `gold` and `double` are agreements with the truth, `overrides` the shown suggestions that were not followed.
    """

    reader: str
    judgements: int
    skips: int
    median_s: float | None
    p90_s: float | None
    gold: Share
    double: Share
    overrides: Share
    decline: Decline


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement that stands; `right` is None where nothing checks it, `followed` where nothing was shown."""

    id: int
    item: str
    reader: str
    role: str
    value: str
    seconds: float
    at_us: int
    skipped: bool
    gold: bool
    blind: bool
    right: bool | None
    followed: bool | None


def readings(conn: Connection, endpoint: str, *, since_us: int = 0) -> list[Reading]:
    """Return what people said of an endpoint's items, gold included, in order of arrival."""
    newer = t.judgements.alias()
    stands = ~sa.exists().where(newer.c.item == _J.item, newer.c.supersedes == _J.id)
    act = sa.or_(_J.skip.is_(None), _J.skip != store.UNDO)
    primary = sa.and_(_P.item == _I.id, _P.version == _I.version)
    joined = (
        t.judgements.outerjoin(t.gold_draws, _D.id == _J.item)
        .outerjoin(t.gold_items, _G.item == _D.item)
        .join(t.review_items, _I.id == sa.func.coalesce(_D.item, _J.item))
        .outerjoin(t.item_predictions, primary)
    )
    query = (
        sa.select(
            t.judgements, _G.truth.label("known"), _I.truth, _I.source, _P.value.label("said"),
        )
        .select_from(joined)
        .where(_I.endpoint == endpoint, _J.at_us >= since_us, stands, act)
        .order_by(_J.id)
    )  # fmt: skip
    return [_reading(row) for row in conn.execute(query).mappings()]


def table(found: Sequence[Reading], *, checked_before_us: int | None = None) -> list[Reader]:
    """Return a row per reader.

    With `checked_before_us` agreement is only told of earlier readings: a reader who could watch it rise after a
    judgement would know which item was gold (V5).
    """
    by_reader: dict[str, list[Reading]] = defaultdict(list)
    for one in found:
        by_reader[one.reader].append(one)
    return [_row(name, by_reader[name], checked_before_us) for name in sorted(by_reader)]


def _row(name: str, mine: Sequence[Reading], before_us: int | None) -> Reader:
    judged = [r for r in mine if not r.skipped]
    old = [r for r in judged if before_us is None or r.at_us < before_us]
    checked = [r for r in old if r.right is not None]
    seconds = [r.seconds for r in judged if r.seconds > 0]
    return Reader(
        reader=name,
        judgements=len(judged),
        skips=len(mine) - len(judged),
        median_s=float(np.median(seconds)) if seconds else None,
        p90_s=float(np.quantile(seconds, 0.9)) if seconds else None,
        gold=Share.of([bool(r.right) for r in checked if r.gold]),
        double=Share.of([bool(r.right) for r in checked if not r.gold]),
        overrides=Share.of([not r.followed for r in old if r.followed is not None]),
        decline=decline([bool(r.right) for r in checked], alpha=ALPHA),
    )


def _reading(row: sa.RowMapping) -> Reading:
    gold = row["known"] is not None
    reread = row["role"] == "reader" and row["source"] in ("agreed", "adjudicated")
    truth = row["known"] if gold else row["truth"] if reread else None
    skipped = row["skip"] is not None
    shown = not skipped and not row["blind"] and row["said"] is not None
    return Reading(
        id=row["id"],
        item=row["item"],
        reader=row["reader"],
        role=row["role"],
        value=row["value"],
        seconds=row["seconds"],
        at_us=row["at_us"],
        skipped=skipped,
        gold=gold,
        blind=bool(row["blind"]),
        right=_alike(row["value"], truth) if truth is not None and not skipped else None,
        followed=_alike(row["value"], row["said"]) if shown else None,
    )


def _alike(a: str, b: str) -> bool:
    first: Any = json.loads(a)
    return same(first, json.loads(b))
