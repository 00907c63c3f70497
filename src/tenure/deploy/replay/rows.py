"""Read what the log knows of two versions: their own answers, their shadow answers, and the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.records import decode_id
from tenure.data.view import Log
from tenure.deploy.replay.replay import Arms, Traffic
from tenure.deploy.rollout.plan import WRONG
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
    p.number, p.confidence, p.latency_us, n.number AS number1, n.confidence AS confidence1,
    o.number AS number0, o.confidence AS confidence0, {fields}
    p.lottery, CASE WHEN p.lottery THEN p.value END AS said, CASE WHEN p.lottery THEN n.value END AS said1,
    CASE WHEN p.lottery THEN o.value END AS said0
FROM predictions p
LEFT JOIN shadowed n ON n.run = p.run AND n.seq = p.seq AND n.candidate
LEFT JOIN shadowed o ON o.run = p.run AND o.seq = p.seq AND NOT o.candidate
WHERE p.endpoint = $3 AND p.t_ns >= $4 AND p.t_ns < $5 AND NOT p.batch
    AND p.status IN ('ok', 'failed', 'not_run')
ORDER BY p.t_ns, p.run, p.seq
"""
_FIELDS = "p.record, p.unit AS unit_text,"
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Truths = Mapping[tuple[int, int], tuple[str, int]]
"""(run, seq) -> (JSON of the truth, when it was known in ns)."""


def truths(conn: Connection, endpoint: str, *, secret: bytes, since_us: int, until_us: int) -> Truths:
    """Return the truths of requests that were drawn before routing and read blind: no version chose them.

    Args:
        conn: of the control state.
        endpoint: name.
        secret: the project's, behind its ids.
        since_us: first time of a request.
        until_us: the time after the last.
    """
    i = t.review_items.c
    query = sa.select(i.id, i.truth, i.resolved_us).where(
        i.endpoint == endpoint, i.state == "resolved", i.lottery == 1, i.blind == 1, i.truth.is_not(None),
        i.created_us >= since_us, i.created_us < until_us,
    )  # fmt: skip
    found = {}
    for row in conn.execute(query):
        key = decode_id(row.id, secret)
        if key is not None:
            found[key] = row.truth, int(row.resolved_us or 0) * 1000
    return found


def traffic(
    log: Log, endpoint: str, *, candidate: str, stable: str, since_ns: int, until_ns: int, truths: Truths,
    by: Sequence[str] = (),
) -> Traffic:  # fmt: skip
    """Return an endpoint's requests in [since, until) with what is known of each version's answer.

    `by`: fields of the plan's slices, whose values are then read too.

    Raises:
        StoreError: the query takes too long or too much memory; ask for less time.
    """
    given = [candidate, stable, endpoint, since_ns, until_ns]
    table = log.query(_SQL.format(fields=_FIELDS if by else ""), parameters=given)
    columns: dict[str, Array] = {
        name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names
    }
    return from_columns(columns, truths, by)


def from_columns(c: dict[str, Array], truths: Truths, by: Sequence[str] = ()) -> Traffic:
    """Return traffic from the columns of the query."""
    arm, n = c["arm"].astype(np.int8), len(c["arm"])
    mine1, mine0 = arm == 1, arm == 0
    shadow1, shadow0 = _bool(c["shadow1"]) & ~mine1, _bool(c["shadow0"]) & ~mine0
    answered = Arms(mine1 | shadow1, mine0 | shadow0)
    failed, empty = _bool(c["failed"]), _bool(c["empty"])
    never = np.zeros(n, bool)
    bad = {
        "failed": Arms(
            np.where(mine1, failed, _bool(c["failed1"])), np.where(mine0, failed, _bool(c["failed0"]))
        ),
        "empty_output": Arms(
            np.where(mine1, empty, _bool(c["empty1"])), np.where(mine0, empty, _bool(c["empty0"]))
        ),
        "over_latency": Arms(_bool(c["over_budget"]) & mine1, _bool(c["over_budget"]) & mine0),
        WRONG: Arms(never.copy(), never.copy()),
    }
    label_ns = np.zeros(n, np.int64)
    for i in np.flatnonzero(_bool(c["lottery"])).tolist():
        truth, label_ns[i] = truths.get((int(c["run"][i]), int(c["seq"][i])), ("", 0))
        if label_ns[i]:
            bad[WRONG].candidate[i] = _differs(c["said"][i] if mine1[i] else c["said1"][i], truth)
            bad[WRONG].stable[i] = _differs(c["said"][i] if mine0[i] else c["said0"][i], truth)
    known = dict.fromkeys(bad, answered) | {"over_latency": Arms(mine1, mine0)}
    return Traffic(
        run=c["run"].astype(np.uint64), seq=c["seq"].astype(np.uint64), t_ns=c["t_ns"].astype(np.int64),
        unit=c["unit"].astype(np.uint64), chance=_chance(c, arm), known=known, bad=bad,
        label_ns=label_ns, values=_values(c, mine1, mine0), texts=_texts(c, by),
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


def _chance(c: dict[str, Array], arm: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """Return the chance with which the log's own routing gave each request to the candidate.

    Under a routing table whose rows show one of the two only, the other had no chance: a third version had it.
    """
    share = c["share"].astype(np.float64)
    chance = np.where(arm == 1, share, np.where(arm == 0, 1.0 - share, 0.0))
    for there, sure in ((1, 0.0), (0, 1.0)):
        tables = np.unique(c["routing"][arm == there])
        alone = ~np.isin(c["routing"], tables) & (arm == 1 - there)
        chance[alone] = sure
    return np.asarray(chance)


def _bool(values: Array) -> npt.NDArray[np.bool_]:
    return np.asarray([bool(v) for v in values.tolist()], bool) if values.dtype == object else values.astype(bool)


def _differs(said: str | None, truth: str) -> bool:
    return said is not None and bool(json.loads(said) != json.loads(truth))
