"""XGBoost models in `.json` and `.ubj` files, which hold data only; its pickles run code and are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenure.errors import ModelError
from tenure.model.formats import extras
from tenure.model.formats.contributions import refused, tried
from tenure.model.formats.tabular import Kind, Raw, Tabular, confidence_of, features_of, softmax
from tenure.types import Failed, Prediction

ENDINGS = (".json", ".ubj")

_CHANCES = ("binary:logistic", "multi:softprob", "multi:softmax", "binary:logitraw", "reg:logistic")
_MARGINS = ("binary:hinge",)


@dataclass
class XgboostModel(Tabular):
    """A booster as a stage; what it answers follows from its objective.

    `binary:*` and `multi:*` are classes with probabilities (`binary:hinge`: margins), `reg:quantileerror` with
    several levels a number with an interval, all others a number without confidence.

    Args:
        contributions: say how much each field moved an answer; costs many times what the answer does.
    """

    contributions: bool = False

    def load(self, files: Path) -> None:
        """Open the file for one thread, since the workers are the parallelism."""
        place = self.place(files)
        if place.suffix.lower() not in ENDINGS:
            raise ModelError(f"{self.file}: XGBoost models are read from .json or .ubj only", at=self.file)
        xgboost = extras.load("xgboost", format="XGBoost")
        self._booster = xgboost.Booster({"nthread": 1})
        try:
            self._booster.load_model(str(place))
            learner = json.loads(self._booster.save_config())["learner"]
        except Exception as error:  # its own error class, ValueError, RuntimeError and KeyError
            raise ModelError(f"cannot load {self.file}: {str(error)[:300]}", at=self.file) from error
        self._booster.set_param({"nthread": 1})
        self._refuse_categories()
        self._features = tuple(self.features or self._booster.feature_names or ())
        self._objective = str(learner["objective"]["name"])
        self._levels = _levels(learner["objective"])
        self._kind = self._kind_of()
        self.confidence = confidence_of(self._kind)
        self._matrix = xgboost.DMatrix
        if self.contributions and self._kind == "interval":
            raise refused(self.file, "it answers several quantiles at once")
        if self.contributions:
            tried(self._explain, self._booster.num_features(), self.file)

    def predict(self, batch: list[Any]) -> Sequence[Prediction | Failed]:
        """Answer a batch of records or of arrays of features."""
        rows = features_of(batch, self._features, self.file)
        if rows.shape[1] != self._booster.num_features():
            raise ModelError(f"{self.file} takes {self._booster.num_features()} features, got {rows.shape[1]}")
        linear = self._objective in ("multi:softmax", "binary:logitraw", *_MARGINS)
        values = self._booster.inplace_predict(
            rows, predict_type="margin" if linear else "value", validate_features=False
        )
        raw = Raw(self._kind, self._linked(values), levels=self._levels)
        return (
            self.moved(raw, self._explain(rows), batch, self._features)
            if self.contributions
            else self.answers(raw)
        )

    def _explain(self, rows: Any) -> Any:
        """Return contributions without the baseline, which stands behind the fields."""
        table = self._matrix(rows, nthread=1)
        return self._booster.predict(table, pred_contribs=True, validate_features=False)[..., :-1]

    def _linked(self, values: Any) -> Any:
        """Return probabilities where the objective itself would give the class or the score before the link."""
        if self._objective == "multi:softmax":
            return softmax(values)
        return 1 / (1 + np.exp(-values)) if self._objective == "binary:logitraw" else values

    def _kind_of(self) -> Kind:
        if self._objective in _CHANCES[:-1]:
            return "probability"
        if self._objective in _MARGINS:
            return "margin"
        return "interval" if len(self._levels) > 1 else "number"

    def _refuse_categories(self) -> None:
        kinds = self._booster.feature_types or []
        named = self._booster.feature_names or [str(i) for i in range(len(kinds))]
        found = [name for name, kind in zip(named, kinds, strict=False) if kind == "c"]
        if found:
            raise ModelError(
                f"{self.file} has columns of XGBoost's own categories ({', '.join(found[:3])}), which need a "
                "data frame; encode them in a stage before, or export to ONNX",
                at=self.file,
            )


def _levels(objective: dict[str, Any]) -> tuple[float, ...]:
    """Return the levels of a quantile regression; old versions write one number instead of a list."""
    said = objective.get("quantile_loss_param", {}).get("quantile_alpha", "[]")
    found = json.loads(said) if str(said).startswith("[") else [said]
    return tuple(sorted(float(level) for level in found))
