"""MLflow models (pyfunc): folders whose `MLmodel` names the code that loads them, loaded only where pinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tenure.errors import ModelError
from tenure.model.contents import safe_path
from tenure.model.formats import extras
from tenure.model.formats.tabular import Link, Raw, Tabular, classified, confidence_of
from tenure.model.trust import MLMODEL
from tenure.types import Failed, Prediction


@dataclass
class MlflowModel(Tabular):
    """A pyfunc model as a stage.

    Args:
        file: the folder with `MLmodel` in the bundle's `files`; `.` = all of them.
        answer: `label` or `number`; empty = what the answers look like.
        scores: what several columns of numbers are, see `OnnxModel`.

    Records become a pandas data frame. One column of numbers is a number, of anything else a label without
    confidence; several columns of numbers are the scores of the classes, named by the columns of a data frame.
    """

    file: str = "."
    answer: Literal["", "label", "number"] = ""
    scores: Link = "probability"

    def load(self, files: Path) -> None:
        """Load the model by the code that it names."""
        place = files if self.file == "." else files / safe_path(self.file, at="file")
        if not (place / MLMODEL).is_file():
            raise ModelError(f"no {MLMODEL} in {self.file}", at=self.file)
        pyfunc = extras.load("mlflow.pyfunc", format="MLflow")
        self._pandas = extras.load("pandas", format="MLflow")
        try:
            self._model = pyfunc.load_model(str(place), suppress_warnings=True)
        except Exception as error:  # the model's own code raises anything
            why = f"{type(error).__name__}: {str(error)[:300]}"
            raise ModelError(f"cannot load the MLflow model: {why}", at=self.file) from error

    def predict(self, batch: list[Any]) -> Sequence[Prediction | Failed]:
        """Answer a batch of records."""
        if not isinstance(batch[0], dict):
            raise ModelError("an MLflow model takes records", at=self.file)
        frame = self._pandas.DataFrame.from_records(list(batch), columns=list(self.features) or None)
        raw = self._raw(self._model.predict(frame), len(batch))
        self.confidence = confidence_of(raw.kind)
        return self.answers(raw)

    def _raw(self, found: Any, rows: int) -> Raw:
        values = np.asarray(found)
        if values.ndim == 0 or len(values) != rows:
            raise ModelError(f"the model answered {values.shape} for {rows} records", at=self.file)
        if values.ndim == 2 and values.shape[1] > 1:
            raw = classified(values.astype(np.float64), self.scores)
            return raw._replace(classes=tuple(str(c) for c in getattr(found, "columns", ())))
        numbers = values.dtype.kind in "fiu" and self.answer != "label"
        return Raw("number" if numbers else "label", values.reshape(-1))
