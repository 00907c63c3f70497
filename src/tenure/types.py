"""The values that every layer shares: what goes into a model, what comes out, and what is decided."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

Value = str | int | float | bool | None
"""What a prediction may say: a label, a number, a text, a truth value, or nothing."""


class Level(IntEnum):
    """Degree of automation, from nobody but people to nobody but the model."""

    HUMAN_ONLY = 0
    SHADOW = 1
    ASSIST = 2
    PARTIAL = 3
    FULL = 4

    @property
    def word(self) -> str:
        """The name as files and the wire spell it, such as `human_only`."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Level:
        """Return the level that `word` names; raises KeyError for another word."""
        return cls[word.upper()]


class Route(IntEnum):
    """How a request left the worker."""

    AUTO = 0  # the model decided
    PENDING = 1  # a person decides
    FALLBACK = 2  # the project's fallback decided
    REFUSED = 3  # no answer: refused or failed, with a reason
    NONE = 4  # offline scoring: only the prediction was wanted, so nobody decides


class Outcome(StrEnum):
    """What a gate, detector or certificate says. `wait` and `no_data` hold; they never pass."""

    PASS = "pass"
    FAIL = "fail"
    WAIT = "wait"
    NO_DATA = "no_data"


class Box(msgspec.Struct, frozen=True, array_like=False, omit_defaults=True):
    """A region of an image in pixels; x to the right, y down.

    A model says it in the pixels that it got; everywhere else it is in those of the picture as it was sent,
    turned upright. They differ only where the endpoint decodes photos at a smaller size.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    label: str
    confidence: float | None = None


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer of a model.

    `confidence` is in [0, 1] or None; without it an endpoint cannot be `partial`. `contributions` says how much
    each field moved the answer: positive speaks for it, and raised a number. Reviewers who may see the answer see
    them; clients do not get them.
    """

    value: Value
    confidence: float | None = None
    probabilities: dict[str, float] | None = None
    regions: tuple[Box, ...] = ()
    contributions: dict[str, float] | None = None


class Failed(msgspec.Struct, frozen=True):
    """A stage could not answer this item; the others in the batch are unaffected.

    `late` says that there was no time left for it.
    """

    reason: str
    late: bool = False


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one outcome of a request that is acted on."""

    value: Value
    by: Literal["model", "person", "fallback"]
    version: str | None = None
    confidence: float | None = None
    regions: tuple[Box, ...] = ()
    policy: int = 0


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client gets for a request."""

    id: str
    status: Literal["decided", "pending"]
    decision: Decision | None = None
    prediction: Prediction | None = None
    deadline: str | None = None
    degraded: bool = False


class Image:
    """A decoded photo.

    Attributes:
        pixels: (height, width) uint8 for grey, (height, width, 3) uint8 for RGB; read-only.
        data: the encoded bytes as they came.
        media_type: such as `image/jpeg`.
        size: (width, height) of the picture as it was sent, turned upright.
        reduced: 1, 2, 4 or 8: the side of the square of sent pixels that one of `pixels` stands for.
    """

    __slots__ = ("data", "media_type", "pixels", "reduced", "size")

    def __init__(
        self, pixels: npt.NDArray[np.uint8], data: bytes = b"", media_type: str = "image/png", *,
        size: tuple[int, int] | None = None, reduced: int = 1,
    ) -> None:  # fmt: skip
        self.pixels = pixels
        self.data = data
        self.media_type = media_type
        self.size = size or (int(pixels.shape[1]), int(pixels.shape[0]))
        self.reduced = reduced

    def as_sent(self, box: Box) -> Box:
        """Return a box of these pixels in pixels of the picture as it was sent."""
        if self.reduced == 1:
            return box
        (width, height), by = self.size, self.reduced
        x1, y1, x2, y2 = box.x1 * by, box.y1 * by, min(box.x2 * by, width), min(box.y2 * by, height)
        return Box(x1, y1, x2, y2, box.label, box.confidence)

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    def grey(self) -> npt.NDArray[np.uint8]:
        """Return (height, width) uint8 luma (ITU-R BT.601 weights)."""
        if self.pixels.ndim == 2:
            return self.pixels
        r, g, b = (self.pixels[..., i].astype(np.uint32) for i in range(3))
        return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).astype(np.uint8)


class Audio:
    """A decoded clip: `samples` (n,) float32 mono in [-1, 1], `rate` in Hz."""

    __slots__ = ("data", "media_type", "rate", "samples")

    def __init__(
        self, samples: npt.NDArray[np.float32], rate: int, data: bytes = b"", media_type: str = "audio/wav"
    ) -> None:
        self.samples = samples
        self.rate = rate
        self.data = data
        self.media_type = media_type

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate if self.rate else 0.0


Record = dict[str, Any]
"""A JSON object whose fields the endpoint's schema names."""

Input = Image | Audio | str | Record
