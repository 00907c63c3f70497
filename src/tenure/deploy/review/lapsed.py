"""Judgements that came after their lease: they count once nobody else is at the item that a client waits for.

Who holds a live lease was promised that their judgement counts, so one that comes late stands back behind it.
When that lease comes to nothing, the client would wait although an answer is there, and for good once every
reader has been late: nobody judges an item twice.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.deploy.review import correcting, leases, store
from tenure.deploy.review.judging import Judging

_I, _J, _L = t.review_items.c, t.judgements.c, t.leases.c


def count(conn: Connection, judging: Judging, *, now_us: int, margin_us: int) -> None:
    """Let late judgements count that an item still wants and nobody else is about to give, oldest first.

    Each becomes a new row in place of the old one, as a correction does (V3).
    """
    for old in _late(conn, now_us=now_us, margin_us=margin_us):
        row = store.item(conn, old["item"])
        lease = leases.lease_of(conn, old["item"], old["reader"])
        if row["pending"] and lease is not None and judging.holds(row, lease):
            _count(conn, judging, old, row=row, lease=lease, now_us=now_us)


def _count(
    conn: Connection, judging: Judging, old: RowMapping, *, row: RowMapping, lease: RowMapping, now_us: int
) -> None:  # fmt: skip
    said = {name: old[name] for name in ("reader", "value", "regions", "blind", "seconds")}
    said |= {"role": judging.role(row, lease), "late": 0, "key": f"late:{old['id']}"}
    correcting.supersede(conn, old, said, now_us=now_us)
    conn.execute(t.leases.delete().where(_L.token == lease["token"]))
    if judging.decide(row, *judging.settle(row)):
        judging.settle(store.item(conn, row["id"]))


def _late(conn: Connection, *, now_us: int, margin_us: int) -> list[RowMapping]:
    """Return late judgements of what a client can still be told; their ended leases lead to them."""
    newer = t.judgements.alias()
    query = (
        sa.select(t.judgements)
        .select_from(t.leases)
        .join(t.judgements, sa.and_(_J.item == _L.item, _J.reader == _L.reader))
        .join(t.review_items, _I.id == _L.item)
        .where(_L.expires_us <= now_us, _J.late == 1, _J.skip.is_(None))
        .where(_I.pending == 1, sa.or_(_I.deadline_us == 0, _I.deadline_us > now_us + margin_us))
        .where(~sa.exists().where(newer.c.item == _J.item, newer.c.supersedes == _J.id))
        .order_by(_J.id)
    )
    return list(conn.execute(query).mappings())
