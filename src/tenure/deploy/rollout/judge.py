"""From counts to verdicts: is the candidate worse, and may the step pass? Pure; every verdict can be recomputed.

One e-process per gate, and per gate in each slice, runs over the whole ramp, so that looking often and changing
the share are both allowed. Their e-values are averaged into one family value, which rolls back (see
docs/explanation).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tenure.deploy.rollout import slices
from tenure.deploy.rollout.advance import Rollout, Verdict
from tenure.deploy.rollout.case import Case
from tenure.deploy.rollout.constant_case import ConstantCase
from tenure.deploy.rollout.count_case import CountCase
from tenure.deploy.rollout.counts import Count, Moments
from tenure.deploy.rollout.doubts import assignment, missing
from tenure.deploy.rollout.mean_case import MeanCase
from tenure.deploy.rollout.words import amount
from tenure.scope.project import GateSpec
from tenure.stats import gate as stats
from tenure.types import Outcome

FAMILY = "family"


def judge(
    rollout: Rollout,
    counts: Sequence[Count],
    reached: Mapping[str, float],
    *,
    moments: Sequence[Moments] = (),
    explain: bool = True,
) -> list[Verdict]:
    """Return a verdict per gate and slice, and about the assignment and missing labels where these can be judged.

    Args:
        rollout: its plan and the step it is in.
        counts: all its evidence so far.
        reached: the largest log e-value of each member and of the family at earlier looks.
        moments: all its evidence of means, as at the last look at a fixed time.
        explain: also simulate which increase would have been noticed; the outcomes do not depend on it.
    """
    members = cases(rollout, counts, moments)
    now = {case.name: case.log_e() for case in members}
    top = {name: max(value, reached.get(name, 0.0)) for name, value in now.items()}
    joint = _joint(members, now)
    family = max(joint, reached.get(FAMILY, 0.0))
    failed = _failed(rollout, members, top, family)
    verdicts = []
    for case in members:
        numbers = case.all_numbers(now[case.name], top[case.name])
        if case is failed:
            verdicts.append(case.fail(numbers, family))
        else:
            verdicts.append(case.passes(numbers, reached, explain=explain and not case.part))
    if members:
        verdicts.append(_family(rollout, joint, family))
    return verdicts + [v for v in (assignment(rollout, counts), missing(rollout, counts)) if v is not None]


def cases(rollout: Rollout, counts: Sequence[Count], moments: Sequence[Moments] = ()) -> list[Case]:
    """Return the members of the family that have a slice by now: each gate over all requests, then by slice."""
    plan = rollout.plan
    parts = ("", *slices.seen(plan, counts))
    return [
        _kind(spec)(rollout, spec, part, weight=plan.weight(spec, part), counts=counts, moments=moments)
        for part in parts
        for spec in plan.gates
    ]


def _kind(spec: GateSpec) -> type[Case]:
    if spec.mean:
        return MeanCase
    return CountCase if spec.constant is None else ConstantCase


def _joint(members: Sequence[Case], now: Mapping[str, float]) -> float:
    """Return the family's log e-value; slices that are still to come have an e-value of 1."""
    weights = [case.weight for case in members]
    rest = max(0.0, 1.0 - sum(weights))
    return stats.family_log_e([*(now[case.name] for case in members), 0.0], [*weights, rest]) if members else 0.0


def _failed(rollout: Rollout, members: Sequence[Case], top: Mapping[str, float], family: float) -> Case | None:
    """Return the member that carries the family over its limit, or None."""
    if not members or family < -math.log(rollout.plan.alpha):
        return None
    return max(members, key=lambda case: top[case.name] + math.log(case.weight))


def _family(rollout: Rollout, joint: float, top: float) -> Verdict:
    limit = -math.log(rollout.plan.alpha)
    outcome = Outcome.FAIL if top >= limit else Outcome.PASS
    what = "all gates and slices" if rollout.plan.slices else "all gates"
    sentence = f"{what} together: evidence {amount(top)} of {amount(limit)} at which it rolls back"
    numbers = {"log_e": joint, "max_log_e": top, "log_limit": limit}
    return Verdict(gate=FAMILY, outcome=outcome, sentence=sentence, numbers=numbers)
