"""How a version agrees with people, from blind judgements only, and who was wrong where they differ."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.automation.items import fair
from tenure.deploy.automation.levels import ASSIST_LABELS
from tenure.stats import agreement, interval
from tenure.stats.agreement import Table

LIMIT = 100_000
TABLE_LIMIT = 5000


class Pair(msgspec.Struct, frozen=True):
    """One blindly judged item: what the model said, what the first reader said, and the truth.

    `reread` says that the truth rests on more than one reader.
    """

    model: str
    person: str
    truth: str
    reread: bool
    unit: str


class Errors(msgspec.Struct, frozen=True):
    """One judge's error rate against adjudicated truth; `estimate` and `upper` are None where not known."""

    estimate: float | None
    upper: float | None
    wrong: int
    reread: int


def blind_table(conn: Connection, endpoint: str, version: str, *, after: int) -> Table:
    """Return model against truth from blind, randomly drawn items with a higher number than `after`."""
    query = _query(endpoint, version).where(t.review_items.c.number > after).limit(TABLE_LIMIT)
    return Table.of((_text(row.value), _text(row.truth)) for row in conn.execute(query))


def shadow_report(conn: Connection, endpoint: str, version: str, since_us: int = 0) -> dict[str, Any]:
    """Return the comparison of a version with people as JSON values.

    Only blind judgements of randomly drawn items count. kappa stands beside AC1 for readers who expect it;
    neither gates anything. A value that is not defined is None.

    Args:
        conn: a connection.
        endpoint: name.
        version: whose answers are compared.
        since_us: only items from then on.
    """
    pairs = _pairs(conn, endpoint, version, since_us)
    table = Table.of((p.model, p.person) for p in pairs)
    model, person = errors(pairs, of="model"), errors(pairs, of="person")
    bounds, method = _agreement_interval(table, pairs)
    waiting = _notes(conn, endpoint, version)
    report = {
        "endpoint": endpoint,
        "version": version,
        "n": table.n,
        "labels": list(table.labels),
        "counts": [list(row) for row in table.counts],
        "agreement": table.observed,
        "agreement_interval": bounds,
        "interval_method": method,
        "specific": {label: table.specific(label) for label in table.labels},
        "kappa": table.kappa,
        "ac1": table.ac1,
        "directions": _directions(table),
        "model_error": msgspec.to_builtins(model),
        "person_error": msgspec.to_builtins(person),
        "labels_needed": {"assist": max(0, ASSIST_LABELS - table.n), "certificates": waiting},
    }
    return {**report, "sentence": sentence(version, table, bounds, model, person)}


def errors(pairs: Sequence[Pair], *, of: str) -> Errors:
    """Return one judge's error rate, with disagreements and agreements as separate strata.

    A stratum's rate comes from its re-read items; the upper bound spends a third of 5 % on each stratum and on
    the share of disagreements. Without re-read agreements an error that both share cannot be seen, so there is
    neither estimate nor bound.

    Args:
        pairs: all judged items.
        of: `model` or `person`.
    """
    strata = [[p for p in pairs if (p.model == p.person) is same] for same in (False, True)]
    read = [[p for p in stratum if p.reread] for stratum in strata]
    wrong = [sum(getattr(p, of) != p.truth for p in stratum) for stratum in read]
    total, many = sum(wrong), sum(map(len, read))
    if not pairs or any(s and not r for s, r in zip(strata, read, strict=True)):
        return Errors(None, None, total, many)
    rates = [w / len(r) if r else 0.0 for w, r in zip(wrong, read, strict=True)]
    share = len(strata[0]) / len(pairs)
    confidence = 1.0 - 0.05 / 3
    tops = [interval.upper(w, len(r), confidence) if r else 1.0 for w, r in zip(wrong, read, strict=True)]
    limits = interval.clopper_pearson(len(strata[0]), len(pairs), confidence)
    upper = max(s * tops[0] + (1.0 - s) * tops[1] for s in limits)
    return Errors(share * rates[0] + (1.0 - share) * rates[1], upper, total, many)


