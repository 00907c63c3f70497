"""scikit-learn estimators in `.skops` files: built from plain data, by types that are trusted and no others.

scikit-learn's own types are trusted by skops. Any other type must stand in the operator's configuration under the
SHA-256 of this very file (`trust.skops`); what the file says of itself counts for nothing.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenure.errors import ModelError
from tenure.model.columns import Columns
from tenure.model.formats import extras
from tenure.model.formats.contributions import linear, refused
from tenure.model.formats.tabular import MAX_BYTES, Raw, Tabular, confidence_of, wide_features_of
from tenure.model.trust import NOTHING
from tenure.scope.project import Trust
from tenure.types import Failed, Prediction

ENDINGS = (".skops",)
NORMAL_90 = 1.6448536269514722
"""Half the width, in standard deviations, of the interval that holds 90 % of a normal distribution."""


@dataclass
class SklearnModel(Tabular):
    """An estimator as a stage.

    `predict_proba` gives probabilities, `decision_function` margins, `predict(return_std=True)` a number with its
    90 % interval, `predict` alone an answer without confidence. Estimators that name columns of different types
    (a `ColumnTransformer`) get a table with the records' fields, all others a matrix of float64.

    Args:
        contributions: say how much each field moved an answer; for linear models, also behind scalers.
    """

    contributions: bool = False

    def allow(self, trust: Trust) -> None:
        """Take the operator's word; called before `load`."""
        self._trust = trust

    def load(self, files: Path) -> None:
        """Build the estimator; raises ModelError before any type is imported that is not trusted."""
        place = self.place(files)
        self._estimator = _build(place, getattr(self, "_trust", NOTHING), self.file)
        for estimator in _parts(self._estimator):
            _one_job(estimator)
        self._features = tuple(self.features) or tuple(
            map(str, getattr(self._estimator, "feature_names_in_", ()))
        )
        warnings.filterwarnings("ignore", message="X does not have valid feature names")  # they are in order here
        self._as_table = any(type(part).__name__ == "ColumnTransformer" for part in _parts(self._estimator))
        self._run = self._runner()
        self._explain = linear(self._estimator) if self.contributions else None
        if self.contributions and self._explain is None:
            raise refused(self.file, "it is no linear model, alone or behind scalers")

    def predict(self, batch: list[Any]) -> Sequence[Prediction | Failed]:
        """Answer a batch of records or of arrays of features."""
        rows = self._table(batch) if self._as_table else wide_features_of(batch, self._features, self.file)
        raw = self._run(rows)
        return (
            self.answers(raw)
            if self._explain is None
            else self.moved(raw, self._explain(rows), batch, self._features)
        )

    def _table(self, batch: list[Any]) -> Any:
        if not isinstance(batch[0], dict):
            return np.stack([np.asarray(item) for item in batch])
        import pyarrow

        columns = Columns(batch)
        wanted = self._features or tuple(columns)
        return pyarrow.table(
            {n: pyarrow.array(columns[n] if n in columns else [None] * len(batch)) for n in wanted}
        )

    def _runner(self) -> Callable[[Any], Raw]:
        """Return how this estimator is asked, and note what its confidence is worth."""
        estimator, classes = self._estimator, _classes(self._estimator, self.file)
        if hasattr(estimator, "predict_proba"):
            self.confidence = confidence_of("probability")
            return lambda rows: Raw("probability", estimator.predict_proba(rows), classes)
        if hasattr(estimator, "decision_function"):
            self.confidence = confidence_of("margin")
            return lambda rows: Raw("margin", estimator.decision_function(rows), classes or ("-1", "1"))
        if not hasattr(estimator, "predict"):
            raise ModelError(
                f"{self.file} holds a {type(estimator).__name__}, which has no `predict`", at=self.file
            )
        if "return_std" in inspect.signature(estimator.predict).parameters:
            self.confidence = confidence_of("interval")
            return lambda rows: _interval(*estimator.predict(rows, return_std=True))
        if classes:
            return lambda rows: Raw("label", estimator.predict(rows), classes)
        return lambda rows: _numbers(estimator.predict(rows), self.file)


def untrusted(path: Path) -> list[str]:
    """Return the types in a `.skops` file that skops does not trust by itself; nothing is imported or built.

    Raises:
        ModelError: it is no `.skops` file, or unfolds to more than `MAX_BYTES`.
    """
    skops = extras.load("skops.io", format="scikit-learn")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ModelError(f"{path.name} unfolds to more than {MAX_BYTES // 2**30} GiB", at=path.name)
        return list(skops.get_untrusted_types(file=path))
    except ModelError:
        raise
    except Exception as error:  # whatever a broken archive or schema makes skops raise
        raise ModelError(
            f"cannot read {path.name}: {type(error).__name__}: {str(error)[:200]}", at=path.name
        ) from error


def _build(path: Path, trust: Trust, name: str) -> Any:
    """Return the object in the file; the types allowed are the operator's for the hash of the bytes read here."""
    found = untrusted(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    allowed = trust.skops.get(digest, ())
    missing = [kind for kind in found if kind not in allowed]
    if missing:
        raise ModelError(
            f"{name} would build types that nobody trusted: {', '.join(missing)}. Where you know them, write "
            f"into the project file: trust: {{skops: {{{digest}: [{', '.join(found)}]}}}}",
            at=name,
            code="untrusted_type",
        )
    skops = extras.load("skops.io", format="scikit-learn")
    try:
        return skops.load(path, trusted=[kind for kind in found if kind in allowed])
    except Exception as error:  # types that are gone, other versions of scikit-learn, broken data
        raise ModelError(f"cannot load {name}: {type(error).__name__}: {str(error)[:300]}", at=name) from error


def _parts(estimator: Any) -> Iterator[Any]:
    """Yield the estimator and those inside it."""
    yield estimator
    if hasattr(estimator, "get_params"):
        yield from (v for v in estimator.get_params(deep=True).values() if hasattr(v, "get_params"))


def _one_job(estimator: Any) -> None:
    if getattr(estimator, "n_jobs", 1) not in (None, 1):
        estimator.n_jobs = 1


def _classes(estimator: Any, name: str) -> tuple[str, ...]:
    found = getattr(estimator, "classes_", ())
    if isinstance(found, list):
        raise ModelError(f"{name} answers several outputs at once; a version answers one", at=name)
    return tuple(str(value) for value in found)


def _interval(mean: Any, deviation: Any) -> Raw:
    half = NORMAL_90 * deviation
    return Raw("interval", np.column_stack([mean - half, mean, mean + half]), levels=(0.05, 0.5, 0.95))


def _numbers(values: Any, name: str) -> Raw:
    array = np.asarray(values)
    if array.ndim > 1 and array.shape[1] != 1:
        raise ModelError(f"{name} answers {array.shape[1]} numbers at once; a version answers one", at=name)
    return Raw("label" if array.dtype.kind in "OSU" else "number", array)
