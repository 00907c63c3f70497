"""Which rows of a data set train and which ones test: by time, and never one unit in both."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Literal

import msgspec

Part = Literal["train", "test"]

MOST = 2.0
"""The test gets at most so many times its share; a unit that would take it beyond stays in training."""


class Split(msgspec.Struct, frozen=True):
    """The part of each row, and the time at which the test begins.

    Attributes:
        parts: in the order of the rows.
        cut_us: no test row is older; None where nothing is left for a test.
        late: training rows that are not older than the cut, because their unit began before it.
    """

    parts: tuple[Part, ...]
    cut_us: int | None
    late: int


def split(times_us: Sequence[int], keys: Sequence[Iterable[Hashable]], *, test_share: float) -> Split:
    """Give the newest units to the test until it has its share of the rows.

    Rows that share a key belong together: a unit, or the same picture sent twice. A group tests only if it began
    after every group that trains, so that the test holds nothing that training has seen before. With a handful of
    units there may be no such test.

    Args:
        times_us: (rows,) when each row was made.
        keys: (rows,) what each row may share with others.
        test_share: in [0, 1).
    """
    if not 0.0 <= test_share < 1.0:
        raise ValueError(f"test_share is {test_share}; it must be in [0, 1)")
    groups = grouped(keys)
    begins = [min(times_us[i] for i in group) for group in groups]
    newest = sorted(range(len(groups)), key=lambda g: begins[g], reverse=True)
    wanted, chosen, size = test_share * len(times_us), set[int](), 0
    for same in _alike(newest, begins):
        rows = sum(len(groups[g]) for g in same)
        if size >= wanted or size + rows > MOST * wanted:
            break
        chosen.update(same)
        size += rows
    test = {i for g in chosen for i in groups[g]}
    cut = min((begins[g] for g in chosen), default=None)
    late = 0 if cut is None else sum(time >= cut for i, time in enumerate(times_us) if i not in test)
    return Split(tuple("test" if i in test else "train" for i in range(len(times_us))), cut, late)


def grouped(keys: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Return the rows that hang together by a chain of shared keys, each group and the list in row order.

    Example:
        >>> grouped([["a"], ["b"], ["a", "c"], ["c"]])
        [[0, 2, 3], [1]]
    """
    root = list(range(len(keys)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = i = root[root[i]]
        return i

    first: dict[Hashable, int] = {}
    for i, row in enumerate(keys):
        for key in row:
            a, b = sorted((find(first.setdefault(key, i)), find(i)))
            root[b] = a
    groups: dict[int, list[int]] = {}
    for i in range(len(keys)):
        groups.setdefault(find(i), []).append(i)
    return list(groups.values())


def _alike(order: Sequence[int], begins: Sequence[int]) -> Iterable[list[int]]:
    """Yield groups that began in the same microsecond together: time cannot part them."""
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or begins[order[end]] != begins[order[start]]:
            yield list(order[start:end])
            start = end
