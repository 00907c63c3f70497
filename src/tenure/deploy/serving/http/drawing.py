"""Draw the boxes of an answer on its picture, so that they can be read at any size and by anybody."""

from __future__ import annotations

import io
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from math import ceil
from typing import NamedTuple

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from tenure.data.pictures import read_image
from tenure.types import Box

PALETTE = ("#d55e00", "#56b4e9", "#f0e442", "#0072b2", "#e69f00", "#009e73", "#cc79a7")
"""Seven colours that people with any common colour blindness tell apart (Okabe and Ito, "Color Universal
Design", 2008); their black is left out, since it is no mark on a dark picture."""

MAX_PLATES = 200
"""So many boxes, the surest, get a plate; beyond that nobody reads them."""

_BLACK, _WHITE = "#000000", "#ffffff"
_SMALLEST_FONT = 11
_FONT = "DejaVuSans.ttf"  # for letters that Pillow's own font lacks
_JPEG = {"quality": 90, "subsampling": 0}  # full colour resolution: coloured lines stay sharp
_SHORT_LABEL = 12  # a plate may always be so many font sizes wide, else half the picture or its box
_Place = tuple[int, int]


class Scale(NamedTuple):
    """Widths in pixels that fit a picture's size."""

    font: int
    line: int
    casing: int
    pad: int

    @classmethod
    def of(cls, width: int, height: int) -> Scale:
        side = (width * height) ** 0.5
        font = max(_SMALLEST_FONT, round(side / 45))
        return cls(font, max(2, round(side / 300)), max(1, round(side / 900)), max(2, font // 5))


class Rect(NamedTuple):
    """Pixels from (x1, y1) to (x2, y2), both inside."""

    x1: int
    y1: int
    x2: int
    y2: int

    def meets(self, other: Rect) -> bool:
        return self.x1 <= other.x2 and other.x1 <= self.x2 and self.y1 <= other.y2 and other.y1 <= self.y2


def annotated(body: bytes, boxes: Sequence[Box], media_type: str, *, labels: Sequence[str] = ()) -> bytes:
    """Return a picture with boxes drawn on it, as `image/jpeg` or `image/png`.

    Args:
        body: the encoded picture as it came. It is shown upright, as the model saw it.
        boxes: in pixels of the upright picture at its own size.
        media_type: of the result.
        labels: those that the endpoint declares; each keeps its colour from picture to picture.

    Raises:
        CaseError: 422 `unreadable_image`.
    """
    picture = Pillow.fromarray(read_image(body).pixels).convert("RGB")
    draw(picture, boxes, labels=labels)
    out = io.BytesIO()
    if media_type == "image/png":
        picture.save(out, "PNG", compress_level=3)
    else:
        picture.save(out, "JPEG", **_JPEG)
    return out.getvalue()


def draw(picture: Pillow.Image, boxes: Sequence[Box], *, labels: Sequence[str] = ()) -> None:
    """Draw boxes, then a plate with label and confidence for each, into an RGB picture.

    Boxes are cut at the picture's edge, plates are moved inside; surer boxes lie above less sure ones.
    """
    if not boxes:
        return
    scale, canvas = Scale.of(*picture.size), ImageDraw.Draw(picture)
    colours = colours_of((box.label for box in boxes), labels)
    rising = sorted(boxes, key=_sureness)
    rects = [_rect(box, picture.size) for box in rising]
    for box, rect in zip(rising, rects, strict=True):
        _outline(canvas, rect, colours[box.label], scale)
    plates = _plates(rising[-MAX_PLATES:], rects[-MAX_PLATES:], picture.size, scale)
    for box, plate, text in plates:
        _plate(canvas, plate, text, colours[box.label], scale)


def colours_of(seen: Iterable[str], declared: Sequence[str]) -> dict[str, str]:
    """Return a colour for each label.

    A declared label has the colour of its place; another one that of its name, or the next that is free in this
    picture. Up to seven labels of one picture so differ; more than seven declared ones repeat colours.
    """
    found = {label: number % len(PALETTE) for number, label in enumerate(declared)}
    for label in sorted(set(seen) - found.keys()):
        free = [n for n in range(len(PALETTE)) if n not in found.values()] or range(len(PALETTE))
        wanted = zlib.crc32(label.encode("utf-8", "surrogatepass")) % len(PALETTE)
        found[label] = min(free, key=lambda n, wanted=wanted: (n - wanted) % len(PALETTE))
    return {label: PALETTE[number] for label, number in found.items()}


def ink_on(colour: str) -> str:
    """Return black or white, whichever is easier to read on a colour (contrast as WCAG 2.2 defines it)."""
    return _BLACK if _luminance(colour) > 0.179 else _WHITE


def words(box: Box) -> tuple[str, str]:
    """Return label and confidence as they are written; 1.00 is said only of certainty."""
    if box.confidence is None:
        return box.label, ""
    text = f"{box.confidence:.2f}"
    return box.label, "0.99" if text == "1.00" and box.confidence < 1 else text


# Boxes


def _rect(box: Box, size: tuple[int, int]) -> Rect:
    """Return a box as whole pixels inside the picture, at least one."""
    right, bottom = size[0] - 1, size[1] - 1
    x1, y1 = _inside(round(box.x1), right), _inside(round(box.y1), bottom)
    return Rect(x1, y1, max(x1, _inside(round(box.x2) - 1, right)), max(y1, _inside(round(box.y2) - 1, bottom)))


def _inside(value: int, most: int) -> int:
    return max(0, min(most, value))


def _outline(canvas: ImageDraw.ImageDraw, rect: Rect, colour: str, scale: Scale) -> None:
    """Draw a line in a casing of the opposite lightness, so that it shows on any ground."""
    _frame(canvas, rect, scale.casing, ink_on(colour), scale.line + 2 * scale.casing)
    _frame(canvas, rect, 0, colour, scale.line)


def _frame(canvas: ImageDraw.ImageDraw, rect: Rect, out: int, colour: str, width: int) -> None:
    outer = (rect.x1 - out, rect.y1 - out, rect.x2 + out, rect.y2 + out)
    canvas.rectangle(outer, outline=colour, width=width)


# Plates


def _plates(
    boxes: Sequence[Box], rects: Sequence[Rect], size: tuple[int, int], scale: Scale
) -> list[tuple[Box, Rect, str]]:
    """Return where each plate stands and what it says; the surest box chooses first.

    No plate covers another: where there is no room, a box goes without its confidence, then without a plate.
    """
    found: list[tuple[Box, Rect, str]] = []
    for box, rect in zip(reversed(boxes), reversed(rects), strict=True):
        room = max(size[0] // 2, rect.x2 - rect.x1 + 1, _SHORT_LABEL * scale.font)
        for text in _texts(box, min(size[0], room) - 2 * scale.pad, scale):
            plate = _place(rect, _plate_size(text, scale), size, [p for _, p, _ in found])
            if plate is not None:
                found.append((box, plate, text))
                break
    return found


def _plate_size(text: str, scale: Scale) -> tuple[int, int]:
    return ceil(_length(text, scale.font)) + 2 * scale.pad, _line_height(scale.font) + scale.pad


def _place(rect: Rect, plate: tuple[int, int], size: tuple[int, int], taken: Sequence[Rect]) -> Rect | None:
    """Return a free place for a plate inside the picture: above its box, in it or below it."""
    if plate[0] > size[0] or plate[1] > size[1]:
        return None
    inside = (_moved_inside(place, plate, size) for place in _places(rect, plate))
    return next((place for place in inside if not any(place.meets(other) for other in taken)), None)


def _places(rect: Rect, plate: tuple[int, int]) -> Iterator[_Place]:
    width, height = plate
    for x in (rect.x1, rect.x2 - width + 1):
        if rect.y1 >= height:
            yield x, rect.y1 - height
        yield x, rect.y1
        yield x, rect.y2 + 1
        yield x, rect.y2 - height + 1
    for row in range(rect.y1 + height, rect.y2, height):
        yield rect.x1, row


def _moved_inside(place: _Place, plate: tuple[int, int], size: tuple[int, int]) -> Rect:
    x, y = _inside(place[0], size[0] - plate[0]), _inside(place[1], size[1] - plate[1])
    return Rect(x, y, x + plate[0] - 1, y + plate[1] - 1)


def _texts(box: Box, width: int, scale: Scale) -> list[str]:
    """Return what a plate may say, best first: label and confidence, or the label alone; shortened to fit."""
    label, confidence = (_writable(text) for text in words(box))
    texts = (_fitting(label, confidence, width, scale), _fitting(label, "", width, scale))
    return [text for text in dict.fromkeys(texts) if text]


def _fitting(label: str, confidence: str, width: int, scale: Scale) -> str:
    """Return as much of the label as fits beside the confidence; "" when nothing fits."""
    for cut in (label, *(label[:n].rstrip() + "…" for n in range(min(len(label), 64) - 1, 0, -1)), ""):
        text = f"{cut} {confidence}".strip()
        if _length(text, scale.font) <= width:
            return text
    return ""


def _plate(canvas: ImageDraw.ImageDraw, plate: Rect, text: str, colour: str, scale: Scale) -> None:
    canvas.rectangle(plate, fill=colour)
    middle = (plate.y1 + plate.y2 + 1) / 2
    canvas.text(
        (plate.x1 + scale.pad, middle), text, fill=ink_on(colour), font=_font(scale.font, text), anchor="lm"
    )


# Letters


def _writable(text: str) -> str:
    """Return one line that the fonts at hand can write; what they cannot loses its accents or becomes `?`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:200]).split())
    return line if line.isascii() else "".join(c if _has_glyph(c) else _plain(c) for c in line)


def _plain(letter: str) -> str:
    base = unicodedata.normalize("NFKD", letter)[0]
    return base if base.isascii() else "?"


@lru_cache(4096)
def _has_glyph(letter: str) -> bool:
    """Say whether a font can write a letter: one that it lacks looks as a code point that never is one."""
    font = _font(_SMALLEST_FONT, letter)
    return bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))


def _font(size: int, text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, or a system's where the text needs more letters."""
    wide = None if text.replace("…", "").isascii() else _wide_font(size)
    return wide or _own_font(size)


@cache
def _own_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@cache
def _wide_font(size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(_FONT, size)
    except OSError:
        return None


def _length(text: str, size: int) -> float:
    return float(_font(size, text).getlength(text))


def _line_height(size: int) -> int:
    font = _own_font(size)
    return sum(font.getmetrics()) if isinstance(font, ImageFont.FreeTypeFont) else size


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _sureness(box: Box) -> float:
    return 1.0 if box.confidence is None else box.confidence
