"""A small endpoint with versions, made-up prediction rows and review items, on a real state database."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.records import Flag, Status
from tenure.data.state import State, dumps
from tenure.deploy.rollout.advance import Rollout
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.plan import Plan
from tenure.scope.project import EndpointSpec, GateSpec, Step

NAME, V1, V2, V3 = "phones", "v1@1", "v2@2", "v3@3"
VERSIONS = (V1, V2, V3)
SHADOW, FIVE, HALF, ALL = Step(shadow=1.0), Step(share=0.05), Step(share=0.5), Step(share=1.0)
FAILED, LATE, WRONG = GateSpec(bad="failed"), GateSpec(bad="over_latency"), GateSpec(bad="wrong_decision")
Columns = dict[str, npt.NDArray[Any]]


def plan(*steps: Step, **fields: Any) -> Plan:
    return Plan(steps=steps or (FIVE, HALF, ALL), **({"gates": (FAILED,)} | fields))


def rollout(chosen: Plan, **fields: Any) -> Rollout:
    usual: dict[str, Any] = {
        "id": "r-1", "endpoint": NAME, "candidate": V2, "stable": V1, "evidence_key": "k", "state": "running",
        "step": 0, "step_started_us": 0, "salt": "s", "attempt": 1, "reason": "", "created_us": 0,
        "updated_us": 0, "created_by": "ann",
    }  # fmt: skip
    return Rollout(plan=chosen, **(usual | fields))


def ledger(state: State, *, stable: str | None = V1) -> Rollouts:
    """Return rollouts over three registered versions, one of them in force."""
    made = Rollouts(state, {NAME: EndpointSpec(input="record")})
    with state.begin() as conn:
        for version in VERSIONS:
            row = {
                "id": version, "endpoint": NAME, "name": version, "sha": version, "manifest": "{}",
                "provenance": "{}", "state": "registered", "created_us": 0, "created_by": "ann",
            }  # fmt: skip
            conn.execute(t.versions.insert().values(**row))
        made.set_stable(conn, NAME, stable, "ann")
    return made


def rows(candidate: list[bool], share: float, at_ns: int, **columns: Any) -> Columns:
    """Return prediction rows as the log has them: the chance is that of the version that answered."""
    hit = np.array(candidate, bool)
    n = len(hit)
    made: Columns = {
        "t_ns": np.full(n, at_ns, "<i8"),
        "version": hit.astype("<u2"),
        "role": hit.astype("u1"),
        "share": np.where(hit, share, 1.0 - share).astype("<f4"),
        "status": np.full(n, Status.OK, "u1"),
        "flags": np.zeros(n, "<u2"),
        "unit": np.zeros(n, "<u8"),
    }
    return made | {name: np.asarray(value, made[name].dtype) for name, value in columns.items()}


def failing(bad: list[bool]) -> list[int]:
    return [int(Status.FAILED if b else Status.OK) for b in bad]


def late(bad: list[bool]) -> list[int]:
    return [int(Flag.OVER_BUDGET) if b else 0 for b in bad]


def feed(rollouts: Rollouts, *, bad1: int, n1: int, bad0: int, n0: int) -> None:
    """Let the log show `n1` requests of the candidate, `bad1` of them failed, and the same of the stable one."""
    with rollouts.state.begin() as conn:
        now = rollouts.active(conn, NAME)
        assert now is not None
        columns = rows(
            [True] * n1 + [False] * n0,
            now.plan.share(now.step),
            rollouts.state.clock.now_ns(),
            status=failing([i < bad1 for i in range(n1)] + [i < bad0 for i in range(n0)]),
            version=[VERSIONS.index(now.candidate)] * n1 + [VERSIONS.index(now.stable or V1)] * n0,
        )
        rollouts.observe(conn, rollouts.observed(NAME, now, columns, VERSIONS))


def item(conn: Connection, number: int, *, truth: str | None, said: str = "good", **fields: Any) -> None:
    """Put a drawn, resolved item with its version's automated answer into the queue's tables."""
    row: dict[str, Any] = {
        "id": f"i{number}", "number": number, "endpoint": NAME, "kind": "audit", "state": "resolved", "blind": 1,
        "required": 1, "pending": 0, "priority": 0.0, "audit_prob": 0.5, "unit": "", "policy": 1,
        "level": "partial", "version": V1, "rollout": None, "arm": "stable", "share": 1.0, "lottery": 1,
        "media_type": "application/json", "created_us": 0, "deadline_us": 0, "resolution": number,
        "truth": None if truth is None else dumps(truth),
    }  # fmt: skip
    row |= {"state": "open", "resolution": None} if truth is None else {}
    row |= fields
    conn.execute(t.review_items.insert().values(**row))
    answer(conn, row["id"], row["version"], said)


def answer(conn: Connection, number: str, version: str, said: str, *, role: str = "primary") -> None:
    row = {
        "item": number, "version": version, "role": role, "value": dumps(said), "regions": "[]", "at_us": 0,
        "automated": int(role == "primary"),
    }  # fmt: skip
    conn.execute(t.item_predictions.insert().values(**row))
