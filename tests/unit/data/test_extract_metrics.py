"""Input metrics against values that can be worked out by hand, and against plain definitions."""

import math
from typing import Any

import numpy as np
import pytest

from tenure.data.extract import FLOOR_DB, extract, metric_names
from tenure.scope.project import Field
from tenure.types import Audio, Image

RNG = np.random.default_rng(5)


def image(pixels: Any) -> dict[str, float]:
    values = extract("image", Image(np.asarray(pixels, dtype=np.uint8)))
    return dict(zip(metric_names("image"), values.tolist(), strict=True))


def test_a_flat_photo_has_its_shade_and_nothing_else() -> None:
    found = image(np.full((30, 40), 77))
    assert found == {"brightness": 77, "contrast": 0, "sharpness": 0, "width": 40, "height": 30}


def test_brightness_and_contrast_are_those_of_the_luma() -> None:
    pixels = RNG.integers(0, 256, (48, 60, 3), dtype=np.uint8)
    found = image(pixels)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert found["brightness"] == pytest.approx(luma.mean(), abs=0.01)
    assert found["contrast"] == pytest.approx(luma.std(), abs=0.01)


def test_sharpness_falls_with_blur_and_is_the_laplacians_variance() -> None:
    pixels = RNG.integers(0, 256, (32, 40), dtype=np.uint8)
    grey = pixels.astype(float)
    rows = slice(1, -1, 3)
    laplacian = 4 * grey[rows, 1:-1] - grey[0:-2:3, 1:-1] - grey[2::3, 1:-1] - grey[rows, :-2] - grey[rows, 2:]
    assert image(pixels)["sharpness"] == pytest.approx(laplacian.var(), rel=1e-4)
    blurred = (grey[:-1, :-1] + grey[1:, :-1] + grey[:-1, 1:] + grey[1:, 1:]) / 4
    assert image(blurred)["sharpness"] < image(pixels)["sharpness"] / 2


def test_a_large_photo_is_sampled_without_changing_what_it_says() -> None:
    tile = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    small, large = image(np.tile(tile, (3, 3, 1))), image(np.tile(tile, (20, 20, 1)))
    for name in ("brightness", "contrast"):
        assert large[name] == pytest.approx(small[name], rel=0.02)
    assert large["sharpness"] == pytest.approx(small["sharpness"], rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9, 3), (9, 2), (3, 3), (1, 100_000), (100_000, 1), (4, 70_000, 3)])
def test_odd_shapes_are_measured(shape: tuple[int, ...]) -> None:
    found = image(RNG.integers(0, 256, shape))
    assert all(math.isfinite(v) for v in found.values())
    assert (found["height"], found["width"]) == shape[:2]


def test_text_counts_characters_and_words() -> None:
    assert extract("text", " ein  Wort, zwei\nWörter ").tolist() == [24, 4]
    assert metric_names("text") == ("length", "words")


def audio(samples: Any, rate: int = 1000) -> dict[str, float]:
    values = extract("audio", Audio(np.asarray(samples, dtype=np.float32), rate))
    return dict(zip(metric_names("audio"), values.tolist(), strict=True))


def test_a_square_wave_at_half_scale_is_minus_six_decibels() -> None:
    found = audio(np.tile([0.5, -0.5], 1000))
    assert found["seconds"] == 2
    assert found["loudness"] == pytest.approx(20 * math.log10(0.5), abs=1e-4)
    assert (found["silence"], found["clipping"]) == (0, 0)


def test_silence_and_clipping_are_shares() -> None:
    found = audio(np.concatenate([np.zeros(750), np.ones(250)]))
    assert found["silence"] == pytest.approx(0.74, abs=0.02)
    assert found["clipping"] == pytest.approx(0.25)
    assert audio(np.zeros(100))["loudness"] == FLOOR_DB
    assert audio([])["seconds"] == 0


FIELDS = {
    "age": Field(type="int"),
    "note": Field(type="text"),
    "weight": Field(type="float", nullable=True),
    "city": Field(type="category", values=("Bonn", "Köln")),
    "smoker": Field(type="bool"),
}


def test_a_record_gives_a_number_for_each_field_but_texts() -> None:
    names = metric_names("record", FIELDS)
    assert names == ("missing", "field:age", "field:weight", "field:city", "field:smoker")
    full = extract("record", {"age": 3, "note": "x", "weight": 2.5, "city": "Köln", "smoker": True}, FIELDS)
    assert full.tolist() == [0, 3, 2.5, 1, 1]
    assert full.dtype == np.float32
    part = extract("record", {"age": 3, "city": "Ulm", "smoker": False}, FIELDS)
    assert part[0] == pytest.approx(0.4)
    assert math.isnan(part[2])
    assert part[3] == -1


def test_a_record_without_declared_fields_counts_its_nulls() -> None:
    assert extract("record", {"a": None, "b": 1}).tolist() == [0.5]
    assert extract("record", {}).tolist() == [0.0]


def test_the_wrong_kind_is_a_fault_of_the_caller() -> None:
    with pytest.raises(TypeError, match="expected an input of kind image"):
        extract("image", "text")


@pytest.mark.parametrize("kind", ["image", "audio", "text"])
def test_there_is_a_name_for_each_value(kind: Any) -> None:
    value = {"image": Image(np.zeros((4, 4), np.uint8)), "audio": Audio(np.zeros(4, np.float32), 4), "text": "a"}[
        kind
    ]
    assert len(extract(kind, value)) == len(metric_names(kind))
