"""Stages for the tests of the Python API; a module of its own, because bundles keep source files."""

from __future__ import annotations

import tenure


class Urgency:
    def predict(self, texts: list[str]) -> list[tenure.Prediction]:
        return [tenure.Prediction("urgent" if "!" in t else "normal", confidence=0.9) for t in texts]


class Sure:
    def predict(self, texts: list[str]) -> list[tenure.Prediction]:
        return [
            tenure.Prediction("urgent", confidence=0.8, probabilities={"urgent": 0.8, "normal": 0.2})
            for _ in texts
        ]


def bright(photos: list[tenure.Image]) -> list[tenure.Prediction]:
    return [tenure.Prediction("light" if p.grey().mean() > 90 else "dark", confidence=0.7) for p in photos]


def total(record: dict) -> float:
    return record["amount"] * 2
