"""A stage that answers at once, always the same: what is left of a request's cost is the server's own.

The file is copied into a bundle, as a user's stage is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from tenure.model.answer import Scores
from tenure.types import Prediction


class Constant:
    """Answer every item with the same prediction.

    Args:
        answer: the prediction, as plain JSON.
        scores: answer in columns, as a classifier does: the server's way with those is another one.
    """

    takes_rows = True

    def __init__(self, answer: dict[str, Any], scores: bool = False) -> None:
        self._answer = msgspec.convert(answer, Prediction)
        self._chances = self._answer.probabilities if scores else None

    def predict(self, batch: Sequence[Any]) -> Sequence[Prediction]:
        """Return the answer once for each item."""
        if self._chances is None:
            return [self._answer] * len(batch)
        row = np.array([list(self._chances.values())], dtype=np.float32)
        return Scores(tuple(self._chances), row.repeat(len(batch), axis=0))
