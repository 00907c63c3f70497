"""Named reactions of clients as bad outcomes, counted by the age of the request and never by arrival.

What is remembered is in memory and bounded: reactions to requests from before a restart of the controller, or
behind `LIMIT` younger ones, count for neither version, whichever answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from sqlalchemy.engine import Connection

from tenure.deploy.rollout import evidence, observed
from tenure.deploy.rollout.advance import Rollout
from tenure.deploy.rollout.judge import Count
from tenure.deploy.rollout.plan import Plan, reaction_of

LIMIT = 1_000_000
SLACK_US = 10_000_000
"""How far the spools of the workers may be apart in time while they are read."""

Key = tuple[int, int]
"""(run, seq) of a request."""


class Waiting(msgspec.Struct, eq=False):
    """A request whose reactions may still come; `heard`: gate -> when its first reaction came."""

    key: Key
    t_us: int
    step: int
    candidate: bool
    unit: str
    heard: dict[str, int]


class Reactions:
    """The requests of one rollout that wait until its reaction gates are mature."""

    def __init__(self) -> None:
        self._rollout = ""
        self._front_us = 0
        self._requests: dict[Key, Waiting] = {}
        self._order: dict[str, deque[Waiting]] = {}

    def saw(
        self, rollout: Rollout, run: int, columns: observed.Columns, versions: Sequence[str]
    ) -> None:  # fmt: skip
        """Remember the requests of one frame that belong to the step at hand, in order of the log."""
        gates = maturities(rollout.plan)
        if not gates or rollout.plan.is_shadow(rollout.step):
            return
        if self._rollout != f"{rollout.id}:{rollout.salt}":
            self.forget()
            self._rollout = f"{rollout.id}:{rollout.salt}"
        candidate = columns["role"] == 1
        for i in np.flatnonzero(observed.belongs(rollout, columns, versions)).tolist():
            unit, key = int(columns["unit"][i]), (run, int(columns["seq"][i]))
            made = Waiting(key, int(columns["t_ns"][i]) // 1000, rollout.step, bool(candidate[i]), "", {})
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
        """Note a reaction; `false` is none."""
        waiting = self._requests.get(key)
        if waiting is not None and value is not False and t_us >= waiting.t_us:
            waiting.heard.setdefault(f"reaction:{kind}", t_us)
            self._front_us = max(self._front_us, t_us)

    def outstanding(self) -> dict[str, int]:
        """Return how many requests each gate still waits for."""
        return {gate: len(queue) for gate, queue in self._order.items()}

    def count(self, conn: Connection, rollout: Rollout, now_us: int) -> None:
        """Add the requests that are older than their gate's maturity to the evidence, in order.

        Their age is that which the log has reached, so that a controller that catches up counts alike.
        """
        if self._rollout != f"{rollout.id}:{rollout.salt}":
            return
        ripe: list[Waiting] = []
        for gate, seconds in maturities(rollout.plan).items():
            queue, mature = self._order.get(gate, deque()), []
            old = min(now_us, self._front_us) - SLACK_US - int(seconds * 1e6)
            while queue and queue[0].t_us <= old:
                mature.append(queue.popleft())
            if mature:
                _count(conn, rollout, gate, mature)
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


def maturities(plan: Plan) -> Mapping[str, float]:
    """Return the reaction gates of a plan with the age at which their requests count, in seconds."""
    return {g.bad: g.maturity for g in plan.gates if reaction_of(g.bad) is not None}


def _count(conn: Connection, rollout: Rollout, gate: str, mature: Sequence[Waiting]) -> None:
    cells: dict[tuple[int, float], list[int]] = {}
    last = int(maturities(rollout.plan)[gate] * 1e6)
    bad = [w for w in mature if w.heard.get(gate, w.t_us + last + 1) <= w.t_us + last]
    for w in mature:
        cells.setdefault((w.step, rollout.plan.share(w.step)), [0, 0, 0, 0])[2 if w.candidate else 3] += 1
    touches = [_touch(rollout.plan, gate, w) for w in bad]
    for w, rho in zip(bad, evidence.chances(conn, rollout, touches, [w.step for w in bad]), strict=True):
        if rho is not None:
            cells.setdefault((w.step, rho), [0, 0, 0, 0])[0 if w.candidate else 1] += 1
    for (step, rho), c in cells.items():
        count = Count(step=step, gate=gate, rho=rho, x1=c[0], x0=c[1], n1=c[2], n0=c[3])
        evidence.increase(conn, rollout.id, count)


def _touch(plan: Plan, gate: str, waiting: Waiting) -> observed.Touch:
    epoch = waiting.t_us // int(plan.epoch * 1e6) if plan.assign == "unit_epoch" else 0
    return observed.Touch(gate, waiting.unit, epoch, waiting.candidate)
