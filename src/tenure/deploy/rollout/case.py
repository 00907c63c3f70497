"""One member of the family of gates: a gate over all requests, or over one slice, as it stands at one step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from tenure.deploy.rollout.advance import Rollout, Verdict
from tenure.deploy.rollout.counts import Count, Moments, sliced
from tenure.deploy.rollout.words import amount
from tenure.scope.project import GateSpec
from tenure.types import Outcome

Numbers = dict[str, float]


class Case(ABC):
    """What one kind of gate says: its evidence of harm, and whether the step may pass.

    Args:
        rollout: its plan and the step it is in.
        spec: the gate.
        part: the slice, such as `line=3`; empty for all requests.
        weight: its part of the family's alpha.
        counts: all evidence of the rollout.
        moments: the same of means.
    """

    def __init__(
        self, rollout: Rollout, spec: GateSpec, part: str, *, weight: float, counts: Sequence[Count],
        moments: Sequence[Moments],
    ) -> None:  # fmt: skip
        self.rollout, self.spec, self.part, self.weight = rollout, spec, part, weight
        self.name = sliced(spec.name, part)
        self.alpha = rollout.plan.alpha * weight
        self.share = rollout.plan.share(rollout.step)
        self.paired = rollout.plan.is_shadow(rollout.step)
        self.advance = rollout.plan.advance_of(part)
        self.gather(counts, moments)

    @abstractmethod
    def gather(self, counts: Sequence[Count], moments: Sequence[Moments]) -> None:
        """Keep the evidence that is this member's."""

    @abstractmethod
    def log_e(self) -> float:
        """Return the log e-value against "the candidate is no worse"."""

    @abstractmethod
    def numbers(self) -> Numbers:
        """Return what the verdict is recomputed from, beside the evidence itself."""

    @abstractmethod
    def seen(self) -> str:
        """Say what was seen of both versions."""

    @abstractmethod
    def passes(self, numbers: Numbers, reached: Mapping[str, float], *, explain: bool) -> Verdict:
        """Say pass, wait or no_data of a member that has not failed."""

    def all_numbers(self, log_e: float, top: float) -> Numbers:
        """Return the numbers with the evidence so far and where this member alone would fail."""
        limit = -math.log(self.alpha)
        return {"log_e": log_e, "max_log_e": top, "log_limit": limit, "alpha": self.alpha} | self.numbers()

    def fail(self, numbers: Numbers, family: float) -> Verdict:
        """Say that the gates together fail, most of all by this one."""
        limit = -math.log(self.rollout.plan.alpha)
        said = f"{self.seen()}: evidence {amount(family)} of {amount(limit)} needed; roll back"
        return self.say(Outcome.FAIL, said, numbers | {"family_log_e": family, "family_log_limit": limit})

    def shown(self, numbers: Numbers, log_e: float, claim: str, reached: Mapping[str, float]) -> Verdict:
        """Say whether a claim was proved at any look; the evidence is at the gate's full level."""
        limit = -math.log(self.spec.alpha)
        top = max(log_e, reached.get(f"shown:{self.name}", 0.0))
        numbers = numbers | {"shown_log_e": log_e, "max_shown_log_e": top, "shown_log_limit": limit}
        if top >= limit:
            return self.say(Outcome.PASS, f"{self.seen()}: shown to be {claim}", numbers)
        said = f"{self.seen()}: not yet shown to be {claim} ({amount(top)} of {amount(limit)})"
        return self.say(Outcome.WAIT, said, numbers)

    def evidence(self, numbers: Mapping[str, float]) -> str:
        return f"evidence {amount(numbers['max_log_e'])} of {amount(numbers['log_limit'])} needed"

    def say(self, outcome: Outcome, sentence: str, numbers: Numbers) -> Verdict:
        where = f"where {self.part}: " if self.part else ""
        return Verdict(gate=self.name, outcome=outcome, sentence=where + sentence, numbers=numbers)
