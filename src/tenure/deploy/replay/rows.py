"""Read what the log knows of two versions: their own answers, their shadow answers, and clients' reactions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.view import Log
from tenure.deploy.replay.items import Item, Key, with_labels
from tenure.deploy.replay.traffic import NEVER, Arms, Labels, Mask, Origin, Traffic
from tenure.deploy.rollout import reactions, store
from tenure.deploy.rollout.plan import WRONG, Plan, reaction_of
from tenure.deploy.rollout.slices import text_of

_SQL = """
WITH shadowed AS (
    SELECT run, seq, version = $1 AS candidate, any_value(status) AS status, any_value(value) AS value,
        any_value(number) AS number, any_value(confidence) AS confidence
    FROM shadows WHERE endpoint = $3 AND version IN ($1, $2) GROUP BY ALL
)
SELECT p.run, p.seq, p.t_ns, p.unit_hash AS unit, p.routing, p.share::DOUBLE AS share,
    CASE WHEN p.status NOT IN ('ok', 'failed') THEN -1 WHEN p.version = $1 THEN 1
         WHEN p.version = $2 THEN 0 ELSE -1 END AS arm,
    p.status = 'failed' AS failed, p.empty, p.over_budget,
    n.status IS NOT NULL AS shadow1, coalesce(n.status = 'failed', false) AS failed1,
    coalesce(n.value, 'null') IN ('null', '""') AS empty1,
    o.status IS NOT NULL AS shadow0, coalesce(o.status = 'failed', false) AS failed0,
    coalesce(o.value, 'null') IN ('null', '""') AS empty0,
    {fields} p.number, p.confidence, p.latency_us, n.number AS number1, n.confidence AS confidence1,
    o.number AS number0, o.confidence AS confidence0
FROM predictions p
LEFT JOIN shadowed n ON n.run = p.run AND n.seq = p.seq AND n.candidate
LEFT JOIN shadowed o ON o.run = p.run AND o.seq = p.seq AND NOT o.candidate
WHERE p.endpoint = $3 AND p.t_ns >= $4 AND p.t_ns < $5 AND NOT p.batch
    AND p.status IN ('ok', 'failed', 'not_run')
