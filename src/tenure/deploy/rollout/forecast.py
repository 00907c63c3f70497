"""When the step at hand can be decided if the traffic goes on as so far; an estimate, never a gate."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tenure.deploy.rollout.advance import Progress, Rollout, Verdict, of_gates, weight
from tenure.deploy.rollout.observed import EVERY_REQUEST
from tenure.types import Outcome


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What is missing until the step can be decided.

    Attributes:
        requests: more requests of both versions; None where that cannot be said.
        seconds: at the step's traffic so far; None where that cannot be said.
        sentence: both, in words.
    """

    requests: int | None
    seconds: float | None
    sentence: str


def forecast(rollout: Rollout, verdicts: Sequence[Verdict], progress: Progress, now_us: int) -> Forecast:
    """Return when every count that the step wants is there; approvals are a person's and not foreseen.

    A gate that waits for a proof is continued at the rate at which its evidence grew so far.
    """
    step, spent = rollout.plan.steps[rollout.step], max(0, now_us - rollout.step_started_us) / 1e6
    bake = max(0.0, step.bake - spent)
    wanted = [_of_min(rollout, progress), _of_labels(rollout, progress)]
    wanted += [_of_gate(rollout, v, progress) for v in verdicts if v.outcome in (Outcome.WAIT, Outcome.NO_DATA)]
    if any(n is None for n in wanted):
        return _unknown(rollout, verdicts)
    requests = int(max([0.0, *(n for n in wanted if n is not None)]))
    if requests and (progress.requests == 0 or spent == 0.0):
        said = f"decidable in about {_round(requests):,} requests; no traffic in this step yet to say when"
        return Forecast(requests=requests, seconds=None, sentence=said)
    seconds = max(bake, requests * spent / progress.requests if requests else 0.0)
    if requests == 0 and bake == 0.0:
        return Forecast(requests=0, seconds=0.0, sentence="every count that the step wants is there")
    what = f"about {_round(requests):,} requests, " if requests else ""
    said = f"decidable in {what}about {_time(seconds)} at the traffic of this step"
    return Forecast(requests=requests, seconds=seconds, sentence=said)


def _of_min(rollout: Rollout, progress: Progress) -> float | None:
    missing = rollout.plan.steps[rollout.step].min / weight(rollout) - progress.requests
    return max(0.0, missing)


def _of_labels(rollout: Rollout, progress: Progress) -> float | None:
    missing = rollout.plan.steps[rollout.step].min_labels - progress.labels
    if missing <= 0:
        return 0.0
    return missing * progress.requests / progress.labels if progress.labels else None


def _of_gate(rollout: Rollout, verdict: Verdict, progress: Progress) -> float | None:
    """Return how many more requests a gate needs, at the share of them that it counted so far."""
    seen = verdict.numbers.get("n1", 0) + verdict.numbers.get("n0", 0)
    if verdict.holds or verdict not in of_gates(rollout, [verdict]):
        return 0.0  # a doubt is answered by people, not by waiting; a slice need not have enough
    if (missing := verdict.numbers.get("missing")) is not None:
        if verdict.gate in EVERY_REQUEST:
            return float(missing)
        return float(missing) * progress.requests / seen if seen else None
    grown, limit = verdict.numbers.get("shown_log_e"), verdict.numbers.get("shown_log_limit")
    if grown is None or limit is None or grown <= 0.0:
        return None
    return float(progress.requests * (limit / grown - 1.0))


def _unknown(rollout: Rollout, verdicts: Sequence[Verdict]) -> Forecast:
    waiting = [v.gate for v in verdicts if v.outcome in (Outcome.WAIT, Outcome.NO_DATA) and not v.holds]
    what = ", ".join(name.replace("_", " ") for name in waiting) or "labels"
    said = f"too early to say when it can be decided: not enough is known of {what}"
    return Forecast(requests=None, seconds=None, sentence=said)


def _round(number: float) -> int:
    """Return two leading digits: an estimate is no more exact."""
    unit = 10 ** max(0, len(str(int(number))) - 2)
    return int(-(-number // unit) * unit)


def _time(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"
