"""What a rollout asks of the routing table."""

from __future__ import annotations

import msgspec
from sqlalchemy.engine import Connection

from tenure.deploy.rollout import store
from tenure.deploy.rollout.advance import ACTIVE, Rollout
from tenure.deploy.router import Assign


class RolloutRouting(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `router.Endpoint` that rollouts decide; fields as there.

    Attributes:
        shadow: share of requests that `shadows` answer unseen.
        granted: whether the candidate automates as the stable version does instead of earning it.
    """

    stable: str | None
    candidate: str | None = None
    share: float = 0.0
    shadows: tuple[str, ...] = ()
    shadow: float = 0.0
    salt: str = "0"
    assign: Assign = "request"
    epoch_s: float = 600.0
    rollout: str | None = None
    warm: tuple[str, ...] = ()
    granted: bool = False


def routing(conn: Connection, endpoint: str, now_us: int) -> RolloutRouting:
    """Return who is stable, who is tried at which share, and who stays warm."""
    stable, rollout = store.stable(conn, endpoint), store.active(conn, endpoint)
    warm = _warm(conn, endpoint, now_us)
    if rollout is None or rollout.state not in ACTIVE:
        return RolloutRouting(stable=stable, warm=tuple(v for v in warm if v != stable))
    step = rollout.plan.steps[rollout.step]
    return RolloutRouting(
        stable=stable,
        candidate=rollout.candidate,
        share=rollout.plan.share(rollout.step),
        shadows=(rollout.candidate,) if step.shadow is not None else (),
        shadow=step.shadow or 0.0,
        salt=rollout.salt,
        assign=rollout.plan.assign,
        epoch_s=rollout.plan.epoch,
        rollout=rollout.id,
        warm=tuple(v for v in warm if v not in (stable, rollout.candidate)),
        granted=rollout.plan.candidate == "granted",
    )


def _warm(conn: Connection, endpoint: str, now_us: int) -> tuple[str, ...]:
    """Return the versions out of force that ended rollouts keep loaded, each once."""
    longest = 366 * 86_400_000_000
    kept = [_left(r) for r in store.ended_since(conn, endpoint, now_us - longest) if _keeps(r, now_us)]
    return tuple(dict.fromkeys(v for v in kept if v is not None))


def _keeps(rollout: Rollout, now_us: int) -> bool:
    return now_us < rollout.updated_us + int(rollout.plan.keep_warm * 1e6)


def _left(rollout: Rollout) -> str | None:
    return rollout.stable if rollout.state == "completed" else rollout.candidate
