"""Whether answers without classes (numbers, boxes, texts) say more about the truth than one constant does."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy import loss
from tenure.deploy.automation.items import fair
from tenure.deploy.loss import Said
from tenure.scope.project import LossSpec
from tenure.stats import interval

LIMIT = 2000
Pairs = list[tuple[Said, Said]]
"""(truth, answer) of blind items."""


def read(conn: Connection, endpoint: str, version: str, *, after: int, segment: str = "") -> Pairs:
    """Return truths and answers of blind, randomly drawn items with a higher number than `after`."""
    i, p = t.review_items.c, t.item_predictions.c
    query = (
        sa.select(i.truth, i.truth_regions, p.value, p.regions)
        .join(t.item_predictions, (p.item == i.id) & (p.version == version))
        .where(i.endpoint == endpoint, i.number > after, i.state == "resolved", i.truth.is_not(None), fair())
        .where(i.blind == 1, i.segment == segment)
        .order_by(i.number)
        .limit(LIMIT)
    )
    rows = conn.execute(query)
    return [(loss.stored(r.truth, r.truth_regions), loss.stored(r.value, r.regions)) for r in rows]


def better_than_constant(pairs: Pairs, by: LossSpec) -> bool:
    """Say whether the answers beat the best constant more often than it beats them (95 %, exact sign test).

    The constant is chosen on the same truths, which favours it.
    """
    if not pairs:
        return False
    constant = _constant([truth for truth, _ in pairs])
    differences = [loss.of(by, truth, constant) - loss.of(by, truth, said) for truth, said in pairs]
    won, lost = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return won + lost > 0 and interval.lower(won, won + lost, 0.95) > 0.5


def _constant(truths: Sequence[Said]) -> Said:
    numbers = [x.value for x in truths if isinstance(x.value, int | float) and not isinstance(x.value, bool)]
    if len(numbers) == len(truths):
        return Said(float(statistics.median(numbers)))
    return Counter(truths).most_common(1)[0][0]
