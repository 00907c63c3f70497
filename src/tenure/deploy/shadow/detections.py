"""Boxes: which of them both judges drew, which only one of them, and which they called differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from tenure.deploy.shadow.cases import Case, Said
from tenure.deploy.shadow.classes import Share, exact, of_units
from tenure.stats import boxes


class BoxClass(msgspec.Struct, frozen=True):
    """Boxes of one class: drawn by both under that name, by the model only, by the person only.

    `specific` is twice `both` over all boxes of either; None without any. `iou` is the mean overlap of `both`.
    """

    label: str
    both: int
    model_only: int
    person_only: int
    specific: float | None
    iou: float | None


class Renamed(msgspec.Struct, frozen=True):
    """The same place called `model` by one and `person` by the other."""

    model: str
    person: str
    count: int


class Against(msgspec.Struct, frozen=True):
    """One judge's boxes against the truth of the items that were read again.

    `missed` and `false` are shares of the true and of the drawn boxes. Boxes of one picture are not independent:
    there is no interval.
    """

    pictures: int
    found: int
    missed: Share
    false: Share


class Detection(msgspec.Struct, frozen=True, tag="detection"):
    """Boxes of all pictures.

    Attributes:
        iou: the overlap from which two boxes are one.
        pictures: share on which both drew the same boxes with the same classes.
        both: boxes at the same place with the same class.
        model_only: boxes that only the model drew: false alarms, or what the person missed.
        person_only: boxes that only the person drew: missed by the model, or the person's false alarms.
        renamed: same place, other class; not in the three counts above.
        classes: per class; a renamed box is there one of each side only.
        model: against the truth.
        person: against the truth.
    """

    iou: float
    pictures: Share
    both: int
    model_only: int
    person_only: int
    renamed: tuple[Renamed, ...]
    classes: tuple[BoxClass, ...]
    model: Against
    person: Against


def same_boxes(a: Said, b: Said, iou: float) -> bool:
    """Say whether two answers have the same value and one-to-one the same boxes and classes."""
    return a.value == b.value and boxes.match(a.regions, b.regions, iou=iou).equal


def detect(cases: Sequence[Case], iou: float) -> Detection:
    """Match the boxes of both judges, picture by picture."""
    both, only, renamed = Counter[str](), (Counter[str](), Counter[str]()), Counter[tuple[str, str]]()
    overlap: Counter[str] = Counter()
    loose = [0, 0]
    for case in cases:
        a, b = case.model.regions, case.person.regions
        named = boxes.match(a, b, iou=iou)
        both.update(a[p.a].label for p in named.pairs)
        for pair in named.pairs:
            overlap[a[pair.a].label] += pair.iou  # type: ignore[assignment]
        rest_a, rest_b = [a[i] for i in named.only_a], [b[i] for i in named.only_b]
        only[0].update(x.label for x in rest_a)
        only[1].update(x.label for x in rest_b)
        placed = boxes.match(rest_a, rest_b, iou=iou, labels=False)
        renamed.update((rest_a[p.a].label, rest_b[p.b].label) for p in placed.pairs)
        loose[0] += len(placed.only_a)
        loose[1] += len(placed.only_b)
    labels = sorted({*both, *only[0], *only[1]})
    return Detection(
        iou,
        of_units(cases, lambda c: boxes.match(c.model.regions, c.person.regions, iou=iou).equal),
        both.total(),
        loose[0],
        loose[1],
        tuple(Renamed(*pair, count) for pair, count in renamed.most_common(20)),
        tuple(_class(x, both[x], only[0][x], only[1][x], overlap[x]) for x in labels),
        _against([(c.model, c.truth) for c in cases], iou),
        _against([(c.person, c.truth) for c in cases], iou),
    )


def _class(label: str, both: int, model: int, person: int, overlap: float) -> BoxClass:
    drawn = 2 * both + model + person
    return BoxClass(
        label, both, model, person, 2 * both / drawn if drawn else None, overlap / both if both else None
    )


def _against(pairs: Sequence[tuple[Said, Said | None]], iou: float) -> Against:
    found = missed = false = pictures = 0
    for said, truth in pairs:
        if truth is not None:
            fit = boxes.match(said.regions, truth.regions, iou=iou)
            found, missed, false = found + len(fit.pairs), missed + len(fit.only_b), false + len(fit.only_a)
            pictures += 1
    return Against(pictures, found, _plain(missed, found + missed), _plain(false, found + false))


def _plain(k: int, n: int) -> Share:
    return msgspec.structs.replace(exact(k, n), low=None, high=None, method="")
