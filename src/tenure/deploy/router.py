"""Which version answers a request: the routing table is a value, assignment is a pure function of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from tenure.seeds import draw, request_draw
from tenure.types import Level

Assign = Literal["request", "unit", "unit_epoch"]


class Policy(msgspec.Struct, frozen=True):
    """How much is automated, in one immutable, numbered value.

    Attributes:
        id: number of this policy; every decision names it.
        level: degree of automation.
        thresholds: version -> output label (or `*` for any) -> least confidence at which the model decides
            by itself. A version or label that is absent is never automated at `partial`.
        audit: share of automated decisions that a person checks, in [0, 1].
        blind: share of reviewed items whose reviewer does not see the model's answer, in [0, 1].
        valid_until_ns: wall time at which the certificates behind it lapse; 0 = no end.
        salt: salt of the audit, blind and lottery draws.
        segment: the part of the cases that it is for; empty = all without a policy of their own.
    """

    id: int
    level: Level
    thresholds: dict[str, dict[str, float]] = {}
    audit: float = 0.1
    blind: float = 1.0
    valid_until_ns: int = 0
    salt: str = "policy"
    segment: str = ""


class Endpoint(msgspec.Struct, frozen=True):
    """The routing of one endpoint.

    Attributes:
        stable: the version in force; None while only people decide.
        candidate: the version that a rollout tries; None without one.
        share: chance in [0, 1] that the candidate answers.
        shadows: versions that answer after the reply and are never returned.
        shadow: share of the requests that they answer, in [0, 1].
        assign: what is drawn: each request, each unit once per salt, or each unit once per epoch.
        salt: shares never shrink inside one salt except to 0.
        epoch_s: seconds of an epoch, for `unit_epoch`.
        warm: versions kept loaded so that a rollback is instant.
        rollout: id of the running rollout.
        segments: policies of the segments that have a degree of automation of their own.
    """

    stable: str | None
    policy: Policy
    candidate: str | None = None
    share: float = 0.0
    shadows: tuple[str, ...] = ()
    shadow: float = 1.0
    assign: Assign = "request"
    salt: str = "0"
    epoch_s: float = 600.0
    warm: tuple[str, ...] = ()
    rollout: str | None = None
    segments: dict[str, Policy] = {}

    def policy_of(self, segment: str) -> Policy:
        """Return the policy that rules on a segment: its own, else the endpoint's."""
        return self.segments.get(segment, self.policy)

    def versions(self) -> tuple[str, ...]:
        """Every version that a worker must hold ready, each once."""
        named = (self.stable, self.candidate, *self.shadows, *self.warm)
        return tuple(dict.fromkeys(v for v in named if v is not None))


class Table(msgspec.Struct, frozen=True):
    """The routing table: swapped whole, never edited. `made_ns` is wall time."""

    version: int
    made_ns: int
    endpoints: dict[str, Endpoint] = {}


class Assignment(msgspec.Struct, frozen=True):
    """Who answers one request, with the chance of that known before the outcome."""

    version: str | None
    role: Literal["stable", "candidate"]
    share: float


def assign(route: Endpoint, *, request: tuple[int, int], unit: str | None, now_ns: int) -> Assignment:
    """Say which version answers a request (run, seq).

    The candidate answers iff a draw is below `share`: `seeds.request_draw(salt, run, seq)` for each request,
    `seeds.draw(salt, key)` with the `unit_key` for units. Without a unit, `unit` and `unit_epoch` fall back to
    the request.

    Example:
        >>> assign(Endpoint("a@1", Policy(1, Level.FULL)), request=(1, 1), unit=None, now_ns=0).version
        'a@1'
    """
    if route.candidate is None or route.share <= 0.0:
        return Assignment(route.stable, "stable", 1.0)
    if route.share >= 1.0:
        return Assignment(route.candidate, "candidate", 1.0)
    if route.assign == "request" or not unit:
        drawn = request_draw(route.salt, *request)
    else:
        drawn = draw(route.salt, unit_key(route, unit=unit, now_ns=now_ns))
    if drawn < route.share:
        return Assignment(route.candidate, "candidate", route.share)
    return Assignment(route.stable, "stable", 1.0 - route.share)


def unit_key(route: Endpoint, *, unit: str, now_ns: int) -> str:
    """Return what is hashed for a unit, so that the log can be checked against the hash."""
    if route.assign == "unit":
        return f"u:{unit}"
    return f"e:{unit}:{int(now_ns // int(route.epoch_s * 1e9))}"
