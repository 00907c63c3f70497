"""Rows of `certificates`: issued from a lineage, superseded, lapsed, revoked by audits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy import loss
from tenure.deploy.automation import audits, lineage
from tenure.deploy.automation.items import Label
from tenure.deploy.automation.rereads import Rereads
from tenure.scope.project import LossSpec

Row = sa.RowMapping

METHOD = 2
"""Version of the method that issues: 2 takes the starts from the counts."""

METHODS = (1, 2)
"""Versions that are computed again as they were issued."""


class Evidence(msgspec.Struct, frozen=True):
    """The column `evidence`: all that `verify` needs to compute a certificate again.

    Attributes:
        method: `METHOD` when it was issued.
        counts: of the lineage at that moment.
        grid: its thresholds, safest first.
        chosen: index of the certified one.
        attempt: how often this version, answer and bound were tried, this time included.
        after_item: only items with a higher number counted.
        last_item: last counted item.
    """

    method: int
    counts: lineage.Counts
    grid: tuple[float, ...]
    chosen: int
    attempt: int
    after_item: int
    last_item: int


def evidence_of(row: Row) -> Evidence | None:
    """Return the evidence of a certificate; None for one issued before evidence was kept."""
    return msgspec.json.decode(row["evidence"], type=Evidence) if row["evidence"] else None


def loss_of(row: Row) -> LossSpec:
    """Return what counts as wrong for a certificate."""
    found = evidence_of(row)
    return found.counts.loss if found else loss.EQUAL


def population_of(row: Row) -> str:
    """Return in words which cases a certificate is about; empty = all."""
    found = evidence_of(row)
    return found.counts.population if found else ""


def rereads_of(row: Row) -> Rereads | None:
    """Return the evidence about agreements; None for a claim against what single readers said."""
    found = evidence_of(row)
    return found.counts.rereads if found else None


def in_force(conn: Connection, endpoint: str, segment: str = "") -> list[Row]:
    """Return the valid certificates of a segment, oldest first."""
    return list(conn.execute(_IN_FORCE, {"endpoint": endpoint, "segment": segment}).mappings())


_C = t.certificates.c
_IN_FORCE = (  # asked several times a second for each segment: made once
    sa.select(t.certificates)
    .where(_C.endpoint == sa.bindparam("endpoint"), _C.segment == sa.bindparam("segment"), _C.state == "valid")
    .order_by(_C.id)
)


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
    decisions: int | None = None,
) -> Row:
    """Write the certificate of threshold `j` of a lineage.

    One lineage gives certificates for one life only: those after the first lapse with the first, by time and by
    decisions.
    """
    c = t.certificates
    query = sa.select(sa.func.min(c.c.issued_us), sa.func.max(c.c.decided)).where(c.c.lineage == line["id"])
    first, decided = conn.execute(query).one()
    evidence = Evidence(METHOD, counts, tuple(grid), j, int(line["attempt"]), int(line["after_item"]), last_item)
    values: dict[str, Any] = {
        "endpoint": line["endpoint"],
        "version": line["version"],
        "segment": line["segment"],
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
        "decisions": decisions,
        "decided": int(decided or 0),
        "evidence": msgspec.json.encode(evidence).decode(),
        "audit_losses": audits.NOTHING,
    }
    values["claim"] = claim(values, counts, attempt=line["attempt"])
    key = conn.execute(c.insert().values(**values)).inserted_primary_key
    return conn.execute(sa.select(c).where(c.c.id == (key[0] if key else 0))).mappings().one()


def claim(values: Mapping[str, Any], counts: lineage.Counts, *, attempt: int) -> str:
    """Say what the certificate claims, against what, and until when."""
    what = "answers" if values["side"] == "*" else f"answers {values['side']!r}"
    against, seen = _reference(values, counts)
    end_day = datetime.fromtimestamp(values["expires_us"] / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
    most = f" or {values['decisions']} decisions" if values["decisions"] else ""
    drawn = ", each weighted by one over its chance to be drawn" if counts.weighted else ""
    return (
        f"With {100 * (1 - values['delta']):g} % confidence, {_risk(values, counts, what)}, judged "
        f"against {against}: {values['k']} errors in {values['n']} blind labels{drawn}{seen}, "
        f"attempt {attempt}. "
        f"It holds while cases come from the same source, at most until {end_day}{most}."
    )


def _reference(values: Mapping[str, Any], counts: lineage.Counts) -> tuple[str, str]:
    """Say against what the answers were judged, and what second readings of agreements found."""
    if (again := counts.rereads) is None:
        told = " (disagreements were read again)" if counts.single and not counts.single_wrong else ""
        return f"{counts.reference}{told}", ""
    j, left = counts.n.index(values["n"]), lineage.left(counts, values["bound"])
    seen = (
        f" and {again.k[j]} in {again.n[j]} agreements that a second person read blind"
        f" (bounds {100 * left:.3g} % and {100 * again.bound:.3g} %)"
    )
    return "adjudicated truth", seen


def _risk(values: Mapping[str, Any], counts: lineage.Counts, what: str) -> str:
    bound, sure = f"{100 * values['bound']:g} %", f"confidence {values['threshold']:.4g} or more"
    cases = f" for {counts.population}" if counts.population else ""
    answers = f"the {what} of {values['version']}{cases} with {sure}"
    if loss.bounded(counts.loss):
        return f"the mean loss ({loss.words_of(counts.loss)}) of {answers} is below {bound}"
    meaning = f" ({loss.words_of(counts.loss)})" if counts.loss != loss.EQUAL else ""
    return f"fewer than {bound} of {answers} are wrong{meaning}"


def audit(conn: Connection, row: Row, labels: Sequence[Label], *, last_item: int) -> bool:
    """Count audited items against a certificate; returns whether they revoke it."""
    old, graded = audits.of(row), loss.bounded(loss_of(row))
    new = audits.count(old, labels, threshold=row["threshold"], bound=row["bound"], graded=graded)
    if new != old or last_item > row["last_item"]:
        c, last = t.certificates, max(last_item, row["last_item"])
        values: dict[str, Any] = {"audit_n": new.n, "audit_k": new.k, "revoke_log_e": new.log_e}
        values |= {"last_item": last, "audit_losses": audits.stored(new, row)}
        conn.execute(c.update().where(c.c.id == row["id"]).values(**values))
    return new.revoked(row["delta"])


def count_decisions(conn: Connection, endpoint: str, version: str, automated: int, *, segment: str = "") -> None:
    """Add automated decisions of a version to the lives of its certificates in force for that segment."""
    c = t.certificates
    which = (c.c.endpoint == endpoint) & (c.c.version == version) & (c.c.state == "valid")
    which &= c.c.segment == segment
    conn.execute(c.update().where(which).values(decided=c.c.decided + automated))
