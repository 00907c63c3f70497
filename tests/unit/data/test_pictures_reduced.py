"""Photos decoded at a smaller size: the same everywhere, and nobody outside the model notices."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from tenure.data.decode import decode
from tenure.data.extract import IMAGE, extract
from tenure.data.pictures import read_image
from tenure.data.schema import Contract, InputSchema, breaks
from tenure.errors import CaseError, ProjectError
from tenure.model.pipeline import Pipeline
from tenure.model.stage import adapt
from tenure.scope.project import Decode, EndpointSpec, Output
from tenure.scope.reader import load_project
from tenure.types import Box, Image, Prediction

BOXED = Output(labels=("bright",), regions="box")


def photo(width: int, height: int, form: str = "JPEG", *, orientation: int = 1, mode: str = "RGB") -> bytes:
    """A soft gradient with a bright square from 1/2 to 3/4 of each side."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = (40 + 60 * rows / height + 40 * columns / width).astype(np.uint8)
    pixels[height // 2 : height * 3 // 4, width // 2 : width * 3 // 4] = 250
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    Pillow.fromarray(pixels).convert(mode).save(
        out, form, exif=exif, **({"quality": 95} if form == "JPEG" else {})
    )
    return out.getvalue()


def bright(image: Image) -> Prediction:
    rows, columns = np.nonzero(image.grey() > 200)
    corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return Prediction("bright", 0.9, regions=(Box(*map(float, corners), "bright", 0.5),))


@pytest.mark.parametrize(
    ("min_side", "reduced", "shape"),
    [(0, 1, (480, 640)), (481, 1, (480, 640)), (480, 1, (480, 640)), (240, 2, (240, 320)), (239, 2, (240, 320)),
     (120, 4, (120, 160)), (60, 8, (60, 80)), (1, 8, (60, 80))],
)  # fmt: skip
def test_the_shorter_side_keeps_what_was_asked(min_side: int, reduced: int, shape: tuple[int, int]) -> None:
    image = read_image(photo(640, 480), min_side=min_side)
    assert (image.reduced, image.pixels.shape[:2], image.size) == (reduced, shape, (640, 480))


def test_a_pixel_is_the_mean_of_its_square() -> None:
    body = photo(512, 384)
    whole, half = read_image(body).pixels.astype(float), read_image(body, min_side=192).pixels.astype(float)
    means = whole.reshape(192, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - means).mean() < 1.0


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_is_reduced(mode: str) -> None:
    image = read_image(photo(200, 100, mode=mode), min_side=50)
    assert (image.reduced, image.pixels.shape[:2]) == (2, (50, 100))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF"])
def test_other_formats_stay_whole(form: str) -> None:
    image = read_image(photo(640, 480, form), min_side=10)
    assert (image.reduced, image.pixels.shape[:2]) == (1, (480, 640))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_as_a_whole_picture_is(orientation: int) -> None:
    body = photo(320, 160, orientation=orientation)
    whole, half = read_image(body), read_image(body, min_side=80)
    assert half.size == whole.size == (whole.width, whole.height)
    assert half.reduced == 2
    small = np.asarray(Pillow.fromarray(whole.pixels).resize((half.width, half.height), Pillow.Resampling.BOX))
    assert np.abs(small.astype(float) - half.pixels).mean() < 2


def test_a_photo_above_the_limit_is_refused_by_its_own_size() -> None:
    with pytest.raises(CaseError, match="300 x 200 pixels are more than 50000"):
        read_image(photo(300, 200), min_side=10, max_pixels=50_000)


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 200), height=st.integers(1, 200), min_side=st.integers(1, 250))
def test_any_size_keeps_its_promise(width: int, height: int, min_side: int) -> None:
    image = read_image(photo(width, height), min_side=min_side)
    by = image.reduced
    assert (image.width, image.height) == (-(-width // by), -(-height // by))
    assert by == 1 or min(image.width, image.height) >= min_side
    assert by == 8 or min(width, height) // (by * 2) < min_side
    whole = image.as_sent(Box(0, 0, image.width, image.height, "all"))
    assert (whole.x2, whole.y2) == (width, height)


# What the schema says holds everywhere


def test_the_schema_of_an_endpoint_decides() -> None:
    schema = InputSchema.of(EndpointSpec(input="image", decode=Decode(min_side=120)))
    image = decode(schema, photo(640, 480), "image/jpeg")
    assert isinstance(image, Image)
    assert image.pixels.shape == (120, 160, 3)


def test_metrics_tell_the_size_that_was_sent() -> None:
    whole, small = (extract("image", read_image(photo(640, 480), min_side=n)) for n in (0, 120))
    told = dict(zip(IMAGE, small.tolist(), strict=True))
    assert (told["width"], told["height"]) == (640, 480)
    assert small[:2] == pytest.approx(whole[:2], rel=0.02)  # brightness and contrast hardly differ


def test_boxes_come_back_in_pixels_of_the_photo_as_it_was_sent() -> None:
    pipeline = Pipeline([("bright", adapt(bright))], output=BOXED)
    items = [read_image(photo(640, 480), min_side=n) for n in (0, 240, 120)]
    items.append(read_image(photo(640, 480, "PNG"), min_side=120))
    boxes = [result.prediction.regions[0] for result in pipeline.run(items)]
    for box in boxes:
        assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx((320, 240, 480, 360), abs=8)
    assert boxes[3] == Box(320, 240, 480, 360, "bright", 0.5)


def test_a_version_made_for_other_pixels_does_not_fit() -> None:
    def contract(min_side: int | None) -> Contract:
        return Contract(InputSchema.of(EndpointSpec(input="image", decode=Decode(min_side=min_side))), BOXED)

    assert breaks(contract(256), contract(256)) == breaks(contract(None), contract(None)) == ()
    assert breaks(contract(None), contract(256)) == (
        "decode.min_side: was none, is 256 pixels, so the same photo has other pixels",
    )
    assert breaks(contract(256), contract(None))


def test_without_it_a_bundle_s_schema_is_written_as_before() -> None:
    assert msgspec.to_builtins(InputSchema.of(EndpointSpec(input="image"))) == {"kind": "image", "fields": {}}
    assert msgspec.convert({"kind": "image"}, InputSchema) == InputSchema("image")
    kept = InputSchema.of(EndpointSpec(input="image", decode=Decode(min_side=64)))
    assert msgspec.convert(msgspec.to_builtins(kept), InputSchema) == kept


PROJECT = """
tenure: 1
project: p
scope: {y: {labels: [a, b]}}
endpoints:
  e:
    input: KIND
    decode: {min_side: 256}
    automation: {max: assist}
"""


def test_the_project_file_allows_it_for_pictures_only(tmp_path: Path) -> None:
    path = tmp_path / "tenure.yaml"
    path.write_text(PROJECT.replace("KIND", "image"))
    assert load_project(path).endpoints["e"].decode.min_side == 256
    path.write_text(PROJECT.replace("KIND", "text"))
    with pytest.raises(ProjectError, match="only pictures are decoded smaller, not text"):
        load_project(path)
