"""How much each field moved an answer, where a model can say so exactly: sums of trees, and linear models.

The numbers are of the score before the link (the log-odds of a classifier, the logarithm of a Poisson mean),
where they add up: with the model's own baseline their sum is the score. Positive speaks for the answer that is
given; of a number it says that the field raised it. Trees: SHAP values (Lundberg, Erion and Lee 2018, path
dependent), as the boosters compute them. Linear models: weight times value, of scaled fields the scaled one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.errors import ModelError
from tenure.types import Failed, Prediction

Array = npt.NDArray[Any]
Explain = Callable[[Any], Array]
"""Rows to (n, fields) contributions to a number or to the second of two classes, or (n, classes, fields)."""

_LINEAR = ("LinearSVC", "LinearSVR")


def explained(
    answers: Sequence[Prediction | Failed], parts: Array, *, names: Sequence[str], labels: Sequence[str] = ()
) -> list[Prediction | Failed]:
    """Return the answers with their contributions.

    Args:
        answers: of the model.
        parts: (n, fields) or (n, classes, fields), see `Explain`.
        names: of the fields.
        labels: of the classes in the model's order; none = the answer is a number.
    """
    place = {label: k for k, label in enumerate(labels)}
    return [
        answer
        if isinstance(answer, Failed)
        else msgspec.structs.replace(answer, contributions=_named(names, _towards(answer, row, place)))
        for answer, row in zip(answers, parts, strict=True)
    ]


def tried(explain: Explain, columns: int, file: str) -> Explain:
    """Return what explains if it can.

    Raises:
        ModelError: the model has no exact contributions.
    """
    try:
        explain(np.zeros((1, columns)))
    except Exception as error:  # the libraries' own error classes
        raise refused(file, str(error)[:200]) from error
    return explain


def refused(file: str, why: str) -> ModelError:
    """Return the error that a model cannot say what moved its answers."""
    return ModelError(f"{file} has no exact contributions: {why}; leave contributions out", at="contributions")


def linear(estimator: Any) -> Explain | None:
    """Return what explains a linear model of scikit-learn, alone or behind scalers; None for another model."""
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    last = steps[-1]
    kind = type(last)
    if not kind.__module__.startswith("sklearn.linear_model") and kind.__name__ not in _LINEAR:
        return None
    if not hasattr(last, "coef_") or not all(_keeps_fields(step) for step in steps[:-1]):
        return None
    weights = np.atleast_2d(np.asarray(last.coef_, dtype=np.float64))
    before = estimator[:-1] if len(steps) > 1 else None

    def explain(rows: Any) -> Array:
        values = np.asarray(rows if before is None else before.transform(rows), dtype=np.float64)
        parts = values[:, None, :] * weights[None, :, :]
        return parts[:, 0] if len(weights) == 1 else parts

    return explain


def _keeps_fields(step: Any) -> bool:
    """Say whether a step makes of each field one value, by that field alone."""
    if type(step).__name__ == "SimpleImputer":
        kept = not step.add_indicator and not np.isnan(np.asarray(step.statistics_, dtype=np.float64)).any()
        return bool(kept)
    return type(step).__name__ in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")


def _towards(answer: Prediction, row: Array, place: dict[str, int]) -> Array:
    """Return what speaks for the answer."""
    if not place:
        return row
    k = place[str(answer.value)]
    if row.ndim == 2:
        return np.asarray(row[k])
    return row if k == 1 else -row


def _named(names: Sequence[str], row: Array) -> dict[str, float]:
    values = row.tolist()
    return dict(zip(names or map(str, range(len(values))), values, strict=True))
