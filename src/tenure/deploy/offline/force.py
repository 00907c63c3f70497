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
    segments: dict[str, Policy] = {}


class Rules(msgspec.Struct, frozen=True):
    """How the rows of one chunk are decided; fields as in `records.PREDICTION`.

    `segments` has the rules of rows whose segment has a degree of automation of its own.
    """

    policy: Policy
    level: Level
    routing: int
    role: int
    flags: int
    predict_only: bool
    review: bool
    segments: dict[str, Rules] = {}

    def of(self, segment: str) -> Rules:
        """Return the rules for a row of a segment."""
        return self.segments.get(segment, self)


Force = Callable[[], InForce]


def in_force(
    state: State, automation: Automation, rollouts: Rollouts, endpoint: str, *, write: bool = True
) -> InForce:
    """Read what is in force; a project that was never served gets its first policy, unless `write` is false."""
    with state.read() as conn:
        policy, stable = newest(conn, endpoint), rollouts.stable(conn, endpoint)
        names = [name for name in automation.segments(endpoint) if name]
        own = {name: newest(conn, endpoint, name) for name in names}
        routing = conn.execute(sa.select(sa.func.max(t.routing_tables.c.version))).scalar()
        if policy is None and not write:
            policy = Policy(0, automation.level_in(conn, endpoint))
        if not write:
            own = {n: p or Policy(0, automation.level_in(conn, endpoint, n), segment=n) for n, p in own.items()}
    if policy is None or None in own.values():
        with state.begin() as conn:
            policy = automation.policy(conn, endpoint)
            own = {name: automation.policy(conn, endpoint, name) for name in names}
    return InForce(policy, stable, int(routing or 0), {n: p for n, p in own.items() if p is not None})


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
    flags, other = Flag.BATCH | (Flag(0) if watched else Flag.DEGRADED), version != now.stable

    def under(policy: Policy, segments: dict[str, Rules]) -> Rules:
        level = level_in_force(policy, now_ns=now_ns, watched=watched)
        level = min(level, Level.PARTIAL) if other else level
        return Rules(policy, level, now.routing, int(other), int(flags), predict_only, review, segments)

    return under(now.policy, {name: under(policy, {}) for name, policy in now.segments.items()})


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
