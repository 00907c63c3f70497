"""Where readers follow different conventions: which pairs of people and of labels are confused, and which way."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import msgspec

from tenure.deploy.review.readers import FEW, Reading, Share
from tenure.stats.agreement import mcnemar
from tenure.stats.champion import holm

ALPHA = 0.05
_MOST = 20


class Pair(msgspec.Struct, frozen=True):
    """Two people who read the same items blind."""

    readers: tuple[str, str]
    agreement: Share


class Confusion(msgspec.Struct, frozen=True):
    """Two answers that readers mix up: `n` times out of the `of` double readings in which either was given."""

    labels: tuple[str, str]
    n: int
    of: int
    few: bool


class Habit(msgspec.Struct, frozen=True):
    """One reader says the first label where others say the second, more often than the other way round.

    `right` counts how often that was the truth. `p` is McNemar's exact p-value; `shown` says that it holds beside
    all others (Holm, 5 % for the family).
    """

    reader: str
    labels: tuple[str, str]
    n: int
    reverse: int
    right: int
    p: float
    shown: bool


class Conventions(msgspec.Struct, frozen=True):
    """Agreement of pairs, confused labels (most frequent first), habits, and what to define more clearly."""

    pairs: tuple[Pair, ...]
    confusions: tuple[Confusion, ...]
    habits: tuple[Habit, ...]
    clarify: str


def compare(found: Sequence[Reading]) -> Conventions:
    """Compare blind readings of the same items; gold readings and adjudications are not among them."""
    doubles = list(_doubles(found))
    confusions = _confusions(doubles)
    habits = _habits(doubles)
    return Conventions(_pairs(doubles), confusions, habits, _advice(confusions, habits))


Said = tuple[str, str, bool | None]
"""(reader, answer, whether it was the truth; None while that is open)"""
Double = tuple[Said, Said]
"""Two people's readings of one item, by name of the reader."""


def _doubles(found: Iterable[Reading]) -> Iterator[Double]:
    items: dict[str, dict[str, Said]] = defaultdict(dict)
    for one in found:
        if one.blind and not one.skipped and not one.gold and one.role == "reader":
            items[one.item][one.reader] = (one.reader, str(json.loads(one.value)), one.right)
    for said in items.values():
        yield from combinations([said[name] for name in sorted(said)], 2)


def _pairs(doubles: Sequence[Double]) -> tuple[Pair, ...]:
    hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for (a, x, _), (b, y, _) in doubles:
        hits[a, b].append(x == y)
    return tuple(Pair(names, Share.of(hits[names])) for names in sorted(hits))


def _confusions(doubles: Sequence[Double]) -> tuple[Confusion, ...]:
    answers = [(x, y) for (_, x, _), (_, y, _) in doubles]
    mixed = Counter(tuple(sorted(pair)) for pair in answers if pair[0] != pair[1])
    found = []
    for (a, b), n in mixed.most_common(_MOST):
        of = sum(not {a, b}.isdisjoint(pair) for pair in answers)
        found.append(Confusion((a, b), n, of, of < FEW))
    return tuple(found)


def _habits(doubles: Sequence[Double]) -> tuple[Habit, ...]:
    """Test for each reader and two labels whether the differences go one way; those who were wrong come first."""
    ways: Counter[tuple[str, str, str]] = Counter()
    good: Counter[tuple[str, str, str]] = Counter()
    for (a, x, first), (b, y, second) in doubles:
        if x != y:
            ways[a, x, y] += 1
            ways[b, y, x] += 1
            good[a, x, y] += bool(first)
            good[b, y, x] += bool(second)
    tests = []
    for (reader, x, y), n in ways.items():
        reverse = ways[reader, y, x]
        if n > reverse:
            tests.append((reader, (x, y), n, reverse, good[reader, x, y], mcnemar(n, reverse)))
    tests.sort(key=lambda test: (test[-1], test[4], test[0], test[1]))
    kept = holm([test[-1] for test in tests], ALPHA) if tests else []
    return tuple(Habit(*test, shown) for test, shown in zip(tests, kept, strict=True))[:_MOST]


def _advice(confusions: Sequence[Confusion], habits: Sequence[Habit]) -> str:
    """Say which definition to mend, or that nothing is shown yet."""
    for habit in habits:
        if habit.shown:
            x, y = habit.labels
            return (
                f"define {x!r} against {y!r}: {habit.reader} says {x!r} where others say {y!r} {habit.n} times, "
                f"the other way round {habit.reverse} times, and it was right {habit.right} times"
            )
    for one in confusions:
        if not one.few:
            x, y = one.labels
            return (
                f"{x!r} and {y!r} are mixed up most: {one.n} of {one.of} double readings; nobody's habit is shown"
            )
    return "too few double readings to say"
