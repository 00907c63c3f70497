"""One row for the same input: weights are added, and truths that contradict each other stay apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import msgspec

from tenure.data.state import dumps
from tenure.maintain.snapshot import Row


def merged(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with equal ones merged into the first of them, in order.

    Equal are the same bytes of an input with the same truth, unit and provenance; `weight` and `copies` are sums,
    so that what the rows stand for stays the same. Records are not merged: a record that comes twice is two
    requests with equal values, not one input that was sent twice.
    """
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        groups[_same(row)].append(row)
    return [_one(group) for group in groups.values()]


def contradictions(rows: Sequence[Row]) -> int:
    """Return how many inputs have more than one truth among the rows."""
    truths: dict[Hashable, set[str]] = defaultdict(set)
    for row in rows:
        content = _content(row)
        if content is not None:
            truths[content].add(_truth(row))
    return sum(len(found) > 1 for found in truths.values())


def _content(row: Row) -> Hashable | None:
    if row.file is not None:
        return ("file", row.file)
    return ("text", row.record) if isinstance(row.record, str) else None


def _truth(row: Row) -> str:
    return dumps([row.label, msgspec.to_builtins(row.boxes)])


def _same(row: Row) -> Hashable:
    content = _content(row)
    if content is None:
        return ("id", row.id)
    return content, _truth(row), row.unit, row.source, row.kind, row.blind, row.shown_suggestion, row.fair


def _one(group: Sequence[Row]) -> Row:
    if len(group) == 1:
        return group[0]
    weight, copies = sum(r.weight for r in group), sum(r.copies for r in group)
    return msgspec.structs.replace(group[0], weight=weight, copies=copies)
