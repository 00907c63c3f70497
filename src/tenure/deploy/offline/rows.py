"""The values that pass through a scoring run: a row as read, a row with its answer, a row that failed."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from tenure.types import Route, Value

DecidedBy = Literal["model", "person", "none"]

DECIDED: dict[Route, DecidedBy] = {Route.AUTO: "model", Route.PENDING: "person", Route.NONE: "none"}
"""Who decides a row that has an answer. `person`: it waits in the review queue."""


class Item(NamedTuple):
    """One row of the input.

    Attributes:
        row: its number, from 0, in the order of the input.
        raw: column -> value; the text itself where it could not be read.
        fault: why it could not be read; None where it could.
    """

    row: int
    raw: Any
    fault: str | None = None


class Answered(msgspec.Struct, frozen=True):
    """One row of the output; `kept` are the input columns that were asked for."""

    row: int
    id: str
    value: Value
    confidence: float | None
    probabilities: dict[str, float] | None
    decided_by: DecidedBy
    reason: str
    version: str
    kept: dict[str, Any]


class Rejected(msgspec.Struct, frozen=True):
    """One row of the quarantine: the record as it was read, and why it has no answer."""

    row: int
    id: str
    code: str
    reason: str
    at: str | None
    record: Any


class Scored(msgspec.Struct, frozen=True):
    """What became of some rows, and the frame that logs them; None where all were logged before."""

    answered: list[Answered]
    rejected: list[Rejected]
    frame: bytes | None
    first_row: int


class Counts(msgspec.Struct, frozen=True):
    """How many rows had an answer, by who decides, and how many have none."""

    scored: int = 0
    quarantined: int = 0
    model: int = 0
    person: int = 0
    none: int = 0

    @property
    def rows(self) -> int:
        """All rows that were read."""
        return self.scored + self.quarantined

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f) + getattr(other, f) for f in self.__struct_fields__))


def counts(answered: list[Answered], rejected: list[Rejected]) -> Counts:
    """Count one chunk."""
    by = [row.decided_by for row in answered]
    return Counts(len(answered), len(rejected), by.count("model"), by.count("person"), by.count("none"))
