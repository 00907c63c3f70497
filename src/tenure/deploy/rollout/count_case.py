"""A gate that counts bad outcomes of both versions at one time; exact, because the version was drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from tenure.deploy.rollout.advance import Verdict
from tenure.deploy.rollout.case import Case, Numbers
from tenure.deploy.rollout.counts import MISSING, PAIRED, Count, Moments, cells, sliced, total
from tenure.deploy.rollout.observed import EVERY_REQUEST
from tenure.deploy.rollout.plan import MIN_UNITS, WRONG
from tenure.deploy.rollout.words import amount, words
from tenure.stats import gate as stats
from tenure.stats import interval
from tenure.stats.gate import Cell
from tenure.types import Outcome


class CountCase(Case):
    """Bad outcomes of the candidate against those of the stable version."""

    def gather(self, counts: Sequence[Count], moments: Sequence[Moments]) -> None:
        plan, step = self.rollout.plan, self.rollout.step
        self.mine = [c for c in counts if c.gate == self.name]
        late = sliced(MISSING, self.part)
        self.late = [c for c in counts if c.gate == late and 0.0 < c.rho < 1.0] if self.spec.bad == WRONG else []
        self.here = total(c for c in self.mine if c.step == step)
        split = total(c for c in self.mine if not plan.is_shadow(c.step))
        self.total = self.here if self.paired else split

    def log_e(self) -> float:
        return stats.harm_log_e(cells(self.mine, self.name))

    def numbers(self) -> Numbers:
        t = self.total
        found: Numbers = {"x1": t.x1, "n1": t.n1, "x0": t.x0, "n0": t.n0}
        if self.late:
            late = total(self.late)
            found |= {
                "missing1": late.x1, "missing0": late.x0,
                "worst_log_e": stats.harm_log_e(self._worst()), "best_log_e": stats.harm_log_e(self._best()),
            }  # fmt: skip
        return found

    def passes(self, numbers: Numbers, reached: Mapping[str, float], *, explain: bool) -> Verdict:
        if self.paired and (self.part or self.spec.bad != WRONG):
            said = "compared from the first share on; the shadow splits nothing"
            return self.say(Outcome.PASS, said, numbers)
        if self.share == 1.0:
            done = f"{self.rollout.candidate} answers all: nothing to compare; {self.evidence(numbers)}"
            return self.say(Outcome.PASS, done, numbers)
        if self.here.n1 == 0:
            what = words(self.spec.bad)[2]
            return self.say(Outcome.NO_DATA, f"no {what} of {self.rollout.candidate} in this step yet", numbers)
        if (few := self._too_few()) is not None:
            return self.say(Outcome.WAIT, few[0], numbers | {"missing": few[1]})
        if self.advance == "shown":
            return self._shown(numbers, reached)
        return self._worst_case(numbers) or self._not_contradicted(numbers, explain=explain)

    def seen(self) -> str:
        t, (one, many, _) = self.total, words(self.spec.bad)
        v1, v0 = self.rollout.candidate, self.rollout.stable
        if self.paired:
            return f"of {t.n1:,} judged requests, {v1} alone was wrong in {t.x1:,} and {v0} alone in {t.x0:,}"
        by_unit = self.rollout.plan.assign != "request" and self.spec.bad in EVERY_REQUEST
        per = "units" if by_unit else words(self.spec.bad)[2]
        said = f"{t.x1:,} {one if t.x1 == 1 else many} of {v1} in {t.n1:,} {per}"
        return f"{said} against {t.x0:,} of {v0} in {t.n0:,}"

    def _worst(self) -> list[Cell]:
        """Return the cells with every missing label counted against the candidate and for the stable version."""
        found = cells(self.mine, self.name)
        return found + [Cell(c.rho, c.x1, 0) for c in self.late if c.x1]

    def _best(self) -> list[Cell]:
        """Return the reverse."""
        return cells(self.mine, self.name) + [Cell(c.rho, 0, c.x0) for c in self.late if c.x0]

    def _trusted(self) -> list[Cell]:
        """Return the cells that a pass rests on."""
        return self._worst() if self.spec.missing == "worst_case" else cells(self.mine, self.name)

    def _worst_case(self, numbers: Numbers) -> Verdict | None:
        """Hold where the missing labels, all against the candidate, would be evidence of harm."""
        if self.spec.missing != "worst_case" or numbers.get("worst_log_e", 0.0) < numbers["log_limit"]:
            return None
        said = (
            f"{self.seen()}: with all {numbers['missing1']:,.0f} labels that are missing against "
            f"{self.rollout.candidate} the evidence were {amount(numbers['worst_log_e'])} of "
            f"{amount(numbers['log_limit'])}; get the labels"
        )
        return self.say(Outcome.WAIT, said, numbers)

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

    def _not_contradicted(self, numbers: Numbers, *, explain: bool) -> Verdict:
        said = f"{self.seen()}: no evidence of harm ({self.evidence(numbers)})"
        if self.total.x1 + self.total.x0 == 0:
            bound = interval.upper(0, self.total.n1, 0.95)
            said += f"; at most {bound:.2%} at 95 % confidence"
            return self.say(Outcome.PASS, said, numbers | {"upper": bound})
        if explain:
            ratio = _noticeable(_coarse(cells(self.mine, self.name)), self.alpha)
            if ratio is None:
                said += "; too few to say which increase would have been noticed"
            else:
                said += f"; {ratio:.1f} times the rate would have been noticed nine times of ten"
                numbers = numbers | {"noticeable": ratio}
        return self.say(Outcome.PASS, said, numbers)

    def _shown(self, numbers: Numbers, reached: Mapping[str, float]) -> Verdict:
        claim = f"less than {self.spec.ratio:.3g} times the rate of {self.rollout.stable}"
        if self.late and self.spec.missing == "worst_case":
            claim += f", also with the {numbers['missing1']:,.0f} labels that are missing against it"
        bad, all_ = self.total.x1 + self.total.x0, self.total.n1 + self.total.n0
        if self.rollout.plan.assign == "unit" and bad > 0.2 * all_:
            said = f"{self.seen()}: too many units are bad to show {claim}; use assign: request"
            return self.say(Outcome.WAIT, said, numbers)
        return self.shown(numbers, stats.shown_log_e(self._trusted(), self.spec.ratio - 1.0), claim, reached)


def _coarse(found: Iterable[Cell]) -> tuple[Cell, ...]:
    """Round the stable version's counts down to two digits, so that a simulation serves many looks.

    Fewer counts only make the increase that would have been noticed larger; the candidate's do not matter to it.
    """
    units = ((c, 10 ** max(0, len(str(c.x0)) - 2)) for c in found)
    return tuple(Cell(c.rho, 0, c.x0 // unit * unit) for c, unit in units)


@lru_cache(maxsize=512)
def _noticeable(found: tuple[Cell, ...], alpha: float) -> float | None:
    return stats.noticeable_ratio(found, alpha=alpha)


@lru_cache(maxsize=512)
def _events(share: float, alpha: float) -> int:
    return stats.events_needed(share, alpha)
