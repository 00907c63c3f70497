"""The gates that are compared. Each is a class with `look`; the schedule is the same for all."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from scipy.special import bdtr, log_ndtr, ndtri

from rollout_bench.ramp import ALPHA, LOOK, Said, Seen
from rollout_bench.traffic import BASE, PER_STEP, SHARES
from tenure.deploy.rollout.advance import Progress, Rollout, advance
from tenure.deploy.rollout.judge import judge
from tenure.deploy.rollout.looks import reached

WINDOW = 1000
"""Requests of both versions in one interval of the threshold tools."""


def scheduled(seen: Seen) -> Said:
    return "go" if seen.here >= PER_STEP else "hold"


class Tenure:
    """`judge` and `advance` of tenure, as the controller calls them."""

    def __init__(self) -> None:
        self.now: Rollout | None = None
        self.top: dict[str, float] = {}

    def look(self, seen: Seen) -> Said:
        now = self.now = self._at(seen)
        verdicts = judge(now, seen.evidence(), self.top, explain=False)
        for name, value in reached(verdicts).items():
            self.top[name] = max(value, self.top.get(name, 0.0))
        move = advance(now, verdicts, Progress(requests=seen.here), 0)
        if move is None or move.state == "paused":
            return "hold"
        return "rollback" if move.state == "rolled_back" else "go"

    def _at(self, seen: Seen) -> Rollout:
        if self.now is None:
            return Rollout(
                id="r", endpoint="e", candidate="v2", stable="v1", plan=seen.plan, evidence_key="",
                state="running", step=0, step_started_us=0, salt="", attempt=1, reason="", created_us=0,
                updated_us=0, created_by="",
            )  # fmt: skip
        return msgspec.structs.replace(self.now, step=seen.step)


class RepeatedZ:
    """The pooled one-sided z-test of two shares at 5 %, at each look, as dashboards do."""

    def look(self, seen: Seen) -> Said:
        if min(seen.n1, seen.n0) and seen.x1 + seen.x0:
            p = (seen.x1 + seen.x0) / (seen.n1 + seen.n0)
            se = math.sqrt(p * (1.0 - p) * (1.0 / seen.n1 + 1.0 / seen.n0))
            if (seen.x1 / seen.n1 - seen.x0 / seen.n0) / se > ndtri(1.0 - ALPHA):
                return "rollback"
        return scheduled(seen)


class _Windows:
    """Sums of the candidate over intervals of `WINDOW` requests."""

    def __init__(self) -> None:
        self.looks = self.bad = self.all = 0

    def full(self, seen: Seen) -> tuple[int, int] | None:
        self.looks += 1
        self.bad, self.all = self.bad + seen.window[0], self.all + seen.window[1]
        if self.looks % (WINDOW // LOOK):
            return None
        found, self.bad, self.all = (self.bad, self.all), 0, 0
        return found


class Argo:
    """A background analysis: success at least `least`, `failureLimit: 3`, more than 4 intervals without data."""

    def __init__(self, least: float) -> None:
        self.least, self.failures, self.empty, self.windows = least, 0, 0, _Windows()

    def look(self, seen: Seen) -> Said:
        found = self.windows.full(seen)
        if found is not None:
            bad, all_ = found
            self.empty = 0 if all_ else self.empty + 1
            self.failures += bool(all_) and 1.0 - bad / max(all_, 1) < self.least
        return "rollback" if self.failures > 3 or self.empty > 4 else scheduled(seen)


class Flagger:
    """`request-success-rate` at least `least` in each interval; a failed check halts, the fifth rolls back."""

    def __init__(self, least: float) -> None:
        self.least, self.failed, self.passed, self.step, self.windows = least, 0, 0, 0, _Windows()

    def look(self, seen: Seen) -> Said:
        if seen.step != self.step:
            self.step, self.passed = seen.step, 0
        found = self.windows.full(seen)
        if found is None:
            return "hold"
        bad, all_ = found
        if not all_ or 1.0 - bad / all_ < self.least:
            self.failed += 1
            return "rollback" if self.failed >= 5 else "hold"
        self.passed += 1
        return "go" if self.passed * WINDOW >= PER_STEP else "hold"


def score(seen: Seen) -> tuple[float, float]:
    """Return (score, its variance) of the log rate ratio, given which outcomes were bad: a martingale."""
    cells = seen.cells()
    total = sum(c.x1 - c.rho * (c.x1 + c.x0) for c in cells)
    return total, sum(c.rho * (1.0 - c.rho) * (c.x1 + c.x0) for c in cells)


class OBrienFleming:
    """Group-sequential with O'Brien and Fleming's boundary, at every look.

    The boundary is constant on the scale of the score over the planned information; by the reflection principle
    it is the two-sided normal quantile. The information that the whole ramp will bring has to be known.
    """

    def __init__(self, planned: float) -> None:
        self.limit = float(ndtri(1.0 - ALPHA / 2.0)) * math.sqrt(planned)

    def look(self, seen: Seen) -> Said:
        return "rollback" if score(seen)[0] >= self.limit else scheduled(seen)


class Mixture:
    """mSPRT: the score's normal likelihood, mixed over a half-normal log rate ratio with deviation 1."""

    def look(self, seen: Seen) -> Said:
        s, i = score(seen)
        a = i + 1.0
        log_e = math.log(2.0) - 0.5 * math.log(a) + s * s / (2.0 * a) + float(log_ndtr(s / math.sqrt(a)))
        return "rollback" if log_e >= -math.log(ALPHA) else scheduled(seen)


