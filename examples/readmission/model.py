"""The model as tenure runs it: records as columns in, one prediction each out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tenure.model.columns import Columns
from tenure.model.formats.onnx import onnx
from tenure.types import Prediction

LABELS = ("stays_out", "comes_back")
NUMBERS = (
    "admission_type_id", "discharge_disposition_id", "admission_source_id", "time_in_hospital",
    "num_lab_procedures", "num_procedures", "num_medications", "number_outpatient", "number_emergency",
    "number_inpatient", "number_diagnoses",
)  # fmt: skip
WORDS = (
    "race", "gender", "age", "payer_code", "medical_specialty", "max_glu_serum", "A1Cresult", "insulin", "change",
    "diabetesMed",
)  # fmt: skip


def matrix(columns: Columns | dict[str, np.ndarray], known: dict[str, list[str]]) -> np.ndarray:
    """Return (n, features) float32: numbers as they are, each word as its place in `known` or -1."""
    places = {name: {word: i for i, word in enumerate(words)} for name, words in known.items()}
    words = [[places[name].get(word, -1) for word in columns[name]] for name in WORDS]
    return np.column_stack([*(columns[name] for name in NUMBERS), *words]).astype(np.float32)


class Readmission:
    """Gradient boosting in ONNX, with the words that it knew when it was trained."""

    def load(self, files: Path) -> None:
        self._known = json.loads((files / "words.json").read_text())
        self._session = onnx(files / "model.onnx")

    def predict(self, batch: Columns) -> list[Prediction]:
        chances = self._session(matrix(batch, self._known))["probabilities"]
        best = chances.argmax(axis=1)
        return [
            Prediction(LABELS[i], float(p[i]), dict(zip(LABELS, p.tolist(), strict=True)))
            for i, p in zip(best.tolist(), chances, strict=True)
        ]
