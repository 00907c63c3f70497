"""Logged requests as arrays: what is known of each version's answer, and how the plan's own draw falls. Pure.

Where the log's own routing drew by a known salt, the replay draws by the same: a request whose version the plan
would not have changed is then kept for sure. Elsewhere the two draws are independent of one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.deploy.rollout.plan import SAME, Plan
from tenure.deploy.rollout.reactions import Heard
from tenure.deploy.router import Assign, Endpoint, Policy, unit_key
from tenure.seeds import draw, request_draw
from tenure.types import Level

SALT = "replay"
NEVER = np.iinfo(np.int64).max
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Arms:
    """One boolean per request for each version."""

    candidate: Mask
    stable: Mask


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """How the log's own rollout drew from `since_ns` until `until_ns`."""

    salt: str
    assign: Assign
    epoch: float
    since_ns: int
    until_ns: int


@dataclass(frozen=True)
class Labels:
    """What people were asked about each request, (n,) arrays.

    Attributes:
        asked: whether they were.
        drawn: of these, those drawn before routing, whichever version answered.
        blind: of these, those whose reader did not see the answer.
        told: whether there is a truth.
        resolved_ns: when it was judged; `NEVER` otherwise.
        closed_ns: when nobody had to judge it any more, judged or expired; `NEVER` while it is open.
    """

    asked: Mask
    drawn: Mask
    blind: Mask
    told: Mask
    resolved_ns: Ints
    closed_ns: Ints


@dataclass(frozen=True)
class Traffic:
    """Requests in order of time, (n,) arrays.

    Attributes:
        run, seq: which request.
        t_ns: when; UTC.
        unit: keyed hash of its unit; 0 = none.
        chance: with which the log's own routing gave it to the candidate.
        known: gate -> whether the log shows this outcome of each version.
        bad: gate -> whether the outcome was bad, where it is known.
        labels: what people were asked.
        values: `number`, `confidence`, `latency_ms` -> of the candidate's and of the stable version's answer, NaN
            where the log does not have it.
        texts: field of a slice -> its value in each request.
        heard: row -> the reactions of clients to the answer that they got.
        origin: how the log itself drew; None = unknown.
        units: name of each request's unit, where the plan draws by units and it is still kept.
    """

    run: npt.NDArray[np.uint64]
    seq: npt.NDArray[np.uint64]
    t_ns: Ints
    unit: npt.NDArray[np.uint64]
    chance: Floats
    known: dict[str, Arms]
    bad: dict[str, Arms]
    labels: Labels
    values: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    texts: dict[str, Sequence[str | None]] = field(default_factory=dict)
    heard: Mapping[int, Heard] = field(default_factory=dict)
    origin: Origin | None = None
    units: Sequence[str | None] = ()


def draws(traffic: Traffic, plan: Plan) -> Floats:
    """Return the plan's own draw of each request, in [0, 1): by request, unit, or unit and epoch."""
    salt = traffic.origin.salt if traffic.origin else SALT
    rows = zip(traffic.run.tolist(), traffic.seq.tolist(), strict=True)
    if plan.assign == "request":
        return np.array([request_draw(salt, run, seq) for run, seq in rows])
    route = Endpoint(None, Policy(0, Level.SHADOW), assign=plan.assign, epoch_s=plan.epoch)
    names = traffic.units or [None] * len(traffic.t_ns)
    found = []
    for (run, seq), unit, name, t_ns in zip(
        rows, traffic.unit.tolist(), names, traffic.t_ns.tolist(), strict=True
    ):
        if not unit:
            found.append(request_draw(salt, run, seq))
        else:
            found.append(draw(salt, unit_key(route, unit=name or f"#{unit}", now_ns=t_ns)))
    return np.array(found)


def coupled(traffic: Traffic, plan: Plan, drawn: Floats) -> Mask:
    """Say of which requests `drawn` is also the log's own draw; of none where the log contradicts that."""
    origin = traffic.origin
    if origin is None:
        return np.zeros(len(drawn), bool)
    mine = (traffic.t_ns >= origin.since_ns) & (traffic.t_ns < origin.until_ns)
    if plan.assign != origin.assign or (plan.assign == "unit_epoch" and plan.epoch != origin.epoch):
        mine &= traffic.unit == 0
    elif plan.assign != "request":
        names = traffic.units or [None] * len(drawn)
        mine &= (traffic.unit == 0) | np.array([bool(name) for name in names], bool)
    answered = traffic.known["over_latency"]  # of the version that the client got
    asked = mine & (answered.candidate | answered.stable) & (np.abs(drawn - traffic.chance) > SAME)
    fits = (drawn < traffic.chance) == answered.candidate
    return mine if bool(fits[asked].all()) else np.zeros(len(drawn), bool)


def kept(traffic: Traffic, gate: str, rows: Ints, *, share: float, same: Mask) -> tuple[Floats, Floats]:
    """Return the chances that the log shows the outcome of a request drawn for the candidate, and for the other.

    Args:
        traffic: the log.
        gate: whose outcome.
        rows: which requests.
        share: the plan's chance of the candidate.
        same: (n,) whether the log drew by the plan's own draw; from `coupled`.
    """
    both = traffic.known[gate].candidate[rows] & traffic.known[gate].stable[rows]
    rho, own = traffic.chance[rows], same[rows]
    new = np.where(own, np.minimum(rho, share) / share if share > 0.0 else 1.0, rho)
    old = np.where(own, (1.0 - np.maximum(rho, share)) / (1.0 - share) if share < 1.0 else 1.0, 1.0 - rho)
    return np.where(both, 1.0, new), np.where(both, 1.0, old)


def epoch_of(plan: Plan, t_ns: int) -> int:
    """Return the epoch of a time; 0 where a unit is drawn once."""
    return t_ns // int(plan.epoch * 1e9) if plan.assign == "unit_epoch" else 0


def coverage(traffic: Traffic) -> dict[str, float]:
    """Return the shares of requests of which the log shows both answers, only one, or neither."""
    new, old = traffic.known["failed"].candidate, traffic.known["failed"].stable
    masks = {"both": new & old, "candidate": new & ~old, "stable": old & ~new, "neither": ~new & ~old}
    return {name: float(mask.mean()) for name, mask in masks.items()}
