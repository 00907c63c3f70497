"""Which of an item's judgements is its first reading: what people and models are compared on."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa


def first(rows: Sequence[sa.RowMapping]) -> dict[str, sa.RowMapping]:
    """Return item -> its first standing reading; a correction keeps the place of what it corrects.

    Args:
        rows: of `judgements`, oldest first; those that take others back are among them.
    """
    replaced = {row["supersedes"] for row in rows}
    places: dict[int, int] = {}
    found: dict[str, tuple[int, sa.RowMapping]] = {}
    for row in rows:
        place = places[row["id"]] = places.get(row["supersedes"], row["id"])
        stands = row["role"] == "reader" and row["skip"] is None and row["id"] not in replaced
        if stands and (row["item"] not in found or place < found[row["item"]][0]):
            found[row["item"]] = place, row
    return {item: row for item, (_, row) in found.items()}
