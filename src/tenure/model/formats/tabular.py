"""What the formats of models over rows have in common: records into a matrix, raw numbers into answers.

A model's numbers are of one kind, and the kind says what its confidence is worth (`manifest.Confidence`):

- `probability`: (n, k) chances of the classes, or (n,) that of the second of two. The confidence is the chance of
  the answer, as good as the model's calibration.
- `margin`: (n, k) scores of the classes, or (n,) distances from the border between two. The confidence is
  m / (1 + m) of the distance m from the border or from the second-best class: it orders the answers and is no
  chance of being right.
- `interval`: (n, q) quantiles of a number. The confidence is scale / (scale + width): it orders the answers, too.
- `number` and `label`: (n,) values without any confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tenure.errors import ModelError
from tenure.model.answer import Scores
from tenure.model.columns import Columns, Rows, matrix
from tenure.model.contents import safe_path
from tenure.model.formats.contributions import explained
from tenure.model.manifest import Confidence
from tenure.types import Failed, Image, Prediction, Record

Array = npt.NDArray[Any]
Kind = Literal["probability", "margin", "interval", "number", "label"]
Link = Literal["probability", "softmax", "margin"]
"""What the scores of classes are: probabilities, scores before the softmax, or margins."""

MAX_BYTES = 8 * 2**30
"""Largest model file that is opened."""


class Raw(NamedTuple):
    """What a model computed for a batch; `classes` are their names in the file, none = known by number only.

    `levels` are the levels of the quantiles of an interval, ascending, such as (0.1, 0.5, 0.9).
    """

    kind: Kind
    values: Array
    classes: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()


@dataclass
class Tabular:
    """Options that all models over rows take.

    Args:
        file: path of the model in the bundle's `files`.
        labels: names of the classes. Names that the file has itself are matched, whatever the order; otherwise
            these are the classes in the order of the model's numbers. Empty = the names in the file.
        features: fields of a record in the order of the model's columns; empty = the names in the file, else all
            fields as they stand. Missing values become NaN.
        scale: for intervals: the width, in units of the answer, at which the confidence is 0.5.
    """

    file: str
    labels: Sequence[str] = ()
    features: Sequence[str] = ()
    scale: float = 1.0
    confidence: Confidence = field(default="none", init=False)
    _named: tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...]] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    takes_rows: ClassVar[bool] = True

    def place(self, files: Path) -> Path:
        """Return where the model is; raises ModelError where it is missing, too large or outside the bundle."""
        path = files / safe_path(self.file, at="file")
        if not path.exists():
            raise ModelError(f"no {self.file} among the files of the bundle", at=self.file)
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{self.file} is larger than {MAX_BYTES // 2**30} GiB", at=self.file)
        return path

    def answers(self, raw: Raw) -> Sequence[Prediction | Failed]:
        """Return a model's numbers as answers."""
        if raw.kind == "probability":
            return _by_chance(raw, self.classes(raw), self.file)
        if raw.kind == "margin":
            return _by_margin(raw, self.classes(raw))
        if raw.kind == "interval":
            return _by_interval(raw, self.scale)
        if raw.kind == "number":
            return [_number(value) for value in raw.values.reshape(-1).tolist()]
        return [Prediction(str(value)) for value in raw.values.reshape(-1).tolist()]

    def moved(
        self, raw: Raw, parts: Array, batch: Sequence[Any], names: Sequence[str]
    ) -> Sequence[Prediction | Failed]:
        """Return a model's numbers as answers with what moved them; `parts` as in `contributions.explained`."""
        labels = self.classes(raw) if raw.kind in ("probability", "margin") else ()
        return explained(self.answers(raw), parts, names=columns_of(batch, names), labels=labels)

    def classes(self, raw: Raw) -> tuple[str, ...]:
        """Return the classes' names, which no batch changes."""
        width = raw.values.shape[1:]
        if self._named is None or self._named[:2] != (raw.classes, width):
            self._named = (raw.classes, width, names(self.labels, raw, self.file))
        return self._named[2]


def confidence_of(kind: Kind) -> Confidence:
    """Return what the confidence of a kind of numbers is worth."""
    return kind if kind in ("probability", "margin", "interval") else "none"


def classified(scores: Array, link: Link) -> Raw:
    """Return (n, k) scores of classes as what they are said to be."""
    if link == "softmax":
        return Raw("probability", softmax(scores))
    return Raw("margin" if link == "margin" else "probability", scores)


def softmax(scores: Array) -> Array:
    """Return (n, k) probabilities of (n, k) scores before the link."""
    grown = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def features_of(batch: Sequence[Any], names: Sequence[str], file: str) -> npt.NDArray[np.float32]:
    """Return (n, k) float32 of records, or of arrays of features from a stage before.

    Raises:
        ModelError: the batch holds neither.
        ValueError: a field is not numeric.
    """
    if isinstance(batch, Rows) or isinstance(batch[0], dict):
        return matrix(batch, names)
    return np.stack([np.asarray(item, dtype=np.float32) for item in _arrays(batch, file)])


