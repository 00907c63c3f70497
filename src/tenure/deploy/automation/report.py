"""The automation page as values: where an endpoint stands, why not higher, and on what evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.automation import certificates, levels, lineage, lineages, policies
from tenure.scope.project import Automation as Spec
from tenure.types import Level

MOVES = 20


def automation(
    conn: Connection, endpoint: str, segment: str, *, spec: Spec, level: Level, evidence: levels.Evidence
) -> dict[str, Any]:
    """Return the whole page of one segment as JSON values."""
    moves = _rows(conn, t.levels, endpoint, segment, limit=MOVES)
    policy = policies.newest(conn, endpoint, segment)
    return {
        "endpoint": endpoint,
        "segment": segment,
        "level": level.word,
        "max": spec.max,
        "since_us": moves[0]["at_us"] if moves else None,
        "cause": moves[0]["cause"] if moves else "start of the project",
        "version": evidence.version,
        "next": Level(level + 1).word if level < Level.of(spec.max) else None,
        "why_not_higher": why_not_higher(level, evidence, spec),
        "labels": evidence.labels,
        "policy": None
        if policy is None
        else {
            "id": policy.id,
            "level": policy.level.word,
            "thresholds": policy.thresholds,
            "audit": policy.audit,
            "blind": policy.blind,
            "valid_until_us": policy.valid_until_ns // 1000,
        },
        "lineages": [_lineage(row) for row in _rows(conn, t.lineages, endpoint, segment, limit=100)],
        "certificates": [_certificate(row) for row in _rows(conn, t.certificates, endpoint, segment, limit=100)],
        "moves": [{**row, "numbers": json.loads(row["numbers"])} for row in moves],
    }


def row(
    conn: Connection, endpoint: str, segment: str, *, spec: Spec, level: Level, evidence: levels.Evidence
) -> dict[str, Any]:
    """Return one segment in short: where it stands, what the next level waits for, how much is in force."""
    moves = _rows(conn, t.levels, endpoint, segment, limit=1)
    valid = certificates.in_force(conn, endpoint, segment)
    lines = lineages.opened(conn, endpoint, segment=segment)
    return {
        "segment": segment,
        "level": level.word,
        "max": spec.max,
        "since_us": moves[0]["at_us"] if moves else None,
        "cause": moves[0]["cause"] if moves else "start of the project",
        "next": Level(level + 1).word if level < Level.of(spec.max) else None,
        "why_not_higher": why_not_higher(level, evidence, spec),
        "labels": evidence.labels,
        "certificates": len(valid),
        "note": "; ".join(row["note"] for row in lines if row["note"]),
    }


def promise(spec: Spec) -> str:
    """Say what the certificates of all segments promise together: each has an error budget of its own."""
    count, delta = len(spec.names()), 1.0 - spec.certificate.confidence
    if count == 1:
        return f"All certificates of a version together fail with a chance of at most {100 * delta:g} %"
    return (
        f"Each segment spends its own {100 * delta:g} % of risk: a version's {count} promises all hold together "
        f"with a chance of at least {100 * max(0.0, 1.0 - count * delta):g} %"
    )


def why_not_higher(level: Level, evidence: levels.Evidence, spec: Spec) -> str | None:
    """Return one sentence: what the next level waits for; None at the top."""
    if level >= Level.FULL:
        return None
    verdict = levels.climb(level, Level(level + 1), evidence, cap=Level.of(spec.max), approved=False)
    return verdict.reason


def _certificate(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without what only `tenure certificate verify` reads."""
    return {k: v for k, v in row.items() if k not in ("evidence", "audit_losses")}


def _lineage(row: Mapping[str, Any]) -> dict[str, Any]:
    counts = lineages.counts_of_text(row["counts"])
    grid = [float(x) for x in json.loads(row["grid"])]
    shown = {k: v for k, v in row.items() if k not in ("counts", "grid")}
    return {
        **shown,
        "renewal": counts.renewal,
        "missing": counts.missing,
        "pilot_seen": counts.seen,
        "reference": counts.reference,
        "weighted": counts.weighted,
        "agreements": _agreements(counts),
        "curve": lineage.curve(counts, grid, row["delta"]),
    }


def _agreements(counts: lineage.Counts) -> dict[str, Any] | None:
    """Return what second readings of agreements show, at the boldest threshold; None without a bound on them."""
    again = counts.rereads
    if again is None:
        return None
    n, k = (again.n[-1], again.k[-1]) if again.n else (0, 0)
    return {"bound": again.bound, "share": again.share, "n": n, "k": k}


def _rows(conn: Connection, table: sa.Table, endpoint: str, segment: str, *, limit: int) -> list[dict[str, Any]]:
    """Return the newest rows of a segment, newest first."""
    query = sa.select(table).where(table.c.endpoint == endpoint, table.c.segment == segment)
    query = query.order_by(table.c.id.desc()).limit(limit)
    return [dict(row) for row in conn.execute(query).mappings()]
