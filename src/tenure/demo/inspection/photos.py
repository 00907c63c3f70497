"""Photos of phones, rendered: the body, its screen, reflections and camera noise, and defects with their boxes.

A photo is fixed by its seed and number. The light is a parameter: 1.0 is the lamp as it should be.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from tenure.demo.inspection import defects
from tenure.seeds import generator
from tenure.types import Box

WIDTH, HEIGHT = 192, 320
DEFECTIVE = 1 / 3
"""Share of defective phones; a real line has fewer, and needs accordingly more labels."""

Floats = npt.NDArray[np.float32]

_STRIPS = [slice(top, top + 40) for top in range(0, HEIGHT, 40)]
"""A photo is painted in strips: small arrays use memory again, large ones are asked of the system each time."""


class Photo(msgspec.Struct, frozen=True):
    """One JPEG and the truth about it; `light` is relative to the normal lamp."""

    data: bytes
    label: Literal["good", "defect"]
    boxes: tuple[Box, ...] = ()
    light: float = 1.0


def take(seed: int, number: int, *, light: float = 1.0, defective: float = DEFECTIVE) -> Photo:
    """Take photo `number` of the series `seed`; the phone does not depend on the light.

    Args:
        seed: of the series, at least 0.
        number: in the series, at least 0.
        light: factor on the light that reaches the camera, above 0.
        defective: chance of a defective phone, in [0, 1].
    """
    rng = generator((seed << 32) + number)
    phone = Phone.random(rng)
    scene = phone.draw(rng)
    boxes: tuple[Box, ...] = ()
    if rng.random() < defective:
        boxes = defects.add(scene, phone.half, phone.centre, rng)
    pixels = expose(scene, rng, light=light)
    return Photo(encode(pixels), "defect" if boxes else "good", boxes, light)


def series(seed: int, count: int, *, start: int = 0, light: float = 1.0) -> Iterator[Photo]:
    """Take `count` photos of one series."""
    return (take(seed, start + i, light=light) for i in range(count))


def expose(scene: Floats, rng: np.random.Generator, *, light: float) -> npt.NDArray[np.uint8]:
    """Return what the camera's sensor makes of a scene: the light falls, the noise falls by its root only."""
    grain = _grain()
    top, left = (int(rng.integers(0, n)) for n in (grain.shape[0] - HEIGHT, grain.shape[1] - WIDTH))
    pixels = np.empty((HEIGHT, WIDTH), np.uint8)
    for rows in _STRIPS:
        lit = scene[rows] * light
        noise = grain[top + rows.start : top + rows.stop, left : left + WIDTH]
        pixels[rows] = np.clip(lit + noise * np.sqrt(1.0 + 0.04 * np.maximum(lit, 0.0)) + 0.5, 0, 255)
    return pixels


