"""LightGBM models in text files (`Booster.save_model`), which hold data only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenure.errors import ModelError
from tenure.model.formats import extras
from tenure.model.formats.contributions import tried
from tenure.model.formats.tabular import Kind, Raw, Tabular, confidence_of, wide_features_of
from tenure.types import Failed, Prediction

ENDINGS = (".txt",)

_CHANCES = ("binary", "multiclass", "multiclassova", "cross_entropy")


@dataclass
class LightgbmModel(Tabular):
    """A booster as a stage: classes with probabilities for classifiers, a number without confidence otherwise.

    Categories of a pandas data frame, which the file names, are found among the fields that are texts.

    Args:
        contributions: say how much each field moved an answer; costs many times what the answer does.
    """

    contributions: bool = False

    def load(self, files: Path) -> None:
        """Read the file."""
        place = self.place(files)
        head = _header(place)
        if place.suffix.lower() not in ENDINGS or head.get("tree") != "":
            raise ModelError(
                f"{self.file}: LightGBM models are read from its text format (.txt) only", at=self.file
            )
        lightgbm = extras.load("lightgbm", format="LightGBM")
        try:
            self._booster = lightgbm.Booster(model_file=str(place))
        except Exception as error:  # its own error class, and those of a broken header
            raise ModelError(f"cannot load {self.file}: {str(error)[:300]}", at=self.file) from error
        self._features = tuple(self.features or self._booster.feature_name())
        self._categories = self._own_categories(head)
        self._kind: Kind = "probability" if head.get("objective", "").split(" ")[0] in _CHANCES else "number"
        self.confidence = confidence_of(self._kind)
        if self.contributions:
            tried(self._explain, self._booster.num_feature(), self.file)

    def predict(self, batch: list[Any]) -> Sequence[Prediction | Failed]:
        """Answer a batch of records or of arrays of features."""
        rows = wide_features_of(batch, self._features, self.file, categories=self._categories)
        if rows.shape[1] != self._booster.num_feature():
            raise ModelError(f"{self.file} takes {self._booster.num_feature()} features, got {rows.shape[1]}")
        raw = Raw(self._kind, self._booster.predict(rows, num_threads=1))
        return (
            self.moved(raw, self._explain(rows), batch, self._features)
            if self.contributions
            else self.answers(raw)
        )

    def _explain(self, rows: Any) -> Any:
        """Return contributions without the baseline, which stands behind the fields of each class."""
        found = self._booster.predict(rows, pred_contrib=True, num_threads=1)
        each = found.reshape(len(rows), -1, self._booster.num_feature() + 1)[:, :, :-1]
        return each[:, 0] if each.shape[1] == 1 else each

    def _own_categories(self, head: dict[str, str]) -> dict[str, tuple[str, ...]]:
        """Return category -> its values in the order of their numbers; the file lists them without names."""
        known = self._booster.pandas_categorical or []
        infos = head.get("feature_infos", "").split(" ")
        found = [
            name for name, info in zip(self._features, infos, strict=False) if not info.startswith(("[", "n"))
        ]
        if known and len(found) != len(known):
            raise ModelError(
                f"{self.file} has {len(known)} categories, and cannot tell which columns they are: some never "
                "varied in training; encode them in a stage before",
                at=self.file,
            )
        return {name: tuple(map(str, values)) for name, values in zip(found, known, strict=False)}


def _header(path: Path) -> dict[str, str]:
    """Return the lines before the first tree as key -> value."""
    head: dict[str, str] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for _ in range(64):
            line = file.readline(2**24).rstrip("\n")
            if line.startswith("Tree="):
                break
            key, _, value = line.partition("=")
            head[key] = value
    return head
