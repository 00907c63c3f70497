"""The first reading of an item, through corrections and withdrawals."""

from __future__ import annotations

from typing import Any

import pytest

from tenure.deploy.automation import readings


def row(number: int, reader: str, **more: Any) -> dict[str, Any]:
    plain = {"id": number, "item": "i", "reader": reader, "role": "reader", "skip": None, "supersedes": None}
    return plain | more


@pytest.mark.parametrize(
    ("rows", "who"),
    [
        ([row(1, "ann"), row(2, "bob")], 1),
        ([row(1, "ann"), row(2, "bob"), row(3, "ann", supersedes=1)], 3),
        ([row(1, "ann"), row(2, "bob"), row(3, "ann", supersedes=1), row(4, "ann", supersedes=3)], 4),
        ([row(1, "ann"), row(2, "bob"), row(3, "ann", supersedes=1, skip="undo")], 2),
        ([row(1, "ann", skip="too dark"), row(2, "bob")], 2),
        ([row(1, "eve", role="adjudicator"), row(2, "bob")], 2),
        ([row(1, "ann", skip="too dark")], None),
    ],
)
def test_a_correction_keeps_the_place_of_what_it_corrects(rows: Any, who: int | None) -> None:
    found = readings.first(rows)
    assert (found["i"]["id"] if found else None) == who