def encode(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return the pixels as JPEG."""
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "JPEG", quality=88)
    return out.getvalue()


class Band(msgspec.Struct, frozen=True):
    """The reflection of a window: a slanted band of light with one soft and one softer edge."""

    slant: float
    place: float
    width: float
    near: float
    far: float
    grey: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Band:
        low = (0.3, -120, 18, 4, 8, 8)
        high = (0.9, 120, 60, 10, 24, 24)
        return cls(*(float(v) for v in rng.uniform(low, high)))

    def light(self, x: Floats, y: Floats) -> Floats:
        across = (self.slant * x + y - self.place) / math.hypot(self.slant, 1)
        light: Floats = self.grey * np.clip(across / self.near, 0, 1)
        light *= np.clip((self.width - across) / self.far, 0, 1)
        return light


class Phone(msgspec.Struct, frozen=True):
    """Where a phone lies and how it looks; lengths in pixels, greys in 0 to 255, angles in radians."""

    centre: tuple[float, float]  # x, y
    half: tuple[float, float]  # half of width and height
    angle: float
    body: float
    screen: float
    bench: float
    lamp: float  # direction of the light
    slopes: tuple[float, float, float, float]  # greys per pixel: bench across and along, glass across and along
    smear: tuple[float, float, float]  # x, y, grey
    bands: tuple[Band, ...]

    @classmethod
    def random(cls, rng: np.random.Generator) -> Phone:
        a, b, c, d, e, f, g, h, *rest = (float(v) for v in rng.uniform(-1, 1, 15))
        return cls(
            centre=(WIDTH / 2 + 4 * a, HEIGHT / 2 + 5 * b),
            half=(74 + 1.5 * c, 141 + 2 * c),
            angle=0.025 * d,
            body=82 + 12 * e,
            screen=116 + 12 * f,
            bench=150 + 8 * g,
            lamp=-2.3 + 0.4 * h,
            slopes=(0.06 * rest[0], 0.06 * rest[1], 0.08 * rest[2], 0.06 * rest[3]),
            smear=(50 * rest[4], 100 * rest[5], 6 * rest[6]),
            bands=tuple(Band.random(rng) for _ in range(int(rng.integers(1, 3)))),
        )

    def draw(self, rng: np.random.Generator) -> Floats:
        """Return the scene, (HEIGHT, WIDTH) greys before the light and the camera."""
        scene = np.empty((HEIGHT, WIDTH), np.float32)
        xx, yy = _grid()
        for rows in _STRIPS:
            scene[rows] = self._strip(*self._axes(xx[rows], yy[rows]))
        for _ in range(int(rng.integers(0, 7))):
            _speck(scene, rng)
        return scene

    def _axes(self, xx: Floats, yy: Floats) -> tuple[Floats, Floats]:
        """Return pixel coordinates in the phone's own axes, from its centre."""
        x, y = xx - self.centre[0], yy - self.centre[1]
        c, s = math.cos(self.angle), math.sin(self.angle)
        return c * x + s * y, c * y - s * x

    def _strip(self, x: Floats, y: Floats) -> Floats:
        edge = rounded(x, y, self.half, radius=22.0)
        glass = edge + 8  # moving a rounded rectangle's rim inwards is adding to the distance
        scene = self._bench(x, y)
        _blend(scene, self._body(x, y, edge), cover(edge))
        _blend(scene, self._glass(x, y), cover(glass))
        scene -= 28 * np.exp(-((glass / 1.3) ** 2))  # the gap around the glass
        if y[0, 0] < -self.half[1] + 40:
            self._camera(scene, x, y + (self.half[1] - 19))
        return scene

    def _bench(self, x: Floats, y: Floats) -> Floats:
        """Paint the bench with the phone's shadow on it."""
        scene: Floats = self.bench + self.slopes[0] * x + self.slopes[1] * y
        shadow = np.maximum(rounded(x - 4, y - 5, self.half, radius=22.0), 0) / 6
        scene -= 55 * np.exp(-(shadow * shadow))
        return scene

    def _body(self, x: Floats, y: Floats, edge: Floats) -> Floats:
        """Paint the frame: its bevel is bright towards the lamp and dark away from it."""
        towards = math.cos(self.lamp) / self.half[0] * x + math.sin(self.lamp) / self.half[1] * y
        bevel = np.exp(-(((edge + 2.5) / 1.8) ** 2))
        frame: Floats = self.body + bevel * (22 + 26 * towards)
        return frame

    def _glass(self, x: Floats, y: Floats) -> Floats:
        """Paint the glass: a soft gradient, reflections of windows and a smear."""
        glass: Floats = self.screen + self.slopes[2] * x + self.slopes[3] * y
        for band in self.bands:
            glass += band.light(x, y)
        u, v = (x - self.smear[0]) / 30, (y - self.smear[1]) / 22
        glass += self.smear[2] * np.exp(-(u * u + v * v))
        return glass

    def _camera(self, scene: Floats, x: Floats, y: Floats) -> None:
        _blend(scene, 26.0, cover(rounded(x, y, (15.0, 4.0), radius=4.0)))
        _blend(scene, 70.0, cover(rounded(x - 9, y, (1.8, 1.8), radius=1.8)))


def rounded(x: Floats, y: Floats, half: tuple[float, float], *, radius: float) -> Floats:
    """Return the signed distance to a rounded rectangle around the origin, negative inside."""
    qx, qy = np.abs(x) - np.float32(half[0] - radius), np.abs(y) - np.float32(half[1] - radius)
    longer = np.maximum(qx, qy)
    np.maximum(qx, 0, out=qx)
    np.maximum(qy, 0, out=qy)
    outside = np.sqrt(qx * qx + qy * qy)  # a tenth of the time of np.hypot
    return outside + np.minimum(longer, 0) - np.float32(radius)


def cover(distance: Floats) -> Floats:
    """Return how much of each pixel lies inside, in [0, 1]."""
    share: Floats = np.clip(0.5 - distance, 0, 1)
    return share


def _blend(scene: Floats, paint: Floats | float, share: Floats) -> None:
    scene += share * (paint - scene)


def _speck(scene: Floats, rng: np.random.Generator) -> None:
    """Add a grain of dust: small, round, faint; no defect."""
    x, y = int(rng.integers(30, WIDTH - 30)), int(rng.integers(30, HEIGHT - 30))
    scene[y : y + 2, x : x + 2] += np.float32(rng.uniform(6, 18))


@lru_cache(maxsize=1)
def _grid() -> tuple[Floats, Floats]:
    yy, xx = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    return xx, yy


@lru_cache(maxsize=1)
def _grain() -> Floats:
    """Sensor noise to cut from: drawing it anew for every photo would take most of the time."""
    return generator(20_240_229).standard_normal((HEIGHT * 3, WIDTH * 4), dtype=np.float32)
