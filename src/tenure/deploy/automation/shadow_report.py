"""How a version agrees with people, in short: for the level page and for the evidence of a level."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.automation.items import fair
from tenure.deploy.automation.levels import ASSIST_LABELS
from tenure.deploy.shadow import cases, judges
from tenure.deploy.shadow.classes import Share, agreed
from tenure.deploy.shadow.report import same_by
from tenure.deploy.shadow.settings import Settings
from tenure.stats import agreement, interval
from tenure.stats.agreement import Table
from tenure.stats.reread import Rate

TABLE_LIMIT = 5000


def blind_table(conn: Connection, endpoint: str, version: str, *, after: int, segment: str = "") -> Table:
    """Return model against truth from blind, randomly drawn items of a segment numbered higher than `after`."""
    i = t.review_items.c
    query = _query(endpoint, version).where(i.number > after, i.segment == segment).limit(TABLE_LIMIT)
    return Table.of((_text(row.value), _text(row.truth)) for row in conn.execute(query))


def shadow_report(
    conn: Connection, endpoint: str, version: str, since_us: int = 0, *, settings: Settings | None = None,
    segment: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the comparison of a version with people in short, as JSON values; `deploy/shadow` has the whole.

    Only blind judgements of randomly drawn items count. kappa stands beside AC1 for readers who expect it;
    neither gates anything. A value that is not defined is None.

    Args:
        conn: a connection.
        endpoint: name.
        version: whose answers are compared.
        since_us: only items from then on.
        settings: what makes two answers the same; default: equal values.
        segment: only items of that segment; None = all.
    """
    by = settings or Settings()
    found = cases.read(conn, endpoint, version, since_us, segment)
    same, apart = same_by(by), cases.independent(found)
    share = agreed(found, same)
    named = found if by.kind in ("classification", "detection") else ()  # texts and numbers make no table
    table = Table.of((str(c.model.value), str(c.person.value)) for c in named)
    model, person = judges.error(apart, same, of="model"), judges.error(apart, same, of="person")
    report = {
        "endpoint": endpoint,
        "version": version,
        "n": share.of,
        "labels": list(table.labels),
        "counts": [list(row) for row in table.counts],
        "agreement": share.value,
        "agreement_interval": None if share.low is None else (share.low, share.high),
        "interval_method": share.method or "no data",
        "specific": {label: table.specific(label) for label in table.labels},
        "kappa": table.kappa,
        "ac1": table.ac1,
        "directions": _directions(table),
        "model_error": _error(model),
        "person_error": _error(person),
        "labels_needed": {
            "assist": max(0, ASSIST_LABELS - share.of),
            "certificates": _notes(conn, endpoint, version, segment or ""),
        },
    }
    return {**report, "sentence": sentence(version, share, model, person)}


def sentence(version: str, share: Share, model: Rate, person: Rate) -> str:
    """Say the agreement and both error rates in words."""
    if not share.of:
        return f"{version} has not been judged blind beside a person yet."
    said = f"{version} and people agree on {share.count} of {share.of} blind items ({share.value:.1%}"
    said += (
        f"; 95 % interval {share.low:.1%} to {share.high:.1%})." if share.low is not None else "; no interval)."
    )
    if model.read == 0:
        return said + " Nobody has read any of them again, so it is not known who was wrong."
    said += (
        f" Of {model.read} items read again the model was wrong in {model.wrong}, the person in {person.wrong}."
    )
    if model.upper is None or person.upper is None:
        return said + " Not both kinds, agreements and disagreements, were read again: error rates are not known."
    return (
        f"{said} Error rates: model {model.estimate:.1%} (at most {model.upper:.1%}), "
        f"person {person.estimate:.1%} (at most {person.upper:.1%})."
    )


def _error(rate: Rate) -> dict[str, Any]:
    return {"estimate": rate.estimate, "upper": rate.upper, "wrong": rate.wrong, "reread": rate.read}


def _query(endpoint: str, version: str) -> sa.Select[Any]:
    i, p = t.review_items.c, t.item_predictions.c
    return (
        sa.select(i.id, i.truth, i.source, i.unit, p.value)
        .join(t.item_predictions, (p.item == i.id) & (p.version == version))
        .where(i.endpoint == endpoint, i.state == "resolved", i.blind == 1, i.truth.is_not(None))
        .where(fair())
        .order_by(i.number)
    )


def _directions(table: Table) -> list[dict[str, Any]]:
    """Return each direction of disagreement with the share of that model's answer and its exact interval."""
    found = []
    for (model, person), count in table.disagreements().items():
        said = table.first(model)
        low, high = interval.clopper_pearson(count, said)
        share = count / said if said else None
        found.append(
            {
                "model": model,
                "person": person,
                "count": count,
                "of": said,
                "share": share,
                "low": low,
                "high": high,
            }
        )
    if len(table.labels) == 2:
        p = agreement.mcnemar(*table.disagreements().values())
        return [{**row, "mcnemar_p": p} for row in found]
    return found


def _notes(conn: Connection, endpoint: str, version: str, segment: str) -> dict[str, str]:
    c = t.lineages.c
    which = (c.endpoint == endpoint) & (c.version == version) & (c.segment == segment) & (c.state != "closed")
    query = sa.select(c.side, c.note).where(which)
    return {row.side: row.note for row in conn.execute(query)}


def _text(value: str) -> str:
    return str(json.loads(value))
