"""A gate that compares the candidate's rate with a constant; nothing is randomised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tenure.deploy.rollout.advance import Verdict
from tenure.deploy.rollout.case import Case, Numbers
from tenure.deploy.rollout.counts import Count, Moments, total
from tenure.deploy.rollout.plan import WRONG
from tenure.deploy.rollout.words import words
from tenure.stats.constant import above_log_e, below_log_e
from tenure.types import Outcome

_ASIDE = "a constant, which randomisation does not protect"


class ConstantCase(Case):
    """Bad outcomes of the candidate against a rate that somebody knows."""

    def gather(self, counts: Sequence[Count], moments: Sequence[Moments]) -> None:
        plan, mine = self.rollout.plan, [c for c in counts if c.gate == self.name]
        self.constant = self.spec.constant or 0.0
        self.here = total(c for c in mine if c.step == self.rollout.step)
        self.served = total(c for c in mine if not plan.is_shadow(c.step))
        self.total = self.here if self.paired else self.served

    def log_e(self) -> float:
        return above_log_e(self.served.x1, self.served.n1, self.constant)

    def numbers(self) -> Numbers:
        t = self.total
        return {"x1": t.x1, "n1": t.n1, "x0": t.x0, "n0": t.n0}

    def passes(self, numbers: Numbers, reached: Mapping[str, float], *, explain: bool) -> Verdict:
        if self.paired and self.spec.bad != WRONG:
            return self.say(Outcome.PASS, "compared from the first share on; the shadow splits nothing", numbers)
        if self.here.n1 == 0:
            said = f"nothing of {self.rollout.candidate} to compare yet"
            return self.say(Outcome.NO_DATA, said, numbers)
        if self.advance != "shown":
            said = f"{self.seen()}: not contradicted ({self.evidence(numbers)}); {_ASIDE}"
            return self.say(Outcome.PASS, said, numbers)
        bound = self.spec.ratio * self.constant
        log_e = below_log_e(self.total.x1, self.total.n1, bound)
        return self.shown(numbers, log_e, f"below {bound:.3g}; {_ASIDE}", reached)

    def seen(self) -> str:
        t, (one, many, _) = self.total, words(self.spec.bad)
        said = f"{t.x1:,} {one if t.x1 == 1 else many} of {self.rollout.candidate} in {t.n1:,}"
        return f"{said} against a rate of {self.constant:.3g}"
