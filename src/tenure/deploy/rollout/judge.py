"""From counts to verdicts: is the candidate worse, and may the step pass? Pure; every verdict can be recomputed.

One e-process per gate runs over the whole ramp, so that looking often and changing the share are both allowed.
The gates' e-values are averaged into one family value, which rolls back (see docs/explanation).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from tenure.deploy.rollout.advance import Rollout, Verdict
from tenure.deploy.rollout.observed import EVERY_REQUEST
from tenure.deploy.rollout.plan import MIN_UNITS, WRONG
from tenure.deploy.rollout.words import amount, words
from tenure.scope.project import GateSpec
from tenure.stats import gate as stats
from tenure.stats import interval
from tenure.stats.constant import above_log_e, below_log_e
from tenure.stats.gate import Cell
from tenure.stats.mismatch import mismatch_log_e
from tenure.types import Outcome

REQUESTS, SWITCHED = "requests", "switched"
MISSING, OUTSTANDING = "missing_labels", "outstanding_labels"
ASSIGNMENT, FAMILY = "assignment", "family"
PAIRED = 0.5
"""Chance of the candidate in shadow: of two answers to one case, which one is the only wrong one?"""

HOLD = math.log(1000.0)


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """One row of evidence: bad outcomes x and counted requests or units n; 1 is the candidate, 0 the stable."""

    step: int
    gate: str
    rho: float
    x1: int = 0
    x0: int = 0
    n1: int = 0
    n0: int = 0


def judge(
    rollout: Rollout, counts: Sequence[Count], reached: Mapping[str, float], *, explain: bool = True
) -> list[Verdict]:
    """Return a verdict per gate, and about the assignment and missing labels where these can be judged.

    Args:
        rollout: its plan and the step it is in.
        counts: all its evidence so far.
        reached: the largest log e-value of each gate and of the family at earlier looks.
        explain: also simulate which increase would have been noticed; the outcomes do not depend on it.
    """
    plan, weights = rollout.plan, rollout.plan.weights()
    now: dict[str, float] = {g.bad: _harm(rollout, counts, g) for g in plan.gates}
    top = {name: max(value, reached.get(name, 0.0)) for name, value in now.items()}
    failed = _failed(rollout, now, top, reached)
    verdicts = []
    for spec in plan.gates:
        case = _Case(rollout, spec, tuple(c for c in counts if c.gate == spec.bad), weights[spec.bad])
        numbers = case.numbers(now[spec.bad], top[spec.bad])
        if spec.bad == failed:
            family = max(_joint(now, weights), reached.get(FAMILY, 0.0))
            verdicts.append(case.fail(numbers, family))
        else:
            verdicts.append(case.judge(numbers, _worst(counts, spec), reached, explain=explain))
    if plan.gates:
        verdicts.append(_family(rollout, now, weights, reached))
    return verdicts + [v for v in (_assignment(rollout, counts), _missing(rollout, counts)) if v is not None]


def _harm(rollout: Rollout, counts: Sequence[Count], spec: GateSpec) -> float:
    if spec.constant is None:
        return stats.harm_log_e(_cells(counts, spec.bad))
    mine = _sum(c for c in counts if c.gate == spec.bad and not rollout.plan.is_shadow(c.step))
    return above_log_e(mine.x1, mine.n1, spec.constant)


def _failed(
    rollout: Rollout, now: Mapping[str, float], top: Mapping[str, float], reached: Mapping[str, float]
) -> str | None:
    """Return the gate that carries the family over its limit, or None."""
    if not now:
        return None
    weights = rollout.plan.weights()
    if max(_joint(now, weights), reached.get(FAMILY, 0.0)) < -math.log(rollout.plan.alpha):
        return None
    return max(top, key=lambda name: top[name] + math.log(weights[name]))


def _joint(now: Mapping[str, float], weights: Mapping[str, float]) -> float:
    return stats.family_log_e(list(now.values()), [weights[name] for name in now])


def _family(
    rollout: Rollout, now: Mapping[str, float], weights: Mapping[str, float], reached: Mapping[str, float]
) -> Verdict:
    log_e, limit = _joint(now, weights), -math.log(rollout.plan.alpha)
    top = max(log_e, reached.get(FAMILY, 0.0))
    outcome = Outcome.FAIL if top >= limit else Outcome.PASS
    sentence = f"all gates together: evidence {amount(top)} of {amount(limit)} at which it rolls back"
    return Verdict(gate=FAMILY, outcome=outcome, sentence=sentence, numbers=_evidence(log_e, top, limit))


class _Case:
    """One gate at one step."""

    def __init__(self, rollout: Rollout, spec: GateSpec, counts: Sequence[Count], weight: float) -> None:
        self.rollout, self.spec, self.counts = rollout, spec, counts
        self.alpha = rollout.plan.alpha * weight
        self.share = rollout.plan.share(rollout.step)
        self.here = _sum(c for c in counts if c.step == rollout.step)
        self.paired = rollout.plan.is_shadow(rollout.step)
        self.total = self.here if self.paired else _sum(c for c in counts if not rollout.plan.is_shadow(c.step))

    def numbers(self, log_e: float, top: float) -> dict[str, float]:
        t = self.total
        return _evidence(log_e, top, -math.log(self.alpha)) | {
            "x1": t.x1, "n1": t.n1, "x0": t.x0, "n0": t.n0, "alpha": self.alpha,
        }  # fmt: skip

    def fail(self, numbers: dict[str, float], family: float) -> Verdict:
        """Say that the gates together fail, most of all by this one."""
        limit = -math.log(self.rollout.plan.alpha)
        said = f"{self._seen()}: evidence {amount(family)} of {amount(limit)} needed; roll back"
        return self._say(Outcome.FAIL, said, numbers | {"family_log_e": family, "family_log_limit": limit})

    def judge(
        self, numbers: dict[str, float], worst: Sequence[Cell], reached: Mapping[str, float], *, explain: bool
    ) -> Verdict:
        """Say pass, wait or no_data of a gate that has not failed."""
        if self.paired and self.spec.bad != WRONG:
            return self._say(Outcome.PASS, "compared from the first share on; the shadow splits nothing", numbers)
        if self.spec.constant is not None:
            return self._against_constant(numbers, self.spec.constant, reached)
        if self.share == 1.0:
            done = f"{self.rollout.candidate} answers all: nothing to compare; {self._evidence(numbers)}"
            return self._say(Outcome.PASS, done, numbers)
        if self.here.n1 == 0:
            what = words(self.spec.bad)[2]
            return self._say(Outcome.NO_DATA, f"no {what} of {self.rollout.candidate} in this step yet", numbers)
        if (few := self._too_few()) is not None:
            return self._say(Outcome.WAIT, few[0], numbers | {"missing": few[1]})
        if self.rollout.plan.advance == "shown":
            return self._shown(numbers, worst, reached)
        if self.spec.missing == "worst_case" and (held := self._worst_case(numbers, worst)) is not None:
            return held
        return self._not_contradicted(numbers, explain=explain)

    def _worst_case(self, numbers: dict[str, float], worst: Sequence[Cell]) -> Verdict | None:
        """Hold where the missing labels, all against the candidate, would be evidence of harm."""
        log_e = stats.harm_log_e(worst)
        numbers = numbers | {"worst_log_e": log_e}
        if log_e < numbers["log_limit"]:
            return None
        said = f"{self._seen()}: with every missing label against {self.rollout.candidate} the evidence were "
        return self._say(
            Outcome.WAIT, f"{said}{amount(log_e)} of {amount(numbers['log_limit'])}; get the labels", numbers
        )

    def _against_constant(
        self, numbers: dict[str, float], constant: float, reached: Mapping[str, float]
    ) -> Verdict:
        if self.here.n1 == 0:
            return self._say(Outcome.NO_DATA, f"nothing of {self.rollout.candidate} to compare yet", numbers)
        aside = "a constant, which randomisation does not protect"
        if self.rollout.plan.advance != "shown":
            said = f"{self._seen()}: not contradicted ({self._evidence(numbers)}); {aside}"
            return self._say(Outcome.PASS, said, numbers)
        bound, limit = (1 + self.spec.margin) * constant, -math.log(self.spec.alpha)
        log_e = below_log_e(self.total.x1, self.total.n1, bound)
        top = max(log_e, reached.get(f"shown:{self.spec.bad}", 0.0))
        numbers = numbers | {"shown_log_e": log_e, "max_shown_log_e": top, "shown_log_limit": limit}
        done = top >= limit
        said = f"{self._seen()}: {'shown' if done else 'not yet shown'} to be below {bound:.3g}; {aside}"
        return self._say(Outcome.PASS if done else Outcome.WAIT, said, numbers)

    def _too_few(self) -> tuple[str, float] | None:
        """Say what is missing, also as a number: a gate that could not have failed here does not pass either."""
        plan = self.rollout.plan
        share = PAIRED if self.paired else self.share
        expected = self.here.n1 if self.paired else (self.here.n1 + self.here.n0) * share
        needed = _events(share, self.alpha)
        what = words(self.spec.bad)[2]
        if plan.assign != "request" and not self.paired and self.spec.bad in EVERY_REQUEST:
            needed, what = MIN_UNITS, "units" if plan.assign == "unit" else "units in an epoch"
        if expected >= needed:
            return None
        said = (
            f"{expected:,.0f} {what} of {self.rollout.candidate} in this step; with fewer than {needed:,} "
            f"{words(self.spec.bad)[1]} could not be told from chance"
        )
        return said, math.ceil((needed - expected) / (1.0 if self.paired else share))

    def _not_contradicted(self, numbers: dict[str, float], *, explain: bool) -> Verdict:
        said = f"{self._seen()}: no evidence of harm ({self._evidence(numbers)})"
        if self.total.x1 + self.total.x0 == 0:
            bound = interval.upper(0, self.total.n1, 0.95)
            said += f"; at most {bound:.2%} at 95 % confidence"
            return self._say(Outcome.PASS, said, numbers | {"upper": bound})
        if explain:
            ratio = _noticeable(_coarse(_cells(self.counts, self.spec.bad)), self.alpha)
            if ratio is None:
                said += "; too few to say which increase would have been noticed"
            else:
                said += f"; {ratio:.1f} times the rate would have been noticed nine times of ten"
                numbers = numbers | {"noticeable": ratio}
        return self._say(Outcome.PASS, said, numbers)

    def _shown(self, numbers: dict[str, float], worst: Sequence[Cell], reached: Mapping[str, float]) -> Verdict:
        margin, limit = self.spec.margin, -math.log(self.spec.alpha)
        log_e = stats.shown_log_e(worst, margin)
        top = max(log_e, reached.get(f"shown:{self.spec.bad}", 0.0))
        numbers = numbers | {"shown_log_e": log_e, "max_shown_log_e": top, "shown_log_limit": limit}
        claim = f"less than {1 + margin:.3g} times the rate of {self.rollout.stable}"
        bad, all_ = self.total.x1 + self.total.x0, self.total.n1 + self.total.n0
        if self.rollout.plan.assign == "unit" and bad > 0.2 * all_:
            return self._say(
                Outcome.WAIT,
                f"{self._seen()}: too many units are bad to show {claim}; use assign: request",
                numbers,
            )
        if top >= limit:
            return self._say(Outcome.PASS, f"{self._seen()}: shown to be {claim}", numbers)
        return self._say(
            Outcome.WAIT,
            f"{self._seen()}: not yet shown to be {claim} ({amount(top)} of {amount(limit)})",
            numbers,
        )

    def _seen(self) -> str:
        t, (one, many, _) = self.total, words(self.spec.bad)
        v1, v0 = self.rollout.candidate, self.rollout.stable
        if self.paired:
            return f"of {t.n1:,} judged requests, {v1} alone was wrong in {t.x1:,} and {v0} alone in {t.x0:,}"
        if self.spec.constant is not None:
            said = f"{t.x1:,} {one if t.x1 == 1 else many} of {v1} in {t.n1:,}"
            return f"{said} against a rate of {self.spec.constant:.3g}"
        by_unit = self.rollout.plan.assign != "request" and self.spec.bad in EVERY_REQUEST
        per = "units" if by_unit else words(self.spec.bad)[2]
        said = f"{t.x1:,} {one if t.x1 == 1 else many} of {v1} in {t.n1:,} {per}"
        return f"{said} against {t.x0:,} of {v0} in {t.n0:,}"

    def _evidence(self, numbers: Mapping[str, float]) -> str:
        return f"evidence {amount(numbers['max_log_e'])} of {amount(numbers['log_limit'])} needed"

    def _say(self, outcome: Outcome, sentence: str, numbers: dict[str, float]) -> Verdict:
        return Verdict(gate=self.spec.bad, outcome=outcome, sentence=sentence, numbers=numbers)


def _assignment(rollout: Rollout, counts: Sequence[Count]) -> Verdict | None:
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


def _missing(rollout: Rollout, counts: Sequence[Count]) -> Verdict | None:
    """Say whether labels go missing alike in both arms, once they are mature; a difference holds (at 0.1 %)."""
    late = [c for c in counts if c.gate == MISSING]
    if not late:
        return None
    log_e = stats.missing_log_e(_cells(late, MISSING))
    t = _sum(late)
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


def _cells(counts: Iterable[Count], gate: str) -> list[Cell]:
    """Return the cells that say anything: with a rho of 0 or 1 an outcome reveals nothing."""
    return [Cell(c.rho, c.x1, c.x0) for c in counts if c.gate == gate and 0.0 < c.rho < 1.0 and (c.x1 or c.x0)]


def _worst(counts: Sequence[Count], spec: GateSpec) -> list[Cell]:
    """Return the gate's cells with every missing label counted against the candidate."""
    cells = _cells(counts, spec.bad)
    if spec.bad != WRONG:
        return cells
    return cells + [Cell(c.rho, c.x1, 0) for c in counts if c.gate == MISSING and c.x1 and 0.0 < c.rho < 1.0]


def _sum(counts: Iterable[Count]) -> Count:
    rows = list(counts)
    sums = {k: sum(getattr(c, k) for c in rows) for k in ("x1", "x0", "n1", "n0")}
    return Count(step=-1, gate="", rho=0.0, **sums)


def _evidence(log_e: float, top: float, limit: float) -> dict[str, float]:
    return {"log_e": log_e, "max_log_e": top, "log_limit": limit}


def _coarse(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Round the stable version's counts down to two digits, so that a simulation serves many looks.

    Fewer counts only make the increase that would have been noticed larger; the candidate's do not matter to it.
    """
    units = ((c, 10 ** max(0, len(str(c.x0)) - 2)) for c in cells)
    return tuple(Cell(c.rho, 0, c.x0 // unit * unit) for c, unit in units)


@lru_cache(maxsize=512)
def _noticeable(cells: tuple[Cell, ...], alpha: float) -> float | None:
    return stats.noticeable_ratio(cells, alpha=alpha)


@lru_cache(maxsize=512)
def _events(share: float, alpha: float) -> int:
    return stats.events_needed(share, alpha)