class StepEnd:
    """One exact test at the end of each step, over all outcomes so far, at a fifth of 5 % (Bonferroni)."""

    def look(self, seen: Seen) -> Said:
        if seen.here < PER_STEP:
            return "hold"
        return "rollback" if tail(seen) <= ALPHA / len(SHARES) else "go"


def tail(seen: Seen) -> float:
    """Return the chance of as many bad outcomes in the candidate's arm or more: sums of binomials, exactly."""
    mass = np.ones(1)
    for c in seen.cells():
        n = c.x1 + c.x0
        mass = np.convolve(mass, np.diff(bdtr(np.arange(-1, n + 1), n, c.rho)))
    return float(mass[sum(c.x1 for c in seen.cells()) :].sum())


class Oracle:
    """Wald's test that is told the true ratio: a bound on what any valid test can do, not a choice."""

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def look(self, seen: Seen) -> Said:
        if self.ratio == 1.0:
            return scheduled(seen)
        log_e = sum(
            c.x1 * math.log(self.ratio) - (c.x1 + c.x0) * math.log(c.rho * self.ratio + 1.0 - c.rho)
            for c in seen.cells()
        )
        return "rollback" if log_e >= -math.log(ALPHA) else scheduled(seen)


NAMES = {
    "tenure": "tenure (mixture e-process)",
    "obf": "O'Brien-Fleming, end known",
    "msprt": "mSPRT (normal mixture)",
    "step_end": "exact test per step, Bonferroni",
    "z": "z-test at 5 % at each look",
    "argo_95": "Argo: success >= 95 %, failureLimit 3",
    "argo_98": "Argo: success >= 98 %, failureLimit 3",
    "flagger_99": "Flagger: success >= 99 %, threshold 5",
    "flagger_97": "Flagger: success >= 97 %, threshold 5",
    "oracle_2": "Wald's test told x2 (bound)",
    "oracle_5": "Wald's test told x5 (bound)",
}


def makers(planned: float) -> dict[str, Callable[[], object]]:
    """Return how to make each method anew for a ramp; `planned` is the information of a whole ramp."""
    return {
        "tenure": Tenure, "obf": lambda: OBrienFleming(planned), "msprt": Mixture, "step_end": StepEnd,
        "z": RepeatedZ, "argo_95": lambda: Argo(0.95), "argo_98": lambda: Argo(0.98),
        "flagger_99": lambda: Flagger(0.99), "flagger_97": lambda: Flagger(0.97),
        "oracle_2": lambda: Oracle(2.0), "oracle_5": lambda: Oracle(5.0),
    }  # fmt: skip


def planned_requests() -> float:
    """Return the information that the plan brings where each request is drawn by itself."""
    return sum(BASE * PER_STEP * rho * (1.0 - rho) for rho in SHARES)
