"""What is in force for an endpoint now, and what follows from it for the rows of one chunk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import sqlalchemy as sa

from tenure.data import tables as t
from tenure.data.records import Flag
from tenure.data.state import State
from tenure.deploy.automation.ledger import Automation
from tenure.deploy.automation.policies import newest
from tenure.deploy.decide import level_in_force
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.router import Policy
from tenure.deploy.serving.control_page import ControlPage
from tenure.errors import ConflictError
from tenure.types import Level


class InForce(msgspec.Struct, frozen=True):
    """The policy, the stable version and the number of the routing table, as the state database has them."""

    policy: Policy
    stable: str | None
    routing: int = 0


class Rules(msgspec.Struct, frozen=True):
    """How the rows of one chunk are decided; fields as in `records.PREDICTION`."""

    policy: Policy
    level: Level
    routing: int
    role: int
    flags: int
    predict_only: bool
    review: bool


Force = Callable[[], InForce]


def in_force(
    state: State, automation: Automation, rollouts: Rollouts, endpoint: str, *, write: bool = True
) -> InForce:
    """Read what is in force; a project that was never served gets its first policy, unless `write` is false."""
    with state.read() as conn:
        policy, stable = newest(conn, endpoint), rollouts.stable(conn, endpoint)
        routing = conn.execute(sa.select(sa.func.max(t.routing_tables.c.version))).scalar()
        if policy is None and not write:
            policy = Policy(0, automation.level_in(conn, endpoint))
    if policy is None:
        with state.begin() as conn:
            policy = automation.policy(conn, endpoint)
    return InForce(policy, stable, int(routing or 0))


def rules(now: InForce, version: str, *, now_ns: int, watched: bool, predict_only: bool, review: bool) -> Rules:
    """Say how rows are decided, by the rules of the online path.

    A version that is not in force decides only what its own certificate covers, even at level `full`.

    Args:
        now: what is in force.
        version: what scores.
        now_ns: wall time.
        watched: a controller is alive, see `decide.level_in_force`.
        predict_only: as the run was told.
        review: as the run was told.
    """
    level = level_in_force(now.policy, now_ns=now_ns, watched=watched)
    if version != now.stable:
        level = min(level, Level.PARTIAL)
    flags = Flag.BATCH | (Flag(0) if watched else Flag.DEGRADED)
    return Rules(now.policy, level, now.routing, int(version != now.stable), int(flags), predict_only, review)


def check_stable(now: InForce, version: str, *, endpoint: str) -> None:
    """Stop a run whose version went out of force meanwhile, as after a roll-back.

    Raises:
        ConflictError: code `version_changed`.
    """
    if now.stable != version:
        raise ConflictError(
            f"{endpoint} is answered by {now.stable or 'nobody'} now, this run scores with {version}: "
            f"--version {version} goes on with it, --restart scores all rows anew",
            code="version_changed",
            at=endpoint,
        )


def watched(folder: Path, *, hold_s: float, now_ns: int) -> bool:
    """Say whether a controller watches this data folder, as the worker asks it."""
    path = folder / "control.page"
    if not path.is_file():
        return False
    age_ns = now_ns - ControlPage(path).controller_ns
    return -_SKEW_NS <= age_ns <= int(hold_s * 1e9)


_SKEW_NS = 5_000_000_000
