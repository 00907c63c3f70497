"""Whether the comparison itself can be trusted: the shares of the versions, and which labels are missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenure.deploy.rollout.advance import Rollout, Verdict
from tenure.deploy.rollout.counts import MISSING, REQUESTS, SWITCHED, Count, cells, total
from tenure.deploy.rollout.plan import MIN_UNITS
from tenure.stats.gate import missing_log_e
from tenure.stats.mismatch import mismatch_log_e
from tenure.types import Outcome

ASSIGNMENT = "assignment"
HOLD = math.log(1000.0)


def assignment(rollout: Rollout, counts: Sequence[Count]) -> Verdict | None:
    """Say whether the candidate gets the share that routing promises; a mismatch holds (at 0.1 %)."""
    drawn = [c for c in counts if c.gate == REQUESTS and 0.0 < c.rho < 1.0]
    x1, n = sum(c.x1 for c in drawn), sum(c.x1 + c.x0 for c in drawn)
    if n < MIN_UNITS:
        return None
    log_e = sum(mismatch_log_e((c.rho, 1.0 - c.rho), (c.x1, c.x0)) for c in drawn)
    expected = sum(c.rho * (c.x1 + c.x0) for c in drawn)
    noun = {"request": "requests", "unit": "units", "unit_epoch": "units in an epoch"}[rollout.plan.assign]
    said = f"{rollout.candidate} got {x1:,} of {n:,} {noun} where {expected:,.0f} are expected"
    switched = sum(c.x1 for c in counts if c.gate == SWITCHED)
    if switched:
        said = f"{switched:,} {noun} were answered by both versions inside one step"
    holds = switched > 0 or log_e >= HOLD
    if holds:
        said += ": routing or the log is at fault, so the comparison is in doubt"
    outcome = Outcome.WAIT if holds else Outcome.PASS
    numbers = {"log_e": log_e, "log_limit": HOLD, "x1": x1, "n": n, "expected": expected, "switched": switched}
    return Verdict(gate=ASSIGNMENT, outcome=outcome, sentence=said, numbers=numbers, holds=holds)


def missing(rollout: Rollout, counts: Sequence[Count]) -> Verdict | None:
    """Say whether labels go missing alike in both arms, once they are mature; a difference holds (at 0.1 %)."""
    late = [c for c in counts if c.gate == MISSING]
    if not late:
        return None
    log_e = missing_log_e(cells(late, MISSING))
    t = total(late)
    holds = log_e >= HOLD
    said = (
        f"no label in time for {t.x1:,} of {t.n1:,} requests of {rollout.candidate}, {t.x0:,} of {t.n0:,} others"
    )
    if holds:
        said += ": they go missing differently, so the comparison is in doubt"
    return Verdict(
        gate=MISSING,
        outcome=Outcome.WAIT if holds else Outcome.PASS,
        sentence=said,
        numbers={"log_e": log_e, "log_limit": HOLD, "x1": t.x1, "x0": t.x0, "n1": t.n1, "n0": t.n0},
        holds=holds,
    )
