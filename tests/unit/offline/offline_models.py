"""Models that the tests of offline scoring register."""

from __future__ import annotations

import math
import os

from tenure.model.columns import Columns
from tenure.types import Failed, Prediction


class Churn:
    """The more a customer spends, the rarer it leaves. Age 13 cannot be answered.

    `OFFLINE_MOOD` shifts the answers a little, so that a test sees whether a row was scored again.
    """

    def predict(self, batch: Columns) -> list[Prediction | Failed]:
        mood = float(os.environ.get("OFFLINE_MOOD", "0"))
        return [_answer(age, spend, mood) for age, spend in zip(batch["age"], batch["spend"], strict=True)]


def _answer(age: float, spend: float, mood: float) -> Prediction | Failed:
    if age == 13:
        return Failed("nobody is 13")
    leaves = 1 / (1 + math.exp((0 if math.isnan(spend) else spend) / 50 - 1 + mood))
    chances = {"stays": 1 - leaves, "leaves": leaves}
    best = max(chances, key=chances.__getitem__)
    return Prediction(best, chances[best], chances)


class Length:
    """The number of characters of a text."""

    def predict(self, batch: list[str]) -> list[Prediction]:
        return [Prediction(float(len(text))) for text in batch]
