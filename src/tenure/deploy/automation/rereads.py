"""Agreements that were read again: how often the model errs where one blind reader said the same.

A reader and a model that err together hide their errors from the first reading. So a share of the agreements is
read by a second person, and P(wrong) <= P(found wrong) + P(wrong | agreed). The share is drawn by the item's own
keyed number, which is fixed before anybody reads it; disagreements are read again by the same number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.automation import readings
from tenure.scope.project import Review
from tenure.seeds import draw
from tenure.stats import certificate


class Rereads(msgspec.Struct, frozen=True, omit_defaults=True):
    """Evidence against "the model errs in at least `bound` of the agreements", per threshold.

    Attributes:
        bound: on the error rate among agreements of model and first reader.
        share: of the agreements that is read again; fixed with the lineage.
        n: agreements read again at or above each threshold.
        k: those where the model was wrong, or that nobody read again in time.
        log_e: largest log e-value so far.
        gaps: draw numbers of those that nobody read again in time.
    """

    bound: float
    share: float
    n: tuple[int, ...] = ()
    k: tuple[int, ...] = ()
    log_e: tuple[float, ...] = ()
    gaps: tuple[int, ...] = ()


class Reread(msgspec.Struct, frozen=True):
    """One agreement that was drawn to be read again; `wrong` is None where that did not happen."""

    wrong: bool | None


def share_of(review: Review) -> float:
    """Return the share of agreements that are read again, whatever other versions said."""
    second = review.second_reader
    return 1.0 if review.readers > 1 else min(second.agreements, second.disagreements)


def start(plan: Rereads, size: int) -> Rereads:
    """Return no evidence yet, for so many thresholds."""
    return Rereads(plan.bound, plan.share, (0,) * size, (0,) * size, (0.0,) * size)


def advance(old: Rereads, grid: Sequence[float], found: Sequence[tuple[int, float, Reread]]) -> Rereads:
    """Return the evidence after more agreements (draw number, score, what was found), in order."""
    if not found:
        return old
    above = np.array([score for _, score, _ in found])[:, None] >= np.asarray(grid)[None, :]
    bad = np.array([reread.wrong is not False for _, _, reread in found])[:, None]
    n = np.asarray(old.n) + above.cumsum(axis=0)
    k = np.asarray(old.k) + (above & bad).cumsum(axis=0)
    log_e = certificate.certify_log_es(n.astype(float), k.astype(float), old.bound).max(axis=0)
    return Rereads(
        old.bound,
        old.share,
        tuple(int(v) for v in n[-1]),
        tuple(int(v) for v in k[-1]),
        tuple(float(v) for v in np.maximum(old.log_e, log_e)),
        (*old.gaps, *(number for number, _, reread in found if reread.wrong is None)),
    )


def missing(old: Rereads, starts: Sequence[int], delta: float) -> int | None:
    """Return how many more agreements must be read again at the present error rate; None if no number helps."""
    needs = []
    for j in set(starts):
        n, k = old.n[j], old.k[j]
        need = certificate.labels_needed(old.bound, delta, k / n if n else 0.0, starts=len(starts))
        if need is not None:
            needs.append(math.ceil(max(need - n, 0) * old.n[-1] / n) if n else need)
    return min(needs, default=None)


def first_readings(conn: Connection, ids: Sequence[str]) -> dict[str, sa.RowMapping]:
    """Return the first standing reading of each item that has one."""
    j = t.judgements.c
    query = sa.select(t.judgements).where(j.item.in_(ids)).order_by(j.id)
    return readings.first(list(conn.execute(query).mappings()))


def drawn(conn: Connection, ids: Sequence[str], share: float) -> set[str]:
    """Return the items whose number says that their agreement is read again; as `deploy.review` draws it."""
    salt = conn.execute(sa.select(t.meta.c.value).where(t.meta.c.key == "review.salt")).scalar()
    return {item for item in ids if share >= 1.0 or draw(f"second:{salt}", item) < share}