def sentence(
    version: str, table: Table, bounds: tuple[float, float] | None, model: Errors, person: Errors
) -> str:
    """Say the report in words."""
    if not table.n:
        return f"{version} has not been judged blind beside a person yet."
    said = f"{version} and people agree on {table.agreed} of {table.n} blind items ({table.observed:.1%}"
    said += f"; 95 % interval {bounds[0]:.1%} to {bounds[1]:.1%})." if bounds else "; no interval)."
    if model.reread == 0:
        return said + " Nobody has read any of them again, so it is not known who was wrong."
    said += (
        f" Of {model.reread} items read again the model was wrong in {model.wrong}, the person in {person.wrong}."
    )
    if model.upper is None or person.upper is None:
        return said + " Not both kinds, agreements and disagreements, were read again: error rates are not known."
    return (
        f"{said} Error rates: model {model.estimate:.1%} (at most {model.upper:.1%}), "
        f"person {person.estimate:.1%} (at most {person.upper:.1%})."
    )


def _query(endpoint: str, version: str) -> sa.Select[Any]:
    i, p = t.review_items.c, t.item_predictions.c
    return (
        sa.select(i.id, i.truth, i.source, i.unit, p.value)
        .join(t.item_predictions, (p.item == i.id) & (p.version == version))
        .where(i.endpoint == endpoint, i.state == "resolved", i.blind == 1, i.truth.is_not(None))
        .where(fair())
        .order_by(i.number)
    )


def _pairs(conn: Connection, endpoint: str, version: str, since_us: int) -> list[Pair]:
    query = _query(endpoint, version).where(t.review_items.c.created_us >= since_us).limit(LIMIT)
    first = _first_judgements(conn, endpoint, since_us)
    pairs = []
    for row in conn.execute(query):
        reread = row.source in ("agreed", "adjudicated")
        person = first.get(row.id, row.truth if row.source == "single" else None)
        if person is not None:
            pairs.append(Pair(_text(row.value), _text(person), _text(row.truth), reread, row.unit))
    return pairs


def _first_judgements(conn: Connection, endpoint: str, since_us: int) -> dict[str, str]:
    """Return item -> value of its first blind reader; a correction after an undo keeps the reader's place."""
    j, i = t.judgements.c, t.review_items.c
    query = (
        sa.select(j.id, j.item, j.value, j.skip, j.supersedes)
        .join(t.review_items, i.id == j.item)
        .where(i.endpoint == endpoint, i.created_us >= since_us)
        .where(j.role == "reader", j.blind == 1)
        .order_by(j.id)
    )
    rows = conn.execute(query).all()
    replaced = {row.supersedes for row in rows}
    places: dict[int, int] = {}
    first: dict[str, tuple[int, str]] = {}
    for row in rows:
        place = places[row.id] = places.get(row.supersedes, row.id)
        stands = row.skip is None and row.id not in replaced
        if stands and (row.item not in first or place < first[row.item][0]):
            first[row.item] = place, row.value
    return {item: value for item, (_, value) in first.items()}


def _agreement_interval(table: Table, pairs: Sequence[Pair]) -> tuple[tuple[float, float] | None, str]:
    """Return the interval and how it was made; items of one unit are drawn together."""
    if not table.n:
        return None, "no data"
    units: Mapping[str, list[bool]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        units[pair.unit or f"#{number}"].append(pair.model == pair.person)
    if len(units) == table.n:
        return table.agreement_interval(), "Clopper-Pearson"
    rows, sums = [len(v) for v in units.values()], [sum(v) for v in units.values()]
    found = interval.unit_bootstrap(rows, sums)
    return found, "bootstrap over units" if found else f"none: {len(units)} units are too few"


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


def _notes(conn: Connection, endpoint: str, version: str) -> dict[str, str]:
    c = t.lineages.c
    query = sa.select(c.side, c.note).where(c.endpoint == endpoint, c.version == version, c.state != "closed")
    return {row.side: row.note for row in conn.execute(query)}


def _text(value: str) -> str:
    return str(json.loads(value))
