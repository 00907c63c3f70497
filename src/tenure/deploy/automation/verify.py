"""Compute a certificate again from the judged items in the state database, and name the first difference."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy import loss
from tenure.deploy.automation import audits, certificates, items, lineage
from tenure.deploy.automation.certificates import Evidence
from tenure.deploy.automation.items import Item, Label
from tenure.deploy.automation.rereads import Reread, Rereads
from tenure.errors import MissingError

Row = sa.RowMapping


class Checked(msgspec.Struct, frozen=True):
    """Whether a certificate is what its evidence gives; `difference` is the first one, in words.

    `audits` were counted again for its revocation; None for a certificate older than the record of each audit.
    """

    id: int
    endpoint: str
    match: bool
    labels: int
    difference: str | None
    claim: str
    audits: int | None = None


def find(conn: Connection, certificate: int) -> Row:
    """Return a certificate; raises MissingError for an unknown number."""
    row = conn.execute(sa.select(t.certificates).where(t.certificates.c.id == certificate)).mappings().first()
    if row is None:
        raise MissingError(
            f"no certificate {certificate}; `tenure certificate list` names them", at=str(certificate)
        )
    return row


def verify(conn: Connection, certificate: int) -> Checked:
    """Recompute a certificate: labels in draw order, counts, e-values, the fallback procedure, claim and audits.

    An item that never had a truth when it was counted stays missing, whatever came later. Reads only.

    Raises:
        MissingError: no such certificate.
    """
    row = find(conn, certificate)
    evidence, found = certificates.evidence_of(row), None
    difference: str | None
    if evidence is None:
        difference = "it was issued before evidence was kept with certificates"
    elif evidence.method not in certificates.METHODS:
        difference = f"method {evidence.method} issued it, this is method {certificates.METHOD}"
    else:
        found, difference = _recount(conn, row, evidence)
        difference = difference or _row(conn, row, evidence) or _audits(conn, row, evidence)
    again = None if audits.kept_of(row) is None else int(row["audit_n"])
    n = found.labels if found else 0
    return Checked(certificate, row["endpoint"], difference is None, n, difference, row["claim"], again)


def _audits(conn: Connection, row: Row, evidence: Evidence) -> str | None:
    """Count the audits since the certificate again; returns the first difference, also to its state."""
    if audits.kept_of(row) is None:
        return None
    old, new = audits.of(row), audits.Audits()
    by, gaps, after = evidence.counts.loss, set(old.gaps), evidence.last_item
    names, promise = (row["endpoint"], row["version"]), {"threshold": row["threshold"], "bound": row["bound"]}
    while True:
        chunk = items.read(
            conn, *names, side=row["side"], sample="audited", after=after, by=by, segment=row["segment"]
        )
        chunk = [x for x in chunk if x.number <= row["last_item"]]
        if not chunk:
            return _compared(new, old, row)
        wrong = set(old.wrong)
        for item in (x for x in chunk if x.score >= row["threshold"]):
            if (why := _item(item, missing=item.number in gaps, wrong=item.number in wrong)) is not None:
                return f"audit: {why}"
        labels = [_label(x, gaps, set()) for x in chunk]
        new = audits.count(new, labels, **promise, graded=loss.bounded(by))
        after = chunk[-1].number


def _compared(new: audits.Audits, old: audits.Audits, row: Row) -> str | None:
    for name in ("n", "k", "losses", "wrong", "gaps"):
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            return f"audits, {name}: {was} stored, {now} counted again"
    if not math.isclose(new.log_e, old.log_e, rel_tol=1e-9, abs_tol=1e-9):
        return f"log e-value of the audits: {old.log_e:.9g} stored, {new.log_e:.9g} computed again"
    if new.revoked(row["delta"]) != (row["state"] == "revoked"):
        told = "contradict" if new.revoked(row["delta"]) else "do not contradict"
        return f"its state is {row['state']}, and its audits {told} the bound"
    return None


def _recount(conn: Connection, row: Row, evidence: Evidence) -> tuple[lineage.Counts, str | None]:
    """Count the items again; returns the counts and the first difference to the stored ones."""
    old = evidence.counts
    new = lineage.start(
        evidence.grid, since=old.since, starts=old.starts, renewal=old.renewal, by=old.loss,
        weighted=old.weighted, again=old.rereads,
    )  # fmt: skip
    gaps, wrong, after = set(old.gaps), set(old.wrong), evidence.after_item
    unread = set(old.rereads.gaps) if old.rereads else set()
    while True:
        chunk = _chunk(conn, row, evidence, after)
        if not chunk:
            break
        for item in chunk:
            if old.renewal and item.score < evidence.grid[0]:
                continue
            if (why := _item(item, missing=item.number in gaps, wrong=item.number in wrong)) is not None:
                return new, why
        labels = [_label(x, gaps, unread) for x in chunk]
        if old.renewal:
            labels = [x for x in labels if x.score >= evidence.grid[0]]
        new = lineage.advance(new, evidence.grid, row["bound"], labels)
        after = chunk[-1].number
    return new, _counts(new, old)


def _chunk(conn: Connection, row: Row, evidence: Evidence, after: int) -> list[Item]:
    sample = lineage.sample_of(evidence.counts)
    names = row["endpoint"], row["version"]
    by = evidence.counts.loss
    share = evidence.counts.rereads.share if evidence.counts.rereads else 0.0
    found = items.read(
        conn, *names, side=row["side"], sample=sample, after=after, by=by, segment=row["segment"], reread=share
    )
    return [x for x in found if x.number <= evidence.last_item]


def _label(x: Item, gaps: set[int], unread: set[int]) -> Label:
    """Return an item as it was counted: what was missing then stays missing."""
    again = Reread(None) if x.reread and x.number in unread else x.reread
    return Label(x.number, x.score, None if x.number in gaps else x.loss, x.single, x.ratio, again)


def _item(item: Item, *, missing: bool, wrong: bool) -> str | None:
    if missing:
        return None
    if item.loss is None:
        return f"item {item.number} was counted with a truth and has none now"
    if (item.loss > 0.0) != wrong:
        was, now = ("wrong", "right") if wrong else ("right", "wrong")
        return f"item {item.number} was counted as {was} and is {now} now"
    return None


def _counts(new: lineage.Counts, old: lineage.Counts) -> str | None:
    for name in ("n", "k"):
        for j, (a, b) in enumerate(zip(getattr(new, name), getattr(old, name), strict=True)):
            if a != b:
                return f"{name} at threshold {j}: {b} stored, {a} counted again"
    for j, (x, y) in enumerate(zip(new.log_e, old.log_e, strict=True)):
        if not math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-9):
            return f"log e-value at threshold {j}: {y:.9g} stored, {x:.9g} computed again"
    for name in ("missing", "single", "single_wrong", "cells", "wrong", "gaps"):
        if getattr(new, name) != getattr(old, name):
            return f"{name}: {getattr(old, name)} stored, {getattr(new, name)} counted again"
    if (why := _rereads(new.rereads, old.rereads)) is not None:
        return why
    if old.digest is not None and new.digest != old.digest:
        return "the labels' order, confidences or losses differ, although their counts agree"
    return None


def _rereads(new: Rereads | None, old: Rereads | None) -> str | None:
    if new is None or old is None:
        return None
    for name in ("n", "k", "gaps"):
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            return f"agreements read again, {name}: {was} stored, {now} counted again"
    for j, (x, y) in enumerate(zip(new.log_e, old.log_e, strict=True)):
        if not math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-9):
            return f"log e-value of agreements at threshold {j}: {y:.9g} stored, {x:.9g} computed again"
    return None


def _row(conn: Connection, row: Row, evidence: Evidence) -> str | None:
    """Return the first difference between a certificate's row and what its counts give."""
    counts, j = evidence.counts, evidence.chosen
    line = conn.execute(sa.select(t.lineages).where(t.lineages.c.id == row["lineage"])).mappings().first()
    if line is None:
        return f"its lineage {row['lineage']} is gone"
    valid = lineage.valid(counts, line["delta"])
    if not valid or valid[-1] != j:
        return f"threshold {j} was certified; the evidence gives {valid[-1] if valid else 'none'}"
    expected: dict[str, Any] = {
        "endpoint": line["endpoint"],
        "version": line["version"],
        "segment": line["segment"],
        "side": line["side"],
        "bound": line["bound"],
        "delta": line["delta"],
        "threshold": evidence.grid[j],
        "n": counts.n[j],
        "k": counts.k[j],
        "reference": counts.reference,
    }
    for name, value in expected.items():
        if row[name] != value:
            return f"{name}: {row[name]!r} stored, {value!r} by the evidence"
    told = certificates.claim(dict(row), counts, attempt=evidence.attempt)
    return None if row["claim"] == told else f"the claim reads otherwise than its numbers: {told}"
