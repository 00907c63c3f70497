"""Real photos from a folder with an `index.jsonl`: one line per photo with file, label, boxes and exposure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from tenure.demo.inspection.photos import Photo
from tenure.errors import CaseError
from tenure.seeds import generator
from tenure.types import Box

INDEX = "index.jsonl"


class Line(msgspec.Struct, frozen=True):
    """One line of the index; keys that are not named here are ignored. `exposure` rises with the light."""

    file: str
    label: Literal["good", "defect"]
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    exposure: int = 0
    defect_type: str | None = None


def read(folder: Path, exposures: Sequence[int] | None = None, *, seed: int = 0) -> list[Photo]:
    """Return the photos taken at these exposures (None = all), shuffled by `seed`.

    Raises:
        CaseError: there is no index, a line of it is wrong, or a photo is outside the folder.
    """
    lines = [line for line in index(folder) if exposures is None or line.exposure in exposures]
    return [_photo(folder, lines[i]) for i in generator(seed).permutation(len(lines))]


def index(folder: Path) -> list[Line]:
    """Return the lines of a folder's index.

    Raises:
        CaseError: there is no index, or a line of it is wrong; the message names the line.
    """
    path = folder / INDEX
    if not path.is_file():
        raise CaseError(
            f"{folder} has no {INDEX}, with a line of file, label, boxes and exposure a photo", at=INDEX
        )
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            lines.append(msgspec.json.decode(text, type=Line))
        except msgspec.MsgspecError as error:
            raise CaseError(f"{path}, line {number}: {error}", at=f"{INDEX}:{number}") from error
    return lines


def write(folder: Path, photos: Sequence[Photo], *, exposure: int = 6) -> None:
    """Write photos as such a folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / INDEX).open("ab") as index_file:
        for number, photo in enumerate(photos):
            file = f"images/{exposure}-{number:05d}.jpg"
            (folder / file).write_bytes(photo.data)
            boxes = tuple((b.x1, b.y1, b.x2, b.y2) for b in photo.boxes)
            index_file.write(msgspec.json.encode(Line(file, photo.label, boxes, exposure)) + b"\n")


def _photo(folder: Path, line: Line) -> Photo:
    path = (folder / line.file).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise CaseError(f"{INDEX} names {line.file!r}, which is not a file in {folder}", at=INDEX)
    boxes = tuple(Box(*corners, line.defect_type or "defect") for corners in line.boxes)
    return Photo(path.read_bytes(), line.label, boxes, line.exposure / 6)
