"""Named reactions of clients, counted or averaged by the age of the request and never by arrival.

What is remembered is in memory and bounded: reactions to requests from before a restart of the controller, or
behind `LIMIT` younger ones, count for neither version, whichever answered.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from sqlalchemy.engine import Connection

from tenure.deploy.rollout import evidence, moments, observed
from tenure.deploy.rollout.advance import Rollout
from tenure.deploy.rollout.counts import Count, sliced
from tenure.deploy.rollout.plan import Plan, reaction_of
from tenure.deploy.rollout.values import gather
from tenure.scope.project import GateSpec

LIMIT = 1_000_000
SLACK_US = 10_000_000
"""How far the spools of the workers may be apart in time while they are read."""

Key = tuple[int, int]
"""(run, seq) of a request."""

Heard = dict[str, tuple[int, float]]
"""Reaction -> (when the request's first one came, its value)."""


class Waiting(msgspec.Struct, eq=False):
    """A request whose reactions may still come.

    Attributes:
        key: which request.
        t_us: when it came.
        step: in which step.
        candidate: whether the candidate answered.
        unit: of what it was drawn with; the empty text where it was drawn by itself.
        parts: slices that it is in.
        heard: the reactions that came.
    """

    key: Key
    t_us: int
    step: int
    candidate: bool
    unit: str
    parts: tuple[str, ...]
    heard: Heard


class Reactions:
    """The requests of one rollout that wait until its reaction gates are mature."""

    def __init__(self) -> None:
        self._rollout = ""
        self._front_us = 0
        self._requests: dict[Key, Waiting] = {}
        self._order: dict[str, deque[Waiting]] = {}

    def saw(
        self,
        rollout: Rollout,
        run: int,
        columns: observed.Columns,
        versions: Sequence[str],
        parts: Mapping[str, observed.Mask] | None = None,
    ) -> None:
        """Remember the requests of one frame that belong to the step at hand, in order of the log."""
        gates = maturities(rollout.plan)
        if not gates or rollout.plan.is_shadow(rollout.step):
            return
        if self._rollout != _drawn(rollout):
            self.forget()
            self._rollout = _drawn(rollout)
        candidate = columns["role"] == 1
        for i in np.flatnonzero(observed.belongs(rollout, columns, versions)).tolist():
            unit, key = int(columns["unit"][i]), (run, int(columns["seq"][i]))
            mine = tuple(part for part, rows in (parts or {}).items() if rows[i])
            made = Waiting(key, int(columns["t_ns"][i]) // 1000, rollout.step, bool(candidate[i]), "", mine, {})
            made.unit = str(unit) if unit and rollout.plan.assign != "request" else ""
            self._requests[key] = made
            self._front_us = max(self._front_us, made.t_us)
            for gate in gates:
                self._order.setdefault(gate, deque()).append(made)
        while len(self._requests) > LIMIT:
            oldest = self._requests.pop(next(iter(self._requests)))
            for queue in self._order.values():
                if queue and queue[0] is oldest:
                    queue.popleft()

    def heard(self, key: Key, kind: str, value: object, t_us: int) -> None:
        """Note a request's first reaction of a kind; `false` is none. Without a number its value is 1."""
        waiting = self._requests.get(key)
        if waiting is not None and note(waiting.heard, kind, value, request_us=waiting.t_us, t_us=t_us):
            self._front_us = max(self._front_us, t_us)

    def outstanding(self, rollout: Rollout) -> dict[str, int]:
        """Return how many requests each gate of this rollout still waits for; any thread may ask."""
        if self._rollout != _drawn(rollout):
            return {}
        return {gate: len(queue) for gate, queue in list(self._order.items())}

    def count(self, conn: Connection, rollout: Rollout, now_us: int) -> None:
        """Add the requests that are older than their gate's maturity to the evidence, in order.

        Their age is that which the log has reached, so that a controller that catches up counts alike.
        """
        if self._rollout != _drawn(rollout):
            return
        ripe: list[Waiting] = []
        for gate, seconds in maturities(rollout.plan).items():
            queue, mature = self._order.get(gate, deque()), []
            old = old_us(min(now_us, self._front_us), seconds)
            while queue and queue[0].t_us <= old:
                mature.append(queue.popleft())
            if mature:
                _count(conn, rollout, gate, mature, now_us)
                ripe += mature
        still = {id(w) for queue in self._order.values() for w in queue} if ripe else set()
        for waiting in ripe:
            if id(waiting) not in still:
                self._requests.pop(waiting.key, None)

    def forget(self) -> None:
        """Drop everything, after a transaction that was rolled back."""
        self._requests.clear()
        self._order.clear()
        self._rollout = ""


def note(heard: Heard, kind: str, value: object, *, request_us: int, t_us: int) -> bool:
    """Note a reaction that counts: not `false`, not before its request, the first of its kind that is told."""
    if value is False or t_us < request_us:
        return False
    heard.setdefault(kind, (t_us, _number(value)))
    return True


def old_us(now_us: int, maturity: float) -> int:
    """Return the time of the youngest request that counts at `now_us`, of a gate with a maturity in seconds."""
    return now_us - SLACK_US - int(maturity * 1e6)


def value_of(spec: GateSpec, request_us: int, heard: Heard) -> float | None:
    """Return the value of a request's reaction, None where none came in time."""
    at, value = heard.get(reaction_of(spec) or "", (None, 0.0))
    return value if at is not None and at <= request_us + int(spec.maturity * 1e6) else None


def _drawn(rollout: Rollout) -> str:
    """Return the rollout with the salt that it draws by: what is remembered belongs to this."""
    return f"{rollout.id}:{rollout.salt}"


def maturities(plan: Plan) -> Mapping[str, float]:
    """Return the gates of a plan on reactions with the age at which their requests count, in seconds."""
    return {g.name: g.maturity for g in plan.gates if reaction_of(g) is not None}


def _count(conn: Connection, rollout: Rollout, name: str, mature: Sequence[Waiting], now_us: int) -> None:
    spec = next(gate for gate in rollout.plan.gates if gate.name == name)
    for part in ("", *dict.fromkeys(part for w in mature for part in w.parts)):
        inside = [w for w in mature if not part or part in w.parts]
        if spec.mean:
            _add_values(conn, rollout, spec, inside, part, now_us)
        else:
            _count_bad(conn, rollout, spec, inside, part)


def _count_bad(conn: Connection, rollout: Rollout, spec: GateSpec, mature: Sequence[Waiting], part: str) -> None:
    gate = sliced(spec.name, part)
    cells: dict[tuple[int, float], list[int]] = {}
    for w in mature:
        cells.setdefault((w.step, rollout.plan.share(w.step)), [0, 0, 0, 0])[2 if w.candidate else 3] += 1
    bad = [w for w in mature if value_of(spec, w.t_us, w.heard) is not None]
    touches = [observed.Touch(gate, w.unit, _epoch(rollout.plan, w), w.candidate) for w in bad]
    for w, rho in zip(bad, evidence.chances(conn, rollout, touches, [w.step for w in bad]), strict=True):
        if rho is not None:
            cells.setdefault((w.step, rho), [0, 0, 0, 0])[0 if w.candidate else 1] += 1
    for (step, rho), c in cells.items():
        count = Count(step=step, gate=gate, rho=rho, x1=c[0], x0=c[1], n1=c[2], n0=c[3])
        evidence.increase(conn, rollout.id, count)


def _add_values(
    conn: Connection, rollout: Rollout, spec: GateSpec, mature: Sequence[Waiting], part: str, now_us: int
) -> None:
    """Add the values that reactions had; a request without one has 0: nobody reacted."""
    for step in sorted({w.step for w in mature}):
        here = [w for w in mature if w.step == step]
        values = gather(
            spec,
            np.array([value_of(spec, w.t_us, w.heard) or 0.0 for w in here]),
            np.array([w.candidate for w in here], bool),
            units=[w.unit for w in here],
            epochs=[_epoch(rollout.plan, w) for w in here],
        )
        moments.add(conn, rollout.id, step, {sliced(spec.name, part): values}, now_us)


def _number(value: object) -> float:
    """Return a reaction's value; one without a number that can be averaged is 1."""
    try:
        number = float(value) if isinstance(value, (int, float)) else 1.0
    except OverflowError:
        return 1.0
    return number if math.isfinite(number) else 1.0


def _epoch(plan: Plan, waiting: Waiting) -> int:
    return waiting.t_us // int(plan.epoch * 1e6) if plan.assign == "unit_epoch" else 0
