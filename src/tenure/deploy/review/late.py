"""Work whose time is over: clients that the fallback answered, and items that nobody judged `within`.

What nobody waits for any more goes behind what somebody waits for. An item whose label is evidence, because its
draw did not depend on a score, is waited for by a certificate or a rollout and keeps its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.deploy.review import deciding, store
from tenure.deploy.review.leases import BEHIND
from tenure.deploy.review.terms import Terms

_I = t.review_items.c


def answered(conn: Connection, terms: Terms, *, now_us: int) -> list[str]:
    """Record the fallback's decision of every request whose deadline passed; returns the items to settle anew.

    The item stays as training data, behind all live work.
    """
    rows = _unanswered(conn, now_us=now_us)
    for row in rows:
        deciding.record_fallback(conn, row, terms.endpoints.get(row["endpoint"]))
    ids = [row["id"] for row in rows]
    _change(conn, ids, pending=0)
    _put_behind(conn, [row["id"] for row in rows if not store.is_evidence(row)])
    return ids


def missed(conn: Connection, terms: Terms, *, now_us: int) -> list[str]:
    """Do what `on_late` says with items that nobody judged `within`; returns the items to settle anew.

    One that a client waits for without a deadline goes to an adjudicator whatever `on_late` says: it is neither
    put off nor closed.
    """
    found: list[str] = []
    for name, spec in terms.endpoints.items():
        if spec.review.within is None:
            continue
        rows = _unjudged(conn, name, before_us=now_us - int(spec.review.within * 1e6))
        ids = [row["id"] for row in rows]
        _change(conn, ids, missed_us=now_us)
        _change(conn, [r["id"] for r in rows if r["pending"] or spec.review.on_late == "escalate"], escalated=1)
        if spec.review.on_late == "last":
            _put_behind(conn, [r["id"] for r in rows if not r["pending"]])
        found += ids
    return found


def _unanswered(conn: Connection, *, now_us: int, limit: int = 500) -> list[RowMapping]:
    """Return items whose client was answered by the deadline, locked."""
    query = (
        sa.select(t.review_items)
        .where(sa.text(t.PENDING_SQL), _I.deadline_us > 0, _I.deadline_us <= now_us)
        .order_by(_I.id)
        .limit(limit)
        .with_for_update()
    )
    return list(conn.execute(query).mappings())


def _unjudged(conn: Connection, endpoint: str, *, before_us: int, limit: int = 1000) -> list[RowMapping]:
    """Return items without a truth and without a deadline to come, created by then and not noted before."""
    query = (
        sa.select(_I.id, _I.pending)
        .where(_I.endpoint == endpoint, sa.text(t.WAITING_SQL), _I.missed_us.is_(None))
        .where(sa.or_(_I.pending == 0, _I.deadline_us == 0), _I.created_us <= before_us)
        .order_by(_I.created_us)
        .limit(limit)
    )
    return list(conn.execute(query).mappings())


def _change(conn: Connection, ids: Sequence[str], **values: object) -> None:
    for part in store.chunks(ids):
        conn.execute(t.review_items.update().where(_I.id.in_(part)).values(**values))


def _put_behind(conn: Connection, ids: Sequence[str]) -> None:
    """Take items down below every priority, in their own order; once only."""
    for part in store.chunks(ids):
        mine = (_I.id.in_(part), _I.priority > BEHIND / 2)
        conn.execute(t.review_items.update().where(*mine).values(priority=_I.priority + BEHIND))
