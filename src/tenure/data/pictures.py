"""Encoded pictures to pixels, the same way at every time and place, and with limits on what they may cost."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from tenure.errors import CaseError
from tenure.types import Image

MAX_PIXELS = 50_000_000
"""A larger picture is refused before it is decoded: 50 megapixels are 150 MB as RGB."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Only these are tried: others run foreign programs (EPS) or are rarely fuzzed."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
_LYING = frozenset(_TURNS[n] for n in (5, 6, 7, 8))  # these exchange width and height


def read_image(body: bytes, *, min_side: int = 0, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode the first frame of a picture.

    Grey pictures stay (h, w), all others become (h, w, 3) RGB; both uint8 and read-only. EXIF orientation is
    applied, transparency is shown on white, 16-bit grey keeps its upper 8 bits.

    Args:
        body: the file.
        min_side: where it is not 0, a JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 of its size at which
            its shorter side has at least so many pixels. Each pixel is then the mean of its square, taken in the
            frequency domain (libjpeg's scaled inverse DCT), for a fraction of the time. Other formats stay whole.
        max_pixels: of the picture as it was sent.

    Raises:
        CaseError: 422 `unreadable_image`, saying what was wrong.
    """
    if not body:
        raise _unreadable("the body is empty")
    try:
        with Pillow.open(io.BytesIO(body), formats=FORMATS) as picture:
            return _read(picture, body, min_side, max_pixels)
    except CaseError:
        raise
    except UnidentifiedImageError as error:
        raise _unreadable(f"not a picture in {', '.join(FORMATS)}") from error
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise _unreadable(f"more than {max_pixels} pixels") from error
    except Exception as error:  # decoders of hostile bytes raise anything
        raise _unreadable(str(error)[:200] or type(error).__name__) from error


def _read(picture: Pillow.Image, body: bytes, min_side: int, max_pixels: int) -> Image:
    width, height = picture.size
    if width * height > max_pixels:
        raise _unreadable(f"{width} x {height} pixels are more than {max_pixels}")
    media_type = Pillow.MIME.get(picture.format or "", "application/octet-stream")
    reduced = _reduce(picture, min_side)
    turn = _turn(picture)
    picture.load()
    upright = picture if turn is None else picture.transpose(turn)
    pixels = np.ascontiguousarray(_eight_bit(np.asarray(_flat(upright))))
    pixels.flags.writeable = False
    size = (height, width) if turn in _LYING else (width, height)
    return Image(pixels, body, media_type, size=size, reduced=reduced)


def _reduce(picture: Pillow.Image, min_side: int) -> int:
    """Ask a JPEG's decoder for fewer pixels; returns the side of the square that becomes one pixel."""
    if not min_side or not isinstance(picture, JpegImageFile):
        return 1
    width = picture.width
    picture.draft(None, (min_side, min_side))
    return next(by for by in (1, 2, 4, 8) if -(-width // by) == picture.width)


def _turn(picture: Pillow.Image) -> Pillow.Transpose | None:
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a picture with broken notes about itself is still a picture
        return None


def _flat(picture: Pillow.Image) -> Pillow.Image:
    """Return the picture as L, RGB or 16-bit grey."""
    mode = picture.mode
    if mode in ("L", "RGB") or mode.startswith("I;16"):
        return _without_key(picture)
    if mode in ("I", "F"):
        raise _unreadable("32-bit pixels have no defined scale; send 8 or 16 bits")
    if mode == "1":
        return picture.convert("L")
    if mode in ("LA", "La"):
        return _on_white(picture.convert("LA"), "L")
    if mode in ("RGBA", "RGBa", "PA") or "transparency" in picture.info:
        return _on_white(picture.convert("RGBA"), "RGB")
    return picture.convert("RGB")


def _without_key(picture: Pillow.Image) -> Pillow.Image:
    """Show a colour that a PNG declares to be transparent on white."""
    if "transparency" not in picture.info or picture.mode not in ("L", "RGB"):
        return picture
    return _on_white(picture.convert("LA" if picture.mode == "L" else "RGBA"), picture.mode)


def _on_white(picture: Pillow.Image, mode: str) -> Pillow.Image:
    paper = Pillow.new(mode, picture.size, "white")
    paper.paste(picture.convert(mode), mask=picture.getchannel("A"))
    return paper


def _eight_bit(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    return (pixels.astype(np.uint16) >> 8).astype(np.uint8)


def _unreadable(why: str) -> CaseError:
    return CaseError(f"cannot read the picture: {why}", code="unreadable_image", at="body")
