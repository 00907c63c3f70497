"""Pictures become the same pixels whatever they are wrapped in, and hostile ones cost nothing."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from tenure.data.decode import decode
from tenure.data.pictures import read_image
from tenure.data.schema import InputSchema
from tenure.errors import CaseError

IMAGE = InputSchema("image")
GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)


def encoded(pixels: np.ndarray | Pillow.Image, kind: str = "PNG", **options: object) -> bytes:
    picture = pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def refusal(body: bytes, media_type: str = "image/png") -> CaseError:
    with pytest.raises(CaseError) as caught:
        decode(IMAGE, body, media_type)
    return caught.value


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_pictures_keep_their_pixels_and_bytes(kind: str, pixels: np.ndarray) -> None:
    body = encoded(pixels, kind)
    image = decode(IMAGE, body, "image/png")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.data == body
    assert not image.pixels.flags.writeable
    assert image.media_type == Pillow.MIME[kind]


def test_a_png_that_is_called_jpeg_is_read_and_named_right() -> None:
    assert decode(IMAGE, encoded(RGB), "image/jpeg").media_type == "image/png"
    assert decode(IMAGE, encoded(RGB, "JPEG"), "application/octet-stream").media_type == "image/jpeg"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_orientation_is_applied(orientation: int) -> None:
    from PIL import ImageOps

    exif = Pillow.Exif()
    exif[0x0112] = orientation
    body = encoded(RGB, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(body))))
    np.testing.assert_array_equal(decode(IMAGE, body, "image/png").pixels, expected)


def test_sixteen_bit_grey_keeps_its_upper_bits() -> None:
    deep = np.array([[0, 255, 256, 40000, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(read_image(encoded(deep, kind)).pixels, [[0, 0, 1, 156, 255]])


def test_transparency_is_shown_on_white() -> None:
    clear = np.zeros((2, 2, 4), dtype=np.uint8)
    clear[0, 0] = (200, 10, 10, 255)
    pixels = read_image(encoded(clear)).pixels
    assert pixels.shape == (2, 2, 3)
    assert pixels[0, 0].tolist() == [200, 10, 10]
    assert pixels[1, 1].tolist() == [255, 255, 255]
    grey = np.array([[[7, 255], [7, 0]]], dtype=np.uint8)
    np.testing.assert_array_equal(read_image(encoded(grey)).pixels, [[7, 255]])


def test_palettes_become_rgb_with_and_without_transparency() -> None:
    picture = Pillow.fromarray(RGB).quantize(8)
    expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(read_image(encoded(picture)).pixels, expected)
    shown = read_image(encoded(picture, transparency=0)).pixels
    first = np.asarray(picture) == 0
    assert (shown[first] == 255).all()
    np.testing.assert_array_equal(shown[~first], expected[~first])


def test_black_and_white_cmyk_and_animations_are_read() -> None:
    assert set(np.unique(read_image(encoded(Pillow.fromarray(GREY > 50))).pixels)) <= {0, 255}
    assert read_image(encoded(Pillow.fromarray(RGB).convert("CMYK"), "JPEG")).pixels.shape == RGB.shape
    frames = [Pillow.new("L", (5, 3), shade) for shade in (0, 255)]
    first = read_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert first.pixels.max() == 0


def test_thirty_two_bit_pixels_are_refused_since_they_have_no_scale() -> None:
    body = encoded(Pillow.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF")
    assert "no defined scale" in refusal(body).message


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that claims many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize("size", [(30_000, 2_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_refused_before_they_unfold(size: tuple[int, int]) -> None:
    found = refusal(bomb(*size))
    assert (found.code, found.status) == ("unreadable_image", 422)
    assert "pixels" in found.message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_picture_is_refused(kind: str) -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    body = encoded(noisy, kind)
    assert refusal(body[: len(body) // 2]).code == "unreadable_image"


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_picture_is_refused_with_422(body: bytes) -> None:
    found = refusal(body)
    assert (found.status, found.code, found.at) == (422, "unreadable_image", "body")


@pytest.mark.parametrize("media_type", ["text/plain", "application/json", "audio/wav"])
def test_another_media_type_is_415_and_says_what_is_accepted(media_type: str) -> None:
    found = refusal(encoded(RGB), media_type)
    assert (found.status, found.code) == (415, "unsupported_media_type")
    assert "image/jpeg" in found.message


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_notes_do_not_cost_the_picture() -> None:
    body = encoded(RGB, "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff broken")
    np.testing.assert_array_equal(read_image(body).pixels, RGB)
