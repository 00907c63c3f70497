"""Input metrics: a few numbers that say what an input looks like, taken where it is decoded anyway.

The controller never decodes an input again; what is not measured here is not monitored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tenure.scope.project import Field, InputKind
from tenure.types import Audio, Image, Input, Record

Floats = npt.NDArray[np.float32]

IMAGE = ("brightness", "contrast", "sharpness", "width", "height")
AUDIO = ("seconds", "loudness", "silence", "clipping")
TEXT = ("length", "words")
FIELD = "field:"

SILENCE_DB = -50.0
"""A frame of 20 ms whose root mean square is below this many dBFS is silent."""

FLOOR_DB = -120.0
"""Loudness of digital silence, instead of minus infinity."""

CLIPPED = 0.999
"""A sample at or above this share of full scale is clipped."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_WHOLE = 2**16  # pixels; larger photos are read on a fixed grid of rows
_COLUMNS = 2**14  # columns that are looked at; wider pictures are bands made to cost time
_FRAMES_PER_SECOND = 50
_NUMBERS = ("int", "float")


def metric_names(kind: InputKind, fields: Mapping[str, Field] | None = None) -> tuple[str, ...]:
    """Name the metrics of an input of this kind, in the order of `extract`."""
    if kind == "image":
        return IMAGE
    if kind == "audio":
        return AUDIO
    if kind == "text":
        return TEXT
    watched = (name for name, field in (fields or {}).items() if field.type != "text")
    return ("missing", *(FIELD + name for name in watched))


def extract(kind: InputKind, value: Input, fields: Mapping[str, Field] | None = None) -> Floats:
    """Measure one decoded input.

    Image: mean and standard deviation of the luma (0..255), variance of its Laplacian, width, height in pixels.
    Audio: seconds, loudness in dBFS, share of silent 20 ms frames, share of clipped samples.
    Text: characters, words. Record: share of fields that are missing, then each number as it is (NaN when
    missing) and each truth value or category as its index (-1 when it is not among the declared values).

    Returns:
        (len(metric_names(kind, fields)),) float32.

    Raises:
        TypeError: the value is not of the kind.
    """
    if kind == "image" and isinstance(value, Image):
        return image_metrics(value.pixels, value.size)
    if kind == "audio" and isinstance(value, Audio):
        return audio_metrics(value.samples, value.rate)
    if kind == "text" and isinstance(value, str):
        return np.array([len(value), len(value.split())], dtype=np.float32)
    if kind == "record" and isinstance(value, dict):
        return record_metrics(value, fields or {})
    raise TypeError(f"expected an input of kind {kind}, got {type(value).__name__}")


def image_metrics(pixels: npt.NDArray[np.uint8], size: tuple[int, int] | None = None) -> Floats:
    """Measure (h, w) or (h, w, 3) pixels; photos above 65,536 pixels on every s-th triple of rows.

    `size` is (width, height) of the picture as it was sent, where the pixels are fewer.
    """
    height, width = pixels.shape[:2]
    seen = pixels[:, :_COLUMNS]
    step = max(3, math.ceil(3 * height * seen.shape[1] / _WHOLE))
    if step == 3 or height < 3:
        grey = _luma(seen)
        up, middle, down = grey[0:-2:step], grey[1:-1:step], grey[2::step]
    else:
        up, middle, down = (_luma(seen[k : height - 2 + k : step]) for k in range(3))
        grey = np.concatenate((up, middle, down))
    brightness, variance = _moments(grey)
    sharpness = _moments(_laplacian(up, middle, down))[1] if min(height, width) >= 3 else 0.0
    return np.array([brightness, math.sqrt(variance), sharpness, *(size or (width, height))], dtype=np.float32)


def audio_metrics(samples: Floats, rate: int) -> Floats:
    """Measure (n,) mono samples in [-1, 1] at `rate` Hz."""
    n = len(samples)
    if n == 0:
        return np.array([0.0, FLOOR_DB, 1.0, 0.0], dtype=np.float32)
    size = min(n, max(1, rate // _FRAMES_PER_SECOND))
    frames = samples[: n // size * size].reshape(-1, size)
    power = np.einsum("ij,ij->i", frames, frames) / np.float32(size)
    silent = float(np.mean(power < 10 ** (SILENCE_DB / 10)))
    total = float(np.dot(samples, samples)) / n
    loudness = max(FLOOR_DB, 10 * math.log10(total)) if total > 0 else FLOOR_DB
    clipped = float(np.mean(np.abs(samples) >= CLIPPED))
    return np.array([n / rate if rate else 0.0, loudness, silent, clipped], dtype=np.float32)


def record_metrics(record: Record, fields: Mapping[str, Field]) -> Floats:
    """Measure a record against its declared fields; without fields only the share of nulls."""
    if not fields:
        nulls = sum(v is None for v in record.values())
        return np.array([nulls / len(record) if record else 0.0], dtype=np.float32)
    missing = sum(record.get(name) is None for name in fields)
    numbers = [_number(record.get(name), f) for name, f in fields.items() if f.type != "text"]
    return np.array([missing / len(fields), *numbers], dtype=np.float64).astype(np.float32)


def _number(value: Any, field: Field) -> float:
    if value is None:
        return math.nan
    if field.type in _NUMBERS or field.type == "bool":
        return max(-3e38, min(3e38, float(value)))  # float32 has no room for more
    return float(field.values.index(value)) if value in field.values else -1.0


def _luma(pixels: npt.NDArray[np.uint8]) -> Floats:
    wide = pixels.astype(np.float32)
    return wide if wide.ndim == 2 else wide @ _LUMA


def _laplacian(up: Floats, middle: Floats, down: Floats) -> Floats:
    out = middle[:, 1:-1] * np.float32(4)
    out -= up[:, 1:-1]
    out -= down[:, 1:-1]
    out -= middle[:, :-2]
    out -= middle[:, 2:]
    return out


def _moments(values: Floats) -> tuple[float, float]:
    """Return mean and variance; the mean is taken off first, so that float32 loses nothing."""
    if values.size == 0:
        return 0.0, 0.0
    mean = values.mean()
    rest = (values - mean).ravel()
    return float(mean), float(np.dot(rest, rest)) / rest.size
