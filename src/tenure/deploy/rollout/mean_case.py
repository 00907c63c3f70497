"""A gate on a mean of both versions, watched at fixed times: about right, because asymptotic.

Each step is compared within itself, so that a trend over the day is no difference. The e-values of the steps that
split are averaged with equal weights, which the plan fixes: valid although sticky units come back in each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tenure.deploy.rollout.advance import Verdict
from tenure.deploy.rollout.case import Case, Numbers
from tenure.deploy.rollout.counts import Count, Moments
from tenure.deploy.rollout.values import scale
from tenure.stats import gate, means
from tenure.stats.means import MIN_EFFECTIVE, MIN_UNITS, Mean, Sums
from tenure.types import Outcome

DELTA = 0.05
_NOUN = {"request": "requests", "unit": "units", "unit_epoch": "units in an epoch"}


class Arms(msgspec.Struct, frozen=True):
    """Both versions in one step; a mean is None with fewer than two units."""

    candidate: Mean | None
    stable: Mean | None

    @property
    def armed(self) -> bool:
        return all(m is not None and m.armed for m in (self.candidate, self.stable))


class MeanCase(Case):
    """The candidate's mean against the stable version's; `harm` says which way is worse."""

    def gather(self, counts: Sequence[Count], moments: Sequence[Moments]) -> None:
        plan = self.rollout.plan
        self.mine = {(m.step, m.arm): m for m in moments if m.gate == self.name}
        self.steps = [i for i in range(len(plan.steps)) if 0.0 < plan.share(i) < 1.0]
        self.tau = self.spec.effect or self.spec.margin or 1.0
        self.sign = -1.0 if self.spec.harm == "down" else 1.0
        self.arms = self._arms(self.rollout.step)

    def log_e(self) -> float:
        return self._over_steps(0.0, lambda z: z)

    def numbers(self) -> Numbers:
        one, two = (self.mine.get((self.rollout.step, arm), _NOTHING) for arm in (1, 0))
        found: Numbers = {
            "n1": one.sums.n, "n0": two.sums.n, "units1": one.sums.units, "units0": two.sums.units,
            "capped1": one.capped, "capped0": two.capped, "absent1": one.absent, "absent0": two.absent,
            "tau": self.tau,
        }  # fmt: skip
        if self.arms.candidate is not None and self.arms.stable is not None:
            found |= {"mean1": self._value(self.arms.candidate), "mean0": self._value(self.arms.stable)}
            found |= {"effective1": self.arms.candidate.effective, "effective0": self.arms.stable.effective}
        if (told := self._difference(self.rollout.step)) is not None:
            low, high = means.band(*told, self.tau, DELTA)
            found |= {"difference": told[0], "se": told[1], "low": low, "high": high}
        return found

    def passes(self, numbers: Numbers, reached: Mapping[str, float], *, explain: bool) -> Verdict:
        if self.paired:
            said = "compared from the first share on; the shadow splits nothing"
            return self.say(Outcome.PASS, said, numbers)
        if self.share == 1.0:
            done = f"{self.rollout.candidate} answers all: nothing to compare; {self.evidence(numbers)}"
            return self.say(Outcome.PASS, done, numbers)
        if numbers["n1"] == 0:
            said = f"no {self.spec.mean} of {self.rollout.candidate} in this step yet"
            return self.say(Outcome.NO_DATA, said, numbers)
        if (few := self._too_few()) is not None:
            return self.say(Outcome.WAIT, few[0], numbers | {"missing": few[1]})
        if self.advance == "shown":
            margin = self.spec.margin or 0.0
            way = "lower" if self.sign < 0 else "higher"
            log_e = self._over_steps(margin, lambda z: -z)
            return self.shown(numbers, log_e, f"less than {margin:.3g} {way} (about 95 %)", reached)
        said = f"{self.seen()}: no evidence of harm ({self.evidence(numbers)})"
        return self.say(Outcome.PASS, said, numbers)

    def seen(self) -> str:
        v1, v0 = self.rollout.candidate, self.rollout.stable
        found = self.numbers()
        if "mean1" not in found:
            return f"{self.spec.mean} of {v1}"
        said = (
            f"mean {self.spec.mean} {found['mean1']:.4g} of {v1} in {found['n1']:,.0f} requests against "
            f"{found['mean0']:.4g} of {v0} in {found['n0']:,.0f}"
        )
        if "low" in found:
            span = f"{found['low']:+.3g} to {found['high']:+.3g}"
            said += f", a difference of {found['difference']:+.3g}, about 95 % {span}"
        return said + self._aside(found)

    def _aside(self, found: Numbers) -> str:
        """Say how many values were capped and how many requests had none."""
        said = ""
        if found["capped1"] or found["capped0"]:
            one, two = (found[f"capped{arm}"] / max(1.0, found[f"n{arm}"]) for arm in "10")
            said = f"; {one:.2%} and {two:.2%} of the values lie beyond {self.spec.floor:g} to {self.spec.cap:g}"
        if found["absent1"] or found["absent0"]:
            said += f"; {found['absent1']:,.0f} and {found['absent0']:,.0f} requests without a value"
        return said

    def _too_few(self) -> tuple[str, float] | None:
        """Say what is missing before the normal approximation holds, and about how many requests that takes."""
        noun = _NOUN[self.rollout.plan.assign]
        for arm, version in ((1, self.rollout.candidate), (0, self.rollout.stable)):
            sums = self.mine.get((self.rollout.step, arm), _NOTHING).sums
            share = self.share if arm else 1.0 - self.share
            mean = self.arms.candidate if arm else self.arms.stable
            if sums.units < MIN_UNITS or mean is None:
                lacks = MIN_UNITS - sums.units
                said = (
                    f"{sums.units:,} {noun} of {version} in this step; a mean needs {MIN_UNITS}, {lacks:,} more"
                )
                return said, math.ceil(lacks / share)
            if mean.effective < MIN_EFFECTIVE:
                said = (
                    f"the {sums.units:,} {noun} of {version} tell as much as {mean.effective:.0f} alike; "
                    f"a mean needs {MIN_EFFECTIVE:.0f}, so that no few of them carry it"
                )
                more = sums.units * (MIN_EFFECTIVE / max(mean.effective, 1.0) - 1.0)
                return said, math.ceil(more / share)
        return None

    def _over_steps(self, null: float, turn: Callable[[float], float]) -> float:
        """Return the log of the steps' average e-value against a null; an unarmed step has 1."""
        found = [self._of_step(step, null, turn) for step in self.steps]
        return gate.family_log_e(found)

    def _of_step(self, step: int, null: float, turn: Callable[[float], float]) -> float:
        told = self._difference(step)
        if told is None:
            return 0.0
        difference, se = told
        return means.one_sided_log_e(turn((self.sign * difference - null) / se), (self.tau / se) ** 2)

    def _difference(self, step: int) -> tuple[float, float] | None:
        """Return (candidate - stable, standard error) in the value's unit once both arms are armed."""
        arms = self._arms(step)
        if not arms.armed or arms.candidate is None or arms.stable is None:
            return None
        difference, se = means.difference(arms.candidate, arms.stable)
        return difference * scale(self.spec), se * scale(self.spec)

    def _arms(self, step: int) -> Arms:
        one, two = (self.mine.get((step, arm), _NOTHING).sums for arm in (1, 0))
        return Arms(means.mean_of_sums(one), means.mean_of_sums(two))

    def _value(self, mean: Mean) -> float:
        return self.spec.floor + mean.value * scale(self.spec)


_NOTHING = Moments(step=0, gate="", arm=0, sums=Sums())
