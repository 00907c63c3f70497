"""The models that foreign clients ask; their source goes into the bundles."""

from __future__ import annotations

from typing import Any

from tenure.types import Image, Prediction


def total(rows: list[dict[str, Any]]) -> list[Prediction]:
    """Say `big` where the fields add up to more than 1; surer the farther from it."""
    out = []
    for row in rows:
        sure = min(0.99, 0.5 + abs(row["a"] + row["b"] - 1) / 10)
        value, other = ("big", "small") if row["a"] + row["b"] > 1 else ("small", "big")
        out.append(Prediction(value, sure, {value: sure, other: 1 - sure}))
    return out


def price(rows: list[dict[str, Any]]) -> list[Prediction]:
    """Answer a number from fields of every type."""
    return [
        Prediction(
            (row["amount"] or 0.0) * row["count"] + len(row["colour"]) + (100 if row["urgent"] else 0), 0.9
        )
        for row in rows
    ]


def length(text: str) -> Prediction:
    """Say whether a text is long."""
    return Prediction("big" if len(text) > 5 else "small", 0.8)


def bright(image: Image) -> Prediction:
    """Say whether a picture is bright."""
    return Prediction("big" if image.pixels.mean() > 100 else "small", 0.9)
