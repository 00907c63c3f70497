"""A stage that answers at once, always the same: what is left of a request's cost is the server's own.

The file is copied into a bundle, as a user's stage is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tenure.types import Prediction


class Constant:
    """Answer every item with the same prediction, given as plain JSON."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self._answer = msgspec.convert(answer, Prediction)

    def predict(self, batch: Sequence[Any]) -> list[Prediction]:
        """Return the answer once for each item."""
        return [self._answer] * len(batch)
