"""How full the queue is, and how each reader does."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.review.items import Counts, ReaderStats
from tenure.deploy.review.store import WAITING

_I, _J, _L = t.review_items.c, t.judgements.c, t.leases.c


def count(conn: Connection, endpoint: str, *, now_us: int) -> Counts:
    """Return the state of one endpoint's queue now."""
    mine = _I.endpoint == endpoint
    per_state = sa.select(_I.state, sa.func.count()).where(mine).group_by(_I.state)
    states = {state: int(n) for state, n in conn.execute(per_state)}
    waiting = sa.text(t.WAITING_SQL)
    pending = sa.select(sa.func.count()).where(mine, waiting, _I.pending == 1)
    first = conn.execute(sa.select(sa.func.min(_I.created_us)).where(mine, waiting)).scalar()
    leased = (
        sa.select(sa.func.count())
        .select_from(t.leases.join(t.review_items, _L.item == _I.id))
        .where(mine, _L.expires_us > now_us)
    )
    up = sa.select(sa.func.count()).where(mine, waiting, _I.escalated == 1)
    missed = sa.select(sa.func.count()).where(mine, _I.missed_us.is_not(None))
    return Counts(
        open=sum(states.get(s, 0) for s in WAITING),
        pending=int(conn.execute(pending).scalar_one()),
        conflicts=states.get("conflict", 0),
        leased=int(conn.execute(leased).scalar_one()),
        oldest_s=0.0 if first is None else max(0.0, (now_us - first) / 1e6),
        resolved=states.get("resolved", 0),
        readers=readers(conn, endpoint),
        escalated=int(conn.execute(up).scalar_one()),
        missed=int(conn.execute(missed).scalar_one()),
    )


def readers(conn: Connection, endpoint: str) -> tuple[ReaderStats, ...]:
    """Return each reader's work; judgements that were taken back are left out.

    All endpoints are read in one pass: PostgreSQL without statistics takes one endpoint's items for a handful,
    and would go through them again for each judgement.
    """
    newer = t.judgements.alias()
    replaced = sa.select(newer.c.supersedes).where(newer.c.supersedes.is_not(None))
    stands = _J.id.not_in(replaced)  # one pass: PostgreSQL may look each of them up among all others
    mine = _I.endpoint == endpoint
    reread = sa.and_(mine, _J.role == "reader", _I.state == "resolved", _I.source.in_(("agreed", "adjudicated")))
    query = (
        sa.select(
            _J.reader,
            sa.func.sum(sa.case((mine, 1), else_=0)),
            sa.func.sum(sa.case((mine, _J.seconds), else_=0.0)),
            sa.func.sum(sa.case((reread, 1), else_=0)),
            sa.func.sum(sa.case((sa.and_(reread, _J.value == _I.truth), 1), else_=0)),
        )
        .select_from(t.judgements.join(t.review_items, _J.item == _I.id))
        .where(_J.skip.is_(None), stands)
        .group_by(_J.reader)
        .having(sa.func.sum(sa.case((mine, 1), else_=0)) > 0)
        .order_by(_J.reader)
    )
    return tuple(
        ReaderStats(
            reader=name,
            judgements=int(n),
            seconds=float(seconds or 0.0),
            double=int(double or 0),
            agreement=int(agreed) / int(double) if double else None,
        )
        for name, n, seconds, double, agreed in conn.execute(query)
    )
