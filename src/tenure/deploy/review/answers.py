"""Whether a person's answer fits what the endpoint answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenure.errors import CaseError
from tenure.scope.project import Output
from tenure.types import Box, Value


def check(value: Value, regions: Sequence[Box], output: Output) -> None:
    """Accept an answer or say what would be one.

    Raises:
        CaseError: the value is none of the labels, of another kind, or the boxes are not usable (422).
    """
    _check_value(value, output)
    if regions and output.regions is None:
        raise CaseError(
            "this endpoint's answers carry no boxes; send no regions", code="invalid_regions", at="regions"
        )
    for number, box in enumerate(regions):
        _check_box(box, f"regions[{number}]")


def _check_value(value: Value, output: Output) -> None:
    if output.labels:
        if not isinstance(value, str) or value not in output.labels:
            names = ", ".join(output.labels)
            raise CaseError(
                f"{value!r} is no label of this endpoint; use one of: {names}", code="invalid_label", at="value"
            )
        return
    if output.kind == "number":
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    elif output.kind == "text":
        fits = isinstance(value, str)
    else:
        fits = value is not None
    if not fits:
        raise CaseError(
            f"{value!r} is not a {output.kind}, which this endpoint answers", code="invalid_value", at="value"
        )


def _check_box(box: Box, at: str) -> None:
    corners = (box.x1, box.y1, box.x2, box.y2)
    if not all(math.isfinite(c) for c in corners):
        raise CaseError("a box needs four finite corners", code="invalid_regions", at=at)
    if box.x2 <= box.x1 or box.y2 <= box.y1:
        raise CaseError(f"a box needs x1 < x2 and y1 < y2, got {corners}", code="invalid_regions", at=at)
