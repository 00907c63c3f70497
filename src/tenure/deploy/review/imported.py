"""Judgements that were made elsewhere: the queue's own rules decide whether each may be stored."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.deploy.review import correcting, leases, store
from tenure.deploy.review.items import Receipt, Submission
from tenure.deploy.review.judging import Judging
from tenure.errors import ConflictError

LEASE_S = 60.0


def take_in(
    conn: Connection, judging: Judging, sub: Submission, *, shown: bool, stem: str = "", now_us: int,
    margin_us: int,
) -> Receipt:  # fmt: skip
    """Store one judgement under a lease that is made for it; `sub.token` is that of the lease.

    Its item must be one that the queue would give this reader now, and no conflict: those are settled at the
    console. `shown` makes it a reading that was not blind. Caps do not apply, since the work is done already.
    A judgement with another whose key begins with `stem` is a correction of it, whatever its item waits for.

    Raises:
        MissingError: there is no such item.
        ConflictError: `not_waiting`, `judged_already` or `leased`; the key stands for another judgement; or what
            `correcting.correct` raises.
    """
    row = store.item(conn, sub.item)
    if not _known(conn, sub.key):
        before = correcting.earlier(conn, sub.item, stem) if stem else []
        if before:
            return correcting.correct(
                conn, judging, sub, before=before, shown=shown, stem=stem, now_us=now_us
            )  # fmt: skip
        desk = leases.Desk(conn, sub.reader, now_us=now_us, margin_us=margin_us)
        _refuse(conn, desk, row, sub)
        desk.grant(row, sub.token, seconds=LEASE_S)
        blind = {"blind": 0} if shown else {}
        began = now_us - int(sub.seconds * 1e6)
        conn.execute(t.leases.update().where(t.leases.c.token == sub.token).values(leased_us=began, **blind))
    return judging.submit(sub, row)


def _known(conn: Connection, key: str) -> bool:
    found = sa.select(t.judgements.c.id).where(t.judgements.c.key == key)
    return conn.execute(found).scalar() is not None


def _refuse(conn: Connection, desk: leases.Desk, row: RowMapping, sub: Submission) -> None:
    mine: list[Any] = [j for j in store.standing_judgements(conn, sub.item) if j["reader"] == sub.reader]
    if mine:
        raise ConflictError(f"{sub.reader} has judged {sub.item} already", code="judged_already", at="item")
    if row["state"] not in store.WAITING:
        raise ConflictError(f"{sub.item} waits for nobody: it is {row['state']}", code="not_waiting", at="item")
    if row["escalated"] or row["state"] == "conflict":
        raise ConflictError(f"{sub.item} is left to an adjudicator", code="not_waiting", at="item")
    if desk.taken(row):
        raise ConflictError("somebody else is reading this item now", code="leased", at="item")
