"""Classes: who said what, how often both said the same, and what of that is more than chance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from tenure.deploy.shadow.cases import Case, Same
from tenure.stats import agreement, interval
from tenure.stats.agreement import Table
from tenure.stats.bland_altman import Estimate


class Share(msgspec.Struct, frozen=True):
    """`count` of `of`, with a 95 % interval where there is one, and how that was made."""

    count: int
    of: int
    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""


class Direction(msgspec.Struct, frozen=True):
    """One cell off the diagonal: its count, and its share of all items where the model said so."""

    model: str
    person: str
    share: Share


class Class(msgspec.Struct, frozen=True):
    """One class: how often each said it, and specific agreement (None where nobody did)."""

    label: str
    model: int
    person: int
    both: int
    specific: float | None


class Classification(msgspec.Struct, frozen=True, tag="classification"):
    """The table, with what follows from it.

    Attributes:
        labels: K names.
        counts: K x K; rows are the model's answers, columns the person's.
        classes: per class.
        directions: every kind of disagreement that occurred, most frequent first.
        kappa: None where not defined; so is ac1.
        ac1: stays near the agreement when one class is rare.
        margins_p: with two classes, McNemar's p that both kinds of disagreement are equally frequent. It says
            nothing about who is right.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    classes: tuple[Class, ...]
    directions: tuple[Direction, ...]
    kappa: Estimate | None
    ac1: Estimate | None
    margins_p: float | None


def classify(cases: Sequence[Case], labels: Sequence[str]) -> Classification:
    """Count the answers of both judges."""
    table = Table.of(((str(c.model.value), str(c.person.value)) for c in cases), labels)
    bands = agreement.chance_corrected(_cells(cases, table.labels))
    off = table.disagreements()
    cells = sorted(((n, pair) for pair, n in off.items() if n), key=lambda cell: -cell[0])
    return Classification(
        table.labels,
        table.counts,
        tuple(_class(table, label) for label in table.labels),
        tuple(Direction(*pair, exact(n, table.first(pair[0]))) for n, pair in cells),
        _estimate(table.kappa, bands["kappa"]),
        _estimate(table.ac1, bands["ac1"]),
        agreement.mcnemar(*off.values()) if len(table.labels) == 2 else None,
    )


def agreed(cases: Sequence[Case], same: Same) -> Share:
    """Return the share of items on which both said the same; items of one unit are drawn together."""
    return of_units(cases, lambda case: same(case.model, case.person))


def of_units(cases: Sequence[Case], holds: Callable[[Case], bool]) -> Share:
    """Return the share of cases for which `holds`: exact with one case per unit, else a bootstrap over units."""
    units: dict[str, list[bool]] = defaultdict(list)
    for case in cases:
        units[case.unit or f"#{case.number}"].append(holds(case))
    n, k = len(cases), sum(map(sum, units.values()))
    if not n or len(units) == n:
        return exact(k, n)
    found = interval.unit_bootstrap([len(v) for v in units.values()], [sum(v) for v in units.values()])
    if found is None:
        return Share(k, n, k / n, method=f"none: {len(units)} units are too few")
    return Share(k, n, k / n, *found, method="bootstrap over units")


def exact(k: int, n: int) -> Share:
    """Return a share with its exact interval."""
    return (
        Share(k, n, k / n, *interval.clopper_pearson(k, n), method="Clopper-Pearson") if n else Share(0, 0, None)
    )


def _class(table: Table, label: str) -> Class:
    i = table.labels.index(label)
    return Class(label, table.first(label), table.second(label), table.counts[i][i], table.specific(label))


def _cells(cases: Sequence[Case], labels: Sequence[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    names = {name: i for i, name in enumerate(labels)}
    units: dict[str, int] = {}
    rows = [units.setdefault(c.unit or f"#{c.number}", len(units)) for c in cases]
    cells = np.zeros((len(units), len(names), len(names)))
    for row, case in zip(rows, cases, strict=True):
        cells[row, names[str(case.model.value)], names[str(case.person.value)]] += 1.0
    return cells


def _estimate(value: float | None, band: tuple[float, float] | None) -> Estimate | None:
    return None if value is None else Estimate(value, *(band or (None, None)))
