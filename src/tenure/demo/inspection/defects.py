"""Scratches, cracks and dents: drawn into a scene, each with its true box."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tenure.types import Box

Floats = npt.NDArray[np.float32]
Pair = tuple[float, float]

CONTRAST = (26.0, 60.0)
"""Grey levels between a defect and what is around it, in normal light."""


def add(scene: Floats, half: Pair, centre: Pair, rng: np.random.Generator) -> tuple[Box, ...]:
    """Draw one or two defects onto a phone and return their boxes, in pixels."""
    count = 1 + int(rng.random() < 0.25)
    return tuple(_one(scene, half, centre, rng) for _ in range(count))


def _one(scene: Floats, half: Pair, centre: Pair, rng: np.random.Generator) -> Box:
    name, draw = _KINDS[int(rng.choice(3, p=(0.5, 0.3, 0.2)))]
    layer = np.zeros_like(scene)
    draw(layer, half, centre, rng)
    scene += layer
    return _box_of(layer, name)


def _scratch(layer: Floats, half: Pair, centre: Pair, rng: np.random.Generator) -> None:
    """Draw a thin, slightly bent line somewhere on the glass."""
    start = np.array(
        [
            centre[0] + rng.uniform(-0.75, 0.75) * half[0],
            centre[1] + rng.uniform(-0.75, 0.75) * half[1],
        ]
    )
    angle, length = rng.uniform(0, np.pi), rng.uniform(30, 80)
    grey = _contrast(rng) * (1 if rng.random() < 0.75 else -1)
    width = rng.uniform(0.7, 1.2)
    for _ in range(3):
        start = _line(layer, start, angle, length / 3, width=width, grey=grey, limits=(half, centre))
        angle += rng.normal(0, 0.12)


def _crack(layer: Floats, half: Pair, centre: Pair, rng: np.random.Generator) -> None:
    """Draw branches that run from one point of the rim across the glass."""
    side = 1 if rng.random() < 0.5 else -1
    root = np.array([centre[0] + side * (half[0] - 10), centre[1] + rng.uniform(-0.8, 0.8) * half[1]])
    grey, inward = _contrast(rng), np.pi if side > 0 else 0.0
    for _ in range(int(rng.integers(2, 5))):
        at, angle = root, inward + rng.uniform(-0.9, 0.9)
        for _ in range(int(rng.integers(3, 6))):
            step = rng.uniform(8, 18)
            at = _line(layer, at, angle, step, width=0.8, grey=grey, limits=(half, centre))
            angle += rng.normal(0, 0.35)


def _dent(layer: Floats, half: Pair, centre: Pair, rng: np.random.Generator) -> None:
    """Draw a bright and a dark half-moon beside each other, near the rim."""
    x = centre[0] + (1 if rng.random() < 0.5 else -1) * (half[0] - rng.uniform(8, 40))
    y = centre[1] + rng.uniform(-0.85, 0.85) * half[1]
    size, grey, angle = rng.uniform(3.5, 7.0), _contrast(rng), rng.uniform(0, 2 * np.pi)
    top, left, xx, yy = _patch(layer, (x, y), reach=3 * size)
    u, v = (xx - x) / size, (yy - y) / size
    tilt = np.cos(angle) * u + np.sin(angle) * v
    dent = 2.33 * grey * tilt * np.exp(-(u**2 + v**2))
    layer[top : top + dent.shape[0], left : left + dent.shape[1]] += dent.astype(np.float32)


_KINDS: tuple[tuple[str, Callable[[Floats, Pair, Pair, np.random.Generator], None]], ...] = (
    ("scratch", _scratch),
    ("crack", _crack),
    ("dent", _dent),
)


def _contrast(rng: np.random.Generator) -> float:
    return float(rng.uniform(*CONTRAST))


def _line(
    layer: Floats,
    start: npt.NDArray[np.float64],
    angle: float,
    length: float,
    *,
    width: float,
    grey: float,
    limits: tuple[Pair, Pair],
) -> npt.NDArray[np.float64]:
    """Draw a straight piece with soft edges, kept on the phone; returns its end."""
    half, centre = limits
    low = np.array([centre[0] - half[0] + 6, centre[1] - half[1] + 6])
    high = np.array([centre[0] + half[0] - 6, centre[1] + half[1] - 6])
    end = np.clip(start + length * np.array([np.cos(angle), np.sin(angle)]), low, high)
    middle, reach = (start + end) / 2, float(np.abs(end - start).max()) / 2 + 3
    top, left, xx, yy = _patch(layer, (float(middle[0]), float(middle[1])), reach=reach)
    along = end - start
    t = ((xx - start[0]) * along[0] + (yy - start[1]) * along[1]) / max(float(along @ along), 1e-6)
    t = np.clip(t, 0, 1)
    distance = np.hypot(xx - start[0] - t * along[0], yy - start[1] - t * along[1])
    paint = grey * np.clip(width + 0.5 - distance, 0, 1)
    cut = layer[top : top + paint.shape[0], left : left + paint.shape[1]]
    np.copyto(cut, paint, where=np.abs(paint) > np.abs(cut), casting="same_kind")
    return end


def _patch(layer: Floats, at: Pair, *, reach: float) -> tuple[int, int, Floats, Floats]:
    """Return the corner and the coordinates of the part of the picture around a point."""
    height, width = layer.shape
    top, bottom = max(0, int(at[1] - reach)), min(height, int(at[1] + reach) + 2)
    left, right = max(0, int(at[0] - reach)), min(width, int(at[0] + reach) + 2)
    yy, xx = np.mgrid[top:bottom, left:right].astype(np.float32)
    return top, left, xx, yy


def _box_of(layer: Floats, label: str) -> Box:
    """Return the box around what stands out, with a margin of two pixels."""
    strong = np.abs(layer) > 8
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    height, width = layer.shape
    return Box(
        float(max(0, columns[0] - 2)),
        float(max(0, rows[0] - 2)),
        float(min(width, columns[-1] + 3)),
        float(min(height, rows[-1] + 3)),
        label,
    )
