"""What a shadow report compares, and what it promises with: fixed before anybody looks."""

from __future__ import annotations

from typing import Literal

import msgspec

from tenure.errors import CaseError
from tenure.scope.project import Output, Project, SecondReader

Kind = Literal["classification", "detection", "transcription", "regression"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How answers are compared.

    Attributes:
        kind: what the endpoint answers.
        labels: the classes in the project's order; empty where not named.
        margin: how much larger than the person's the model's error may be, in (0, 1).
        planned: items at which the one look of Tango's test is taken.
        look: which test decides: `always` may be looked at any time, `once` only at the planned number. Each
            keeps 5 % by itself; choosing after having seen both does not.
        iou: smallest overlap of boxes that are one, in (0, 1].
        tolerance: largest difference of numbers that are the same; 0 means equal.
        second: the shares of items that are read again.
    """

    kind: Kind = "classification"
    labels: tuple[str, ...] = ()
    margin: float = 0.02
    planned: int = 1000
    look: Literal["always", "once"] = "always"
    iou: float = 0.5
    tolerance: float = 0.0
    second: SecondReader = SecondReader()

    def check(self) -> Settings:
        """Return self.

        Raises:
            CaseError: a number is out of its range.
        """
        fits = {
            "margin": 0.0 < self.margin < 1.0,
            "planned": self.planned >= MIN_PLANNED,
            "iou": 0.0 < self.iou <= 1.0,
            "tolerance": 0.0 <= self.tolerance < float("inf"),
        }
        for name in (name for name, fine in fits.items() if not fine):
            raise CaseError(
                f"{name} cannot be {getattr(self, name)}; use {_RANGES[name]}", code="invalid_query", at=name
            )
        return self


MIN_PLANNED = 300
"""Tango's test is asymptotic: its level was simulated from 300 items on."""
_RANGES = {
    "margin": "a share above 0 and below 1, such as 0.02",
    "planned": f"at least {MIN_PLANNED} items",
    "iou": "an overlap above 0 and up to 1",
    "tolerance": "0 or more, in the unit of the value",
}


def kind_of(output: Output) -> Kind:
    """Return what an endpoint with this output answers."""
    if output.regions is not None:
        return "detection"
    if output.labels or output.kind == "label":
        return "classification"
    return "regression" if output.kind == "number" else "transcription"


def settings_of(
    project: Project,
    endpoint: str,
    *,
    margin: float = 0.02,
    planned: int | None = None,
    iou: float | None = None,
    tolerance: float | None = None,
) -> Settings:
    """Return how an endpoint's answers are compared; a planned number makes the one look decide.

    Without `iou` and `tolerance` those of `automation.loss` hold, else 0.5 and 0.
    """
    output, loss = project.output(endpoint), project.endpoints[endpoint].automation.loss
    return Settings(
        kind=kind_of(output),
        labels=output.labels,
        margin=margin,
        planned=1000 if planned is None else planned,
        look="always" if planned is None else "once",
        iou=iou or loss.iou or 0.5,
        tolerance=(loss.tolerance or 0.0) if tolerance is None else tolerance,
        second=project.endpoints[endpoint].review.second_reader,
    )
