"""Rows of `certificates`: issued from a lineage, superseded, lapsed, revoked by audits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.automation import lineage
from tenure.deploy.automation.items import Label
from tenure.stats.certificate import revoke_log_es

Row = sa.RowMapping


def in_force(conn: Connection, endpoint: str) -> list[Row]:
    """Return the valid certificates of an endpoint, oldest first."""
    c = t.certificates.c
    query = sa.select(t.certificates).where(c.endpoint == endpoint, c.state == "valid").order_by(c.id)
    return list(conn.execute(query).mappings())


def end(conn: Connection, row: Row, state: str, *, now_us: int, cause: str) -> None:
    """Take a certificate out of force: `lapsed`, `revoked` or `superseded`."""
    c = t.certificates
    conn.execute(c.update().where(c.c.id == row["id"]).values(state=state, ended_us=now_us, cause=cause))


def issue(
    conn: Connection,
    line: Row,
    counts: lineage.Counts,
    grid: Sequence[float],
    j: int,
    *,
    coverage: float,
    last_item: int,
    now_us: int,
    life_us: int,
) -> Row:
    """Write the certificate of threshold `j` of a lineage.

    One lineage gives certificates for one life only: those after the first lapse with the first.
    """
    c = t.certificates
    first = conn.execute(sa.select(sa.func.min(c.c.issued_us)).where(c.c.lineage == line["id"])).scalar()
    values = {
        "endpoint": line["endpoint"],
        "version": line["version"],
        "side": line["side"],
        "lineage": line["id"],
        "state": "valid",
        "threshold": grid[j],
        "bound": line["bound"],
        "delta": line["delta"],
        "n": counts.n[j],
        "k": counts.k[j],
        "coverage": coverage,
        "reference": counts.reference,
        "issued_us": now_us,
        "expires_us": (now_us if first is None else int(first)) + life_us,
        "cause": "renewal" if counts.renewal else "lineage",
        "audit_n": 0,
        "audit_k": 0,
        "revoke_log_e": 0.0,
        "last_item": last_item,
    }
    values["claim"] = claim(values, counts, attempt=line["attempt"])
    key = conn.execute(c.insert().values(**values)).inserted_primary_key
    return conn.execute(sa.select(c).where(c.c.id == (key[0] if key else 0))).mappings().one()


def claim(values: dict[str, object], counts: lineage.Counts, *, attempt: int) -> str:
    """Say what the certificate claims, against what, and until when."""
    delta, until = float(str(values["delta"])), int(str(values["expires_us"]))
    what = "answers" if values["side"] == "*" else f"answers {values['side']!r}"
    again = "disagreements were read again" if counts.single and not counts.single_wrong else ""
    against = f"{counts.reference}{' (' + again + ')' if again else ''}"
    end_day = datetime.fromtimestamp(until / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"With {100 * (1 - delta):g} % confidence, fewer than {100 * float(str(values['bound'])):g} % of the "
        f"{what} of {values['version']} with confidence {values['threshold']:.4g} or more are wrong, judged "
        f"against {against}: {values['k']} errors in {values['n']} blind labels, attempt {attempt}. "
        f"It holds while cases come from the same source, at most until {end_day}."
    )


def audit(conn: Connection, row: Row, labels: Sequence[Label], *, last_item: int) -> bool:
    """Count audited items against a certificate; returns whether they revoke it.

    An item without a truth is passed over. The null is "at most `bound` of the automated answers are wrong".
    """
    known = [x for x in labels if x.wrong is not None and x.score >= row["threshold"]]
    n, k, best = int(row["audit_n"]), int(row["audit_k"]), float(row["revoke_log_e"])
    if known:
        ns = n + np.arange(1.0, len(known) + 1.0)
        ks = k + np.cumsum([float(bool(x.wrong)) for x in known])
        best = max(best, float(revoke_log_es(ns, ks, row["bound"]).max()))
        n, k = n + len(known), int(ks[-1])
    if known or last_item > row["last_item"]:
        c = t.certificates
        conn.execute(
            c.update()
            .where(c.c.id == row["id"])
            .values(audit_n=n, audit_k=k, revoke_log_e=best, last_item=max(last_item, row["last_item"]))
        )
    return best >= -math.log(row["delta"])
