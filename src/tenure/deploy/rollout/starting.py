"""Starting a rollout: what has to hold before there is one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from tenure.deploy.rollout import store
from tenure.deploy.rollout.advance import Rollout
from tenure.deploy.rollout.plan import Plan, alone, evidence_key
from tenure.errors import ConflictError
from tenure.seeds import fresh_u64


def check(conn: Connection, endpoint: str, candidate: str) -> str | None:
    """Return the version in force, or None while only people decide.

    Raises:
        ConflictError: a rollout is active, or the candidate is in force.
        MissingError: no such version of this endpoint.
    """
    store.check_version(conn, endpoint, candidate)
    stable = store.stable(conn, endpoint)
    if (busy := store.active(conn, endpoint)) is not None:
        raise ConflictError(
            f"rollout {busy.id} of {endpoint} is {busy.state}; one at a time: end it first", at=endpoint
        )
    if candidate == stable:
        raise ConflictError(f"{candidate} is in force on {endpoint} already", at="candidate")
    return stable


def draft(
    conn: Connection, endpoint: str, candidate: str, *, plan: Plan, wrong: Sequence[str], by: str, now_us: int
) -> Rollout:
    """Write a new rollout in state draft, against the version in force; with none, it is compared with nobody.

    `wrong`: why the plan can show nothing, from `plan.problems`.

    Raises:
        ConflictError: a rollout is active, the candidate is in force, or the plan can show nothing.
        MissingError: no such version of this endpoint.
    """
    stable = check(conn, endpoint, candidate)
    if wrong:
        raise ConflictError("; ".join(wrong), code="plan_shows_nothing", at="plan")
    chosen = plan if stable is not None else alone(plan)
    rollout = Rollout(
        id=f"r-{fresh_u64():016x}",
        endpoint=endpoint,
        candidate=candidate,
        stable=stable,
        plan=chosen,
        evidence_key=evidence_key(candidate, stable, chosen.gates),
        state="draft",
        step=0,
        step_started_us=now_us,
        salt=f"{fresh_u64():016x}",
        attempt=store.attempts(conn, candidate, stable) + 1,
        reason="",
        created_us=now_us,
        updated_us=now_us,
        created_by=by,
    )
    store.insert(conn, rollout)
    return rollout