def columns_of(batch: Sequence[Any], names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns that `features_of` makes; of arrays without names none."""
    if names:
        return tuple(names)
    if isinstance(batch, Rows):
        return batch.names
    return tuple(Columns(batch)) if isinstance(batch[0], dict) else ()


def wide_features_of(
    batch: Sequence[Any],
    names: Sequence[str],
    file: str,
    *,
    categories: dict[str, tuple[str, ...]] | None = None,
) -> npt.NDArray[np.float64]:
    """Return what `features_of` does in float64; a text of a named category becomes its number.

    A text that is none of its category's values becomes NaN, as where the model was trained.
    """
    if isinstance(batch, Rows) and (not names or tuple(names) == batch.names):
        return batch.values
    if not isinstance(batch[0], dict):
        return np.stack([np.asarray(item, dtype=np.float64) for item in _arrays(batch, file)])
    columns = Columns(batch)
    wanted = tuple(names) or tuple(columns)
    out = np.full((len(batch), len(wanted)), np.nan)
    for i, name in enumerate(wanted):
        if categories and name in categories:
            out[:, i] = codes([record.get(name) for record in batch], categories[name])
        elif name in columns:
            out[:, i] = _floats(columns[name], name)
    return out


def codes(values: Sequence[Any], known: Sequence[str]) -> list[float]:
    """Return the place of each value among the known ones, NaN for others."""
    numbers = {value: float(i) for i, value in enumerate(known)}
    return [numbers.get(str(value), np.nan) if value is not None else np.nan for value in values]


def names(labels: Sequence[str], raw: Raw, file: str) -> tuple[str, ...]:
    """Return the names of a model's classes in its own order.

    Raises:
        ModelError: the labels given do not fit.
    """
    count = 2 if raw.values.ndim == 1 or raw.values.shape[1] == 1 else int(raw.values.shape[1])
    own = raw.classes or tuple(str(i) for i in range(count))
    if not labels or set(labels) == set(own):
        return own
    if raw.classes and not _numbered(raw.classes):
        wrong = sorted(set(own) ^ set(labels))[0]
        raise ModelError(f"{file} answers {', '.join(own)}; the labels differ in {wrong!r}", at="labels")
    if len(labels) != count:
        raise ModelError(f"{file} has {count} classes, {len(labels)} labels are given", at="labels")
    return tuple(labels)


def _numbered(classes: Sequence[str]) -> bool:
    return all(name.lstrip("-").replace(".", "", 1).isdigit() or name in ("True", "False") for name in classes)


def _by_chance(raw: Raw, labels: tuple[str, ...], file: str) -> Sequence[Prediction | Failed]:
    values = raw.values
    if values.ndim == 1 or values.shape[1] == 1:
        second = values.reshape(-1)
        values = np.column_stack([1 - second, second])
    made = Scores.of(labels, values)
    if not isinstance(made, Scores):
        _refuse_scores(values, file)
    return made


def _refuse_scores(values: Array, file: str) -> None:
    """Refuse what is far from a probability; a little beyond, or no number, is a fault of its row alone."""
    low, high = float(np.nanmin(values, initial=0.0)), float(np.nanmax(values, initial=0.0))
    if low < -1e-3 or high > 1 + 1e-3:
        raise ModelError(
            f"the scores of {file} are no probabilities: they reach from {low:.3g} to {high:.3g}; "
            "say scores=softmax or scores=margin",
            at="scores",
        )


def _by_margin(raw: Raw, labels: tuple[str, ...]) -> list[Prediction | Failed]:
    values = raw.values.reshape(len(raw.values), -1).astype(np.float64)
    if values.shape[1] == 1:
        values = np.column_stack([-values[:, 0], values[:, 0]]) / 2  # so that the gap is the distance itself
    ordered = np.sort(values, axis=1)
    gaps = (ordered[:, -1] - ordered[:, -2]).tolist()
    best = values.argmax(axis=1).tolist()
    return [
        Prediction(labels[b], g / (1 + g)) if np.isfinite(g) else Failed("the model's scores are not numbers")
        for b, g in zip(best, gaps, strict=True)
    ]


def _by_interval(raw: Raw, scale: float) -> list[Prediction | Failed]:
    middle = min(range(len(raw.levels)), key=lambda i: abs(raw.levels[i] - 0.5))
    out: list[Prediction | Failed] = []
    for row in raw.values.astype(np.float64).tolist():
        width = max(0.0, max(row) - min(row))  # quantiles of trees may cross
        good = np.isfinite(width) and np.isfinite(row[middle])
        out.append(Prediction(row[middle], scale / (scale + width)) if good else _NO_NUMBER)
    return out


_NO_NUMBER = Failed("the model's answer is not a number")


def _number(value: float) -> Prediction | Failed:
    return Prediction(float(value)) if np.isfinite(value) else _NO_NUMBER


def _floats(column: Array, name: str) -> Array:
    if column.dtype != object:
        return column
    if any(value is not None for value in column):
        raise ValueError(f"field {name!r} is not numeric")
    return np.full(len(column), np.nan)


def _arrays(batch: Sequence[Any | Record], file: str) -> Sequence[Any]:
    if isinstance(batch[0], str | Image):
        raise ModelError(f"{file} takes features; put a stage before it that makes them", at=file)
    return batch
