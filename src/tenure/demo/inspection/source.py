"""Where the line's photos come from: rendered without end, or real ones, each used once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tenure.demo.inspection import folder, models, photos
from tenure.demo.inspection.photos import Photo

DARK = 0.35
NORMAL_EXPOSURE, DARK_EXPOSURES = (6,), (1, 2)
_STREAM = 2_000_003


class Source(Protocol):
    """Photos to train on, and photos for the line, before and after the light goes.

    `rate` is how many the line takes a second, at speed 1.
    """

    rate: float

    def first(self) -> Sequence[Photo]:
        """Return the labelled photos that version 1 is trained on."""
        ...

    def more(self) -> Sequence[Photo]:
        """Return the labelled photos that version 2 gets on top; none where there are no more."""
        ...

    def pilot(self) -> Sequence[Photo]:
        """Return photos for the certificates' thresholds, whose labels nobody looks at."""
        ...

    def test(self) -> Sequence[Photo]:
        """Return labelled photos to measure version 1 on."""
        ...

    def next(self, number: int) -> Photo | None:
        """Return the next photo of the line, None while there is none."""
        ...

    def darken(self) -> None:
        """Let the light fall: the next photos are dark."""
        ...


class Rendered:
    """Phones rendered as they are needed; no two are the same."""

    rate = 50.0

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._light = 1.0

    def first(self) -> Sequence[Photo]:
        return models.first_photos(self._seed)

    def more(self) -> Sequence[Photo]:
        return models.more_photos(self._seed)

    def pilot(self) -> Sequence[Photo]:
        return models.pilot_photos(self._seed)

    def test(self) -> Sequence[Photo]:
        return models.test_photos(self._seed)

    def next(self, number: int) -> Photo:
        return photos.take(self._seed + _STREAM, number, light=self._light)

    def darken(self) -> None:
        self._light = DARK


class Folder:
    """Real photos, each sent once: the same tile again would be no new evidence for a certificate.

    Half of the photos in normal light train version 1; the dark ones are for the line. It is slow, so that the
    monitor sees enough panes of the normal light.
    """

    rate = 5.0

    def __init__(self, path: Path, seed: int) -> None:
        normal = folder.read(path, NORMAL_EXPOSURE, seed=seed)
        half = len(normal) // 2
        self._first, self._line = normal[:half], normal[half:]
        self._dark = folder.read(path, DARK_EXPOSURES, seed=seed)
        self._lock = threading.Lock()

    def first(self) -> Sequence[Photo]:
        return self._first

    def more(self) -> Sequence[Photo]:
        return ()

    def pilot(self) -> Sequence[Photo]:
        return ()

    def test(self) -> Sequence[Photo]:
        return self._line

    def next(self, number: int) -> Photo | None:
        with self._lock:
            return self._line.pop() if self._line else None

    def darken(self) -> None:
        with self._lock:
            self._line = list(self._dark)
