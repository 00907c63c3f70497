"""What a review item still needs, or its truth: a pure function of its judgements and predictions (V4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from tenure.types import Box, Value

GIVE_UP = 3
"""An item that so many people skipped and nobody judged is closed without a truth."""


class Reading(msgspec.Struct, frozen=True):
    """One judgement that stands (undone ones are left out), in the order of arrival."""

    reader: str
    value: Value
    regions: tuple[Box, ...] = ()
    adjudicator: bool = False
    blind: bool = True


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the rules look at.

    Attributes:
        required: judgements wanted before the item can be resolved, at least 1.
        readings: the judgements that stand, oldest first.
        predictions: what each version said, primary and shadows.
        draw: the item's uniform number in [0, 1), fixed by its id.
        disagreements: share of disagreements with a model that get a second reader.
        agreements: share of agreements that get one.
        skips: people who could not judge it.
        pending: a client waits for it, so it is not given up.
        closed: its time is over; what is not resolved stays without a truth.
    """

    required: int
    readings: tuple[Reading, ...] = ()
    predictions: tuple[Value, ...] = ()
    draw: float = 0.0
    disagreements: float = 1.0
    agreements: float = 0.05
    skips: int = 0
    pending: bool = False
    closed: bool = False


class Open(msgspec.Struct, frozen=True, tag=True):
    """`missing` more readers are wanted; `judged` says whether there is a reading already."""

    missing: int
    judged: bool


class Conflict(msgspec.Struct, frozen=True, tag=True):
    """The readers differ: somebody who judged neither decides."""


class Expired(msgspec.Struct, frozen=True, tag=True):
    """Nobody could say; there will be no truth."""


class Resolved(msgspec.Struct, frozen=True, tag=True):
    """The truth, and on whose word."""

    truth: Value
    regions: tuple[Box, ...]
    source: Literal["single", "agreed", "adjudicated"]


Standing = Open | Conflict | Expired | Resolved


def resolve(case: Case) -> Standing:
    """Say how an item stands.

    1. An adjudicator's word is the truth.
    2. Readers who differ are a conflict. A later reader who saw the model's answer does not count.
    3. `required` readers are waited for. If one suffices and the draw says so, a second is: a difference between
       the reader and any version is read again with chance `disagreements`, otherwise with chance `agreements`.
    4. The readers' common answer is the truth.
    5. What is closed and has no truth by then never gets one.

    Example:
        >>> one = Reading("ann", "good")
        >>> resolve(Case(required=1, readings=(one,), predictions=("defect",), draw=0.3))
        Open(missing=1, judged=True)
        >>> resolve(Case(required=1, readings=(one,), predictions=("good",), draw=0.3)).source
        'single'
    """
    standing = _resolve(case)
    return standing if isinstance(standing, Resolved) or not case.closed else Expired()


def _resolve(case: Case) -> Standing:
    final = [r for r in case.readings if r.adjudicator]
    if final:
        return Resolved(final[0].value, final[0].regions, "adjudicated")
    readings = counted(case)
    if any(not same(r.value, readings[0].value) for r in readings):
        return Conflict()
    missing = wanted(case) - len(readings)
    if missing > 0 and not readings and case.skips >= GIVE_UP and not case.pending:
        return Expired()
    if missing > 0:
        return Open(missing, bool(readings))
    return Resolved(readings[0].value, readings[0].regions, "single" if len(readings) == 1 else "agreed")


def counted(case: Case) -> list[Reading]:
    """Return the first reading and every later blind one."""
    return [r for number, r in enumerate(case.readings) if number == 0 or r.blind]


def wanted(case: Case) -> int:
    """Return how many readers the item needs, given what is known so far."""
    readings = counted(case)
    if case.required > 1 or len(readings) != 1 or not case.predictions:
        return max(case.required, 1)
    first = readings[0].value
    differs = any(not same(first, said) for said in case.predictions)
    chance = case.disagreements if differs else case.agreements
    return 2 if case.draw < chance else 1


def same(a: Value, b: Value) -> bool:
    """Say whether two answers are the same; true is not 1, but 1 is 1.0."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return a == b


def becomes_decision(standing: Standing, *, required: int, readings: Sequence[Reading]) -> Reading | None:
    """Return the reading that a waiting client gets: the first where one reader suffices, else the resolution."""
    if required <= 1 and readings:
        return readings[-1]
    if isinstance(standing, Resolved):
        return Reading(readings[-1].reader, standing.truth, standing.regions)
    return None
