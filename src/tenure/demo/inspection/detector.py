"""The stage that a bundle carries: finds defects in a grey photo, with boxes and one calibrated confidence.

This file is copied into every bundle as its code, so it imports nothing of the demo.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tenure.model.formats.onnx import onnx
from tenure.types import Box, Image, Prediction

PATCH, STRIDE = 20, 8
"""Side of a patch and steps between patches, in pixels."""

TOP = 6
"""How many of a photo's strongest patches its confidence rests on."""

CONTRAST = 20.0
"""Grey levels that count as one: patches are differences from their own mean, divided by this."""

Floats = npt.NDArray[np.float32]


class Detector:
    """Patches of a photo go through `patches.onnx`; `calibration.json` makes one confidence of the strongest."""

    def load(self, files: Path) -> None:
        self._net = onnx(files / "patches.onnx")
        self._calibration: dict[str, Any] = json.loads((files / "calibration.json").read_text())

    def predict(self, batch: list[Image]) -> list[Prediction]:
        return [self._one(photo.grey()) for photo in batch]

    def _one(self, pixels: npt.NDArray[np.uint8]) -> Prediction:
        logits = self.logits(pixels)
        chance = probability(summary(logits), self._calibration)
        if chance < 0.5:
            return Prediction("good", 1.0 - chance)
        boxes = tuple(regions(logits, self._calibration["patch_logit"], chance=chance))
        return Prediction("defect", chance, regions=boxes)

    def logits(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """Return the (rows, columns) log-odds of a defect in each patch."""
        cut = patches(pixels, contrast=self._calibration["contrast"])
        chances = self._net(cut.reshape(-1, PATCH * PATCH))["probabilities"][:, 1]
        kept = np.clip(chances, 1e-6, 1 - 1e-6)
        log_odds: Floats = np.log(kept / (1 - kept)).reshape(cut.shape[:2])
        return log_odds


def patches(pixels: npt.NDArray[np.uint8], *, contrast: float = CONTRAST) -> Floats:
    """Return a photo's patches as (rows, columns, PATCH * PATCH), each without its own mean."""
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH))[::STRIDE, ::STRIDE]
    flat = windows.reshape(*windows.shape[:2], PATCH * PATCH).astype(np.float32)
    flat -= flat.mean(axis=-1, keepdims=True)
    flat *= np.float32(1.0 / contrast)
    return flat


def summary(logits: Floats) -> list[float]:
    """Return what the confidence rests on: the strongest patch, the means of the strongest few."""
    flat = logits.ravel()
    strongest = np.sort(np.partition(flat, flat.size - TOP)[-TOP:])[::-1]
    return [float(strongest[0]), float(strongest[:3].mean()), float(strongest.mean())]


def probability(features: Sequence[float], calibration: dict[str, Any]) -> float:
    """Return the chance of a defect by the calibration's logistic regression."""
    score = calibration["bias"] + sum(w * f for w, f in zip(calibration["weights"], features, strict=True))
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, score))))


def regions(logits: Floats, threshold: float, *, chance: float) -> Iterator[Box]:
    """Yield one box around each group of neighbouring patches that stand out, at most 5, strongest first.

    A patch stands out above the `threshold` that nine in ten good photos keep and half of the strongest patch.
    """
    strongest = float(logits.max())
    hot = logits >= min(max(threshold, strongest / 2), strongest)
    groups = sorted(_groups(hot), key=lambda cells: -max(float(logits[cell]) for cell in cells))
    for cells in groups[:5]:
        rows, columns = zip(*cells, strict=True)
        yield Box(
            float(min(columns) * STRIDE),
            float(min(rows) * STRIDE),
            float(max(columns) * STRIDE + PATCH),
            float(max(rows) * STRIDE + PATCH),
            "defect",
            chance,
        )


def _groups(hot: npt.NDArray[np.bool_]) -> Iterator[list[tuple[int, int]]]:
    """Yield the groups of set cells that touch, also by a corner."""
    left = {(int(r), int(c)) for r, c in np.argwhere(hot)}
    while left:
        todo, group = [left.pop()], []
        while todo:
            r, c = todo.pop()
            group.append((r, c))
            near = {(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        yield group