ORDER BY p.t_ns, p.run, p.seq
"""
_HEARD = """
SELECT run, seq, t_ns, kind, value FROM outcomes
WHERE endpoint = $1 AND t_ns >= $2 AND list_contains($3, kind) ORDER BY t_ns
"""
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def origin(conn: Connection, endpoint: str, *, candidate: str, stable: str, until_us: int) -> Origin | None:
    """Return how the newest rollout of the two versions that began before a time drew; None without one."""
    r = t.rollouts.c
    mine = (r.endpoint == endpoint, r.candidate == candidate, r.stable == stable, r.created_us < until_us)
    row = conn.execute(sa.select(t.rollouts).where(*mine).order_by(r.created_us.desc())).mappings().first()
    if row is None:
        return None
    rollout = store.value(row)
    after = sa.select(sa.func.min(r.created_us)).where(r.endpoint == endpoint, r.created_us > rollout.created_us)
    end_us = conn.execute(after).scalar()
    return Origin(
        salt=rollout.salt, assign=rollout.plan.assign, epoch=rollout.plan.epoch,
        since_ns=store.since_us(conn, rollout) * 1000, until_ns=NEVER if end_us is None else int(end_us) * 1000,
    )  # fmt: skip


def traffic(
    log: Log, endpoint: str, *, candidate: str, stable: str, since_ns: int, until_ns: int, plan: Plan,
    items: Mapping[Key, Item], origin: Origin | None = None,
) -> Traffic:  # fmt: skip
    """Return an endpoint's requests in [since, until) with what is known of each version's answer.

    Args:
        log: of the project.
        endpoint: name.
        candidate: one version.
        stable: the other.
        since_ns: time of the first request.
        until_ns: the time after the last; what became of them is read beyond it.
        plan: says which slices, units and reactions are read, and what wrong means.
        items: what people were asked; from `items.items`.
        origin: how the log drew.

    Raises:
        StoreError: the query takes too long or too much memory; ask for less time.
    """
    given = [candidate, stable, endpoint, since_ns, until_ns]
    fields = "p.record, " if plan.slices else ""
    if plan.slices or plan.assign != "request":
        fields += "p.unit AS unit_text,"
    c = _columns(log, _SQL.format(fields=fields), given)
    found = from_columns(c, origin=origin, by=[part.by for part in plan.slices])
    if plan.assign != "request":
        found = replace(found, units=c["unit_text"].tolist())
    at = {key: i for i, key in enumerate(zip(found.run.tolist(), found.seq.tolist(), strict=True))}
    return replace(
        with_labels(found, items, at, plan=plan, versions=(candidate, stable)),
        heard=_heard(log, endpoint, found, at, plan=plan),
    )


def _columns(log: Log, sql: str, given: list[Any]) -> dict[str, Array]:
    table = log.query(sql, parameters=given)
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def _heard(
    log: Log, endpoint: str, found: Traffic, at: Mapping[Key, int], *, plan: Plan
) -> dict[int, reactions.Heard]:  # fmt: skip
    """Return the reactions that the plan's gates name, by row, in order of arrival."""
    names = sorted({name for name in map(reaction_of, plan.gates) if name is not None})
    heard: dict[int, reactions.Heard] = {}
    if not names or not len(found.t_ns):
        return heard
    c = _columns(log, _HEARD, [endpoint, int(found.t_ns[0]), names])
    columns = (c[name].tolist() for name in ("run", "seq", "t_ns", "kind", "value"))
    for run, seq, t_ns, kind, text in zip(*columns, strict=True):
        row = at.get((run, seq))
        if row is not None:
            value, request_us = json.loads(text) if text else None, int(found.t_ns[row]) // 1000
            reactions.note(heard.setdefault(row, {}), kind, value, request_us=request_us, t_us=t_ns // 1000)
    return heard


def from_columns(c: dict[str, Array], *, origin: Origin | None = None, by: Sequence[str] = ()) -> Traffic:
    """Return traffic from the columns of the query, before anybody was asked about it."""
    arm, n = c["arm"].astype(np.int8), len(c["arm"])
    mine1, mine0 = arm == 1, arm == 0
    shadow1, shadow0 = _bool(c["shadow1"]) & ~mine1, _bool(c["shadow0"]) & ~mine0
    answered = Arms(mine1 | shadow1, mine0 | shadow0)
    failed, empty = _bool(c["failed"]), _bool(c["empty"])
    never, none = np.zeros(n, bool), np.full(n, NEVER)
    bad = {
        "failed": Arms(
            np.where(mine1, failed, _bool(c["failed1"])), np.where(mine0, failed, _bool(c["failed0"]))
        ),
        "empty_output": Arms(
            np.where(mine1, empty, _bool(c["empty1"])), np.where(mine0, empty, _bool(c["empty0"]))
        ),
        "over_latency": Arms(_bool(c["over_budget"]) & mine1, _bool(c["over_budget"]) & mine0),
        WRONG: Arms(never, never),
    }
    known = dict.fromkeys(bad, answered) | {"over_latency": Arms(mine1, mine0)}
    return Traffic(
        run=c["run"].astype(np.uint64), seq=c["seq"].astype(np.uint64), t_ns=c["t_ns"].astype(np.int64),
        unit=c["unit"].astype(np.uint64), chance=_chance(c, arm, origin), known=known, bad=bad,
        labels=Labels(never, never, never, never, none, none), values=_values(c, mine1, mine0),
        texts=_texts(c, by), origin=origin,
    )  # fmt: skip


def _values(c: dict[str, Array], mine1: Array, mine0: Array) -> dict[str, tuple[Floats, Floats]]:
    """Return what each version's answer is in numbers; NaN where the log does not say."""
    found = {
        name: (
            np.where(mine1, _floats(c[name]), np.where(mine0, _floats(c[f"{name}1"]), np.nan)),
            np.where(mine0, _floats(c[name]), np.where(mine1, _floats(c[f"{name}0"]), np.nan)),
        )
        for name in ("number", "confidence")
    }
    ms = _floats(c["latency_us"]) / 1000.0
    return found | {"latency_ms": (np.where(mine1, ms, np.nan), np.where(mine0, ms, np.nan))}


def _texts(c: dict[str, Array], by: Sequence[str]) -> dict[str, Sequence[str | None]]:
    if not by:
        return {}
    told = zip(c["record"].tolist(), c["unit_text"].tolist(), strict=True)
    pairs = [(json.loads(record) if record else None, unit) for record, unit in told]
    return {name: [text_of(name, record, unit) for record, unit in pairs] for name in by}


def _floats(values: Array) -> Floats:
    return np.array([np.nan if v is None else float(v) for v in values.tolist()])


def _chance(c: dict[str, Array], arm: npt.NDArray[np.int8], origin: Origin | None) -> Floats:
    """Return the chance with which the log's own routing gave each request to the candidate.

    Under a routing table whose rows show one of the two only, the other had no chance: a third version had it;
    but not while a rollout of the two ran, where a small share may show none by chance.
    """
    share, t_ns = c["share"].astype(np.float64), c["t_ns"].astype(np.int64)
    chance = np.where(arm == 1, share, np.where(arm == 0, 1.0 - share, 0.0))
    foreign = np.ones(len(arm), bool)
    if origin is not None:
        foreign = (t_ns < origin.since_ns) | (t_ns >= origin.until_ns)
    for there, sure in ((1, 0.0), (0, 1.0)):
        tables = np.unique(c["routing"][arm == there])
        alone = ~np.isin(c["routing"], tables) & (arm == 1 - there) & foreign
        chance[alone] = sure
    return np.asarray(chance)


def _bool(values: Array) -> Mask:
    return np.asarray([bool(v) for v in values.tolist()], bool) if values.dtype == object else values.astype(bool)
