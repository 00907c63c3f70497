"""The models that the serving journeys register; their source goes into the bundles."""

from __future__ import annotations

import dataclasses
from typing import Any

from tenure.types import Image, Prediction


@dataclasses.dataclass
class Size:
    """Says `big` above the limit, `small` elsewhere; the confidence tells the limit, and so the version."""

    limit: float = 1.0

    def predict(self, rows: list[dict[str, Any]]) -> list[Prediction]:
        return [Prediction("big" if r["a"] > self.limit else "small", 0.5 + self.limit / 4) for r in rows]


def bright(image: Image) -> Prediction:
    return Prediction("big" if image.pixels.mean() > 100 else "small", 0.9)


def length(text: str) -> Prediction:
    if "fall over" in text:
        raise ValueError("told to")
    return Prediction("big" if len(text) > 5 else "small", 0.8)
