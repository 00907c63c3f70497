"""One row of evidence, and what its rows are called: a gate, or a gate within a slice of the traffic."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tenure.stats.gate import Cell
from tenure.stats.means import Sums

REQUESTS, SWITCHED = "requests", "switched"
MISSING, OUTSTANDING = "missing_labels", "outstanding_labels"
PAIRED = 0.5
"""Chance of the candidate in shadow: of two answers to one case, which one is the only wrong one?"""

_AT = " @ "


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """One row of evidence: bad outcomes x and counted requests or units n; 1 is the candidate, 0 the stable."""

    step: int
    gate: str
    rho: float
    x1: int = 0
    x0: int = 0
    n1: int = 0
    n0: int = 0


class Moments(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm's values add up to in one step, as at the last look at a fixed time.

    Attributes:
        step: number of the step.
        gate: a mean gate, or one within a slice.
        arm: 1 is the candidate, 0 the stable version.
        sums: in steps of the gate's grid; see `values`.
        capped: rows beyond the floor or the cap, which count as floor or cap.
        absent: rows without the value, which do not count.
    """

    step: int
    gate: str
    arm: int
    sums: Sums
    capped: int = 0
    absent: int = 0


def sliced(gate: str, part: str) -> str:
    """Return what a gate is called within a slice.

    Example:
        >>> sliced("failed", "line=3"), sliced("failed", "")
        ('failed @ line=3', 'failed')
    """
    return f"{gate}{_AT}{part}" if part else gate


def within(gate: str) -> str:
    """Return how the names of a gate in all its slices begin."""
    return f"{gate}{_AT}"


def unsliced(name: str) -> tuple[str, str]:
    """Return (gate, slice) of a name; the slice of all requests is the empty text.

    Example:
        >>> unsliced("failed @ line=3")
        ('failed', 'line=3')
    """
    gate, _, part = name.partition(_AT)
    return gate, part


def cells(counts: Iterable[Count], gate: str) -> list[Cell]:
    """Return the cells that say anything: with a rho of 0 or 1 an outcome reveals nothing."""
    return [Cell(c.rho, c.x1, c.x0) for c in counts if c.gate == gate and 0.0 < c.rho < 1.0 and (c.x1 or c.x0)]


def total(counts: Iterable[Count]) -> Count:
    """Return the sums over all rows."""
    rows = list(counts)
    sums = {k: sum(getattr(c, k) for c in rows) for k in ("x1", "x0", "n1", "n0")}
    return Count(step=-1, gate="", rho=0.0, **sums)
