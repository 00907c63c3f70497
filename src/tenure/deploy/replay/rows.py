"""Read what the log knows of two versions: their own answers, their shadow answers, and the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
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

_SQL = """
WITH shadowed AS (
    SELECT run, seq, version = $1 AS candidate, any_value(status) AS status, any_value(value) AS value
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
    p.lottery, CASE WHEN p.lottery THEN p.value END AS said, CASE WHEN p.lottery THEN n.value END AS said1,
    CASE WHEN p.lottery THEN o.value END AS said0
FROM predictions p
LEFT JOIN shadowed n ON n.run = p.run AND n.seq = p.seq AND n.candidate
LEFT JOIN shadowed o ON o.run = p.run AND o.seq = p.seq AND NOT o.candidate
WHERE p.endpoint = $3 AND p.t_ns >= $4 AND p.t_ns < $5 AND NOT p.batch
    AND p.status IN ('ok', 'failed', 'not_run')
ORDER BY p.t_ns, p.run, p.seq
"""
Array = npt.NDArray[Any]
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
    log: Log, endpoint: str, *, candidate: str, stable: str, since_ns: int, until_ns: int, truths: Truths
) -> Traffic:
    """Return an endpoint's requests in [since, until) with what is known of each version's answer.

    Raises:
        StoreError: the query takes too long or too much memory; ask for less time.
    """
    given = [candidate, stable, endpoint, since_ns, until_ns]
    table = log.query(_SQL, parameters=given)
    columns: dict[str, Array] = {
        name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names
    }
    return from_columns(columns, truths)


def from_columns(c: dict[str, Array], truths: Truths) -> Traffic:
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
        label_ns=label_ns,
    )  # fmt: skip


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
