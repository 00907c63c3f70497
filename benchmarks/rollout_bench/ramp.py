"""One ramp under one method: who answers what, what is counted, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from rollout_bench.traffic import BASE, HORIZON, PER_STEP, SHARES, Traffic
from tenure.deploy.rollout import evidence
from tenure.deploy.rollout.counts import REQUESTS, Count
from tenure.deploy.rollout.plan import Plan
from tenure.scope.project import GateSpec, Step

ALPHA = 0.05
GATE = "failed"
LOOK = 500
"""Requests of both versions between two looks."""

Said = Literal["hold", "go", "rollback"]
Mask = npt.NDArray[np.bool_]


def plan(*, sticky: bool) -> Plan:
    """Return the plan that every method follows: 1-5-10-25-50 %, each step 20,000 requests, then everything."""
    ramp = tuple(Step(share=share, min=round(share * PER_STEP)) for share in SHARES)
    return Plan(
        steps=(*ramp, Step(share=1.0)),
        gates=(GateSpec(bad=GATE, alpha=ALPHA),),
        assign="unit" if sticky else "request",
    )


@dataclass
class Seen:
    """What a method may look at.

    Attributes:
        step: at hand.
        here: requests of both versions in this step.
        window: (bad, all) of the candidate since the last look.
        x1, n1, x0, n0: raw requests, bad and all, of both versions over the ramp.
        counts: evidence as tenure counts it: each request, or each sticky unit once per step with its chance
            given what it did before (`evidence.chance`).
    """

    plan: Plan
    step: int = 0
    here: int = 0
    window: tuple[int, int] = (0, 0)
    x1: int = 0
    n1: int = 0
    x0: int = 0
    n0: int = 0
    counts: dict[tuple[int, str, float], list[int]] = field(default_factory=dict)
    earlier: dict[int, dict[int, bool]] = field(default_factory=dict)
    met: dict[int, int] = field(default_factory=dict)

    def evidence(self) -> list[Count]:
        return [
            Count(step=s, gate=g, rho=rho, x1=c[0], x0=c[1], n1=c[2], n0=c[3])
            for (s, g, rho), c in self.counts.items()
        ]

    def cells(self) -> list[Count]:
        """Return the counts of bad outcomes that say anything."""
        return [c for c in self.evidence() if c.gate == GATE and 0.0 < c.rho < 1.0 and (c.x1 or c.x0)]


class Method(Protocol):
    """A rule that looks every `LOOK` requests."""

    def look(self, seen: Seen) -> Said:
        """Say whether to roll back, to go on by the schedule, or to hold the step."""
        ...


@dataclass(frozen=True)
class End:
    """How one ramp ended.

    Attributes:
        state: `promoted`, `rolled_back` or `stuck`.
        requests: of both versions until then.
        bad: bad answers that the candidate gave until then.
    """

    state: str
    requests: int
    bad: int


def run(traffic: Traffic, harm: float, method: Method) -> End:
    """Run a ramp; the candidate fails `harm` times as often."""
    seen = Seen(plan(sticky=traffic.sticky))
    for start in range(0, HORIZON, LOOK):
        part = slice(start, start + LOOK)
        hit = traffic.draw[part] < seen.plan.share(seen.step)
        bad = traffic.luck[part] < np.where(hit, BASE * harm, BASE)
        _count(seen, traffic.unit[part], hit, bad, sticky=traffic.sticky)
        said = method.look(seen)
        if said == "rollback":
            return End("rolled_back", start + LOOK, seen.x1)
        if said == "go":
            seen.step, seen.here = seen.step + 1, 0
            if seen.step == len(SHARES):
                return End("promoted", start + LOOK, seen.x1)
    return End("stuck", HORIZON, seen.x1)


def _count(seen: Seen, unit: npt.NDArray[np.int64], hit: Mask, bad: Mask, *, sticky: bool) -> None:
    four = [int(m.sum()) for m in (bad & hit, bad & ~hit, hit, ~hit)]
    seen.x1, seen.x0, seen.n1, seen.n0 = (
        seen.x1 + four[0], seen.x0 + four[1], seen.n1 + four[2], seen.n0 + four[3],
    )  # fmt: skip
    seen.window = four[0], four[2]
    seen.here += len(hit)
    share = seen.plan.share(seen.step)
    if not sticky:
        _add(seen, GATE, share, four)
        _add(seen, REQUESTS, share, [four[2], four[3], four[2], four[3]])
        return
    for at in np.unique(unit, return_index=True)[1].tolist():
        who, arm = int(unit[at]), 0 if hit[at] else 1
        if seen.met.get(who) == seen.step:
            continue
        if who not in seen.met:
            _add(seen, REQUESTS, share, [1 - arm, arm, 0, 0])
        seen.met[who] = seen.step
        _add(seen, GATE, share, [0, 0, 1 - arm, arm])
    _add(seen, REQUESTS, share, [0, 0, four[2], four[3]])
    for at in np.flatnonzero(bad).tolist():
        before = seen.earlier.setdefault(int(unit[at]), {})
        rho = evidence.chance(seen.plan, seen.step, before, seen.step)
        if rho is not None:
            before[seen.step] = bool(hit[at])
            _add(seen, GATE, round(rho, 6), [int(hit[at]), int(not hit[at]), 0, 0])


def _add(seen: Seen, gate: str, rho: float, four: list[int]) -> None:
    row = seen.counts.setdefault((seen.step, gate, rho), [0, 0, 0, 0])
    for i, n in enumerate(four):
        row[i] += n
