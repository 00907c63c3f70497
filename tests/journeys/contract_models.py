"""Models of the contract journeys; their source goes into the bundles."""

from __future__ import annotations

from typing import Any

from tenure.types import Audio, Box, Image, Prediction


def spots(image: Image) -> Prediction:
    """Put a box around the middle, sure of it as far as the photo is bright."""
    width, height = image.width, image.height
    sure = float(image.pixels.mean()) / 255
    box = Box(width / 4, height / 4, width * 3 / 4, height * 3 / 4, "bright", sure)
    return Prediction("big" if sure > 0.4 else "small", max(sure, 1 - sure), regions=(box,))


def plain(image: Image) -> Prediction:
    return Prediction("big" if image.pixels.mean() > 100 else "small", 0.9)


def loud(audio: Audio) -> Prediction:
    return Prediction("big" if abs(audio.samples).max(initial=0.0) > 0.5 else "small", 0.7)


def length(text: str) -> Prediction:
    if "fail" in text:
        raise ValueError("told to")
    return Prediction("big" if len(text) > 5 else "small", 0.8)


def total(rows: list[dict[str, Any]]) -> list[Prediction]:
    return [Prediction("big" if (row["a"] or 0) + (row.get("n") or 0) > 1 else "small", 0.6) for row in rows]


def anything(rows: list[dict[str, Any]]) -> list[Prediction]:
    return [Prediction("big" if len(row) > 1 else "small", 0.6) for row in rows]
