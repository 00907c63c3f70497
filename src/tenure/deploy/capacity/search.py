"""Find the highest rate that holds the budget: double until one does not, then close in by halves."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tenure.deploy.capacity.measured import Measured
from tenure.deploy.capacity.verdict import holds

Measure = Callable[[float], Measured]
CLOSE = 1.05
"""The search ends when the lowest rate that broke is within 5 % of the highest that held."""
LEAST = 0.5
_TRIES = 4


class Step(msgspec.Struct, frozen=True):
    """One rate that was tried, as often as it took."""

    rate: float
    held: bool
    measured: Measured


class Found(msgspec.Struct, frozen=True):
    """What a search found.

    Attributes:
        highest: the highest rate that held; 0 when none did.
        knee: the rate with the most throughput for its p99 (Kleinrock's power); beyond it waiting grows faster.
        steps: every rate that was tried, lowest first.
        limit: what ended the search: `budget`, `ceiling` (the highest rate that may be tried held), `generator`
            (above it the generator, not the server, was too slow), `steps` (too many were needed).
    """

    highest: float
    knee: float
    steps: tuple[Step, ...]
    limit: str


def search(measure: Measure, *, start: float, ceiling: float, most_steps: int = 24) -> Found:
    """Return the highest rate at which `measure` holds, to 5 %.

    A rate that breaks is tried once more before it counts: one hiccup of the machine is not the server's limit.
    A measurement that says nothing about the server is not counted, and repeated at most three times.
    The result is confirmed by a last measurement and lowered by 5 % for as long as that breaks.

    Args:
        measure: tests one rate, requests a second.
        start: first rate.
        ceiling: no rate above it is tried.
        most_steps: measurements at most.
    """
    hunt = _Hunt(measure, most_steps)
    good, bad = _bracket(hunt, start, ceiling)
    while bad and good and bad / good > CLOSE and hunt.left > 1:
        middle = (good * bad) ** 0.5
        if hunt.holds(middle):
            good = middle
        else:
            bad = middle
    if bad:
        good = _confirmed(hunt, good)
    steps = tuple(sorted(hunt.steps, key=lambda step: step.rate))
    return Found(good, knee(steps), steps, _limit(hunt, good, bad, ceiling))


def knee(steps: tuple[Step, ...]) -> float:
    """Return the rate with the most throughput per p99 among those that held; 0 when none did."""
    held = [s for s in steps if s.held and s.measured.latency_ms["p99"] > 0]
    return max(held, key=lambda s: s.measured.achieved / s.measured.latency_ms["p99"]).rate if held else 0.0


class _Hunt:
    def __init__(self, measure: Measure, most: int) -> None:
        self._measure, self.left = measure, most
        self.steps: list[Step] = []

    def holds(self, rate: float) -> bool:
        """Measure a rate; once more when it broke, and more often when the generator was no judge."""
        broke = 0
        for _ in range(min(_TRIES, self.left)):
            if self._once(rate):
                return True
            broke += not self.steps[-1].measured.invalid
            if broke == 2:
                break
        return False

    def _once(self, rate: float) -> bool:
        self.left -= 1
        found = self._measure(rate)
        held = holds(found)
        self.steps.append(Step(rate, held, found))
        return held


def _bracket(hunt: _Hunt, start: float, ceiling: float) -> tuple[float, float]:
    """Return (a rate that held or 0, a rate above it that broke or 0)."""
    rate = min(start, ceiling)
    if hunt.holds(rate):
        good = rate
        while good < ceiling and hunt.left > 0:
            rate = min(2 * good, ceiling)
            if not hunt.holds(rate):
                return good, rate
            good = rate
        return good, 0.0
    bad = rate
    while bad / 2 >= LEAST and hunt.left > 0:
        if hunt.holds(bad / 2):
            return bad / 2, bad
        bad /= 2
    return 0.0, bad


def _confirmed(hunt: _Hunt, good: float) -> float:
    while good >= LEAST and hunt.left > 0:
        if hunt.holds(good):
            return good
        good /= CLOSE
    return good if good >= LEAST else 0.0


def _limit(hunt: _Hunt, good: float, bad: float, ceiling: float) -> str:
    if not bad:
        return "ceiling" if good >= ceiling else "steps"
    broke = [s for s in hunt.steps if s.rate == bad]
    if broke and all(s.measured.invalid for s in broke):
        return "generator"
    return "budget" if hunt.left > 0 else "steps"
