"""The rendered phones: the same photo again, boxes where the defects are, and light as a parameter."""

import numpy as np
import pytest

from tenure.data.pictures import read_image
from tenure.demo.inspection import photos
from tenure.demo.inspection.photos import HEIGHT, WIDTH


def pixels(photo: photos.Photo) -> np.ndarray:
    return read_image(photo.data).grey().astype(float)


def test_seed_and_number_fix_a_photo() -> None:
    assert photos.take(3, 7) == photos.take(3, 7)
    assert photos.take(3, 7).data != photos.take(3, 8).data
    assert photos.take(3, 7).data != photos.take(4, 7).data


def test_no_two_photos_of_a_series_are_equal() -> None:
    """The demo's inspectors know a photo by its bytes."""
    assert len({p.data for p in photos.series(1, 60)}) == 60


def test_the_light_changes_the_photo_but_not_the_phone() -> None:
    for number in range(20):
        bright, dark = photos.take(1, number), photos.take(1, number, light=0.45)
        assert (bright.label, bright.boxes) == (dark.label, dark.boxes)
        assert pixels(dark).mean() == pytest.approx(0.45 * pixels(bright).mean(), abs=1.0)


def test_normal_light_is_in_the_middle_of_the_scale() -> None:
    greys = np.stack([pixels(p) for p in photos.series(5, 20)])
    assert 100 < greys.mean() < 140
    assert (greys == 255).mean() < 0.01


def test_boxes_lie_in_the_photo_and_only_on_defective_phones() -> None:
    for photo in photos.series(2, 150):
        assert bool(photo.boxes) == (photo.label == "defect")
        for box in photo.boxes:
            assert 0 <= box.x1 < box.x2 <= WIDTH
            assert 0 <= box.y1 < box.y2 <= HEIGHT
            assert box.label in ("scratch", "crack", "dent")


def test_a_box_holds_what_makes_the_phone_defective() -> None:
    """The same phone without the defect differs inside the boxes and nowhere else."""
    found = 0
    for number in range(60):
        photo = photos.take(6, number, defective=1.0)
        clean = photos.take(6, number, defective=0.0)
        assert clean.label == "good"
        change = np.abs(np.asarray(pixels(photo)) - pixels(clean))
        inside = np.zeros(change.shape, bool)
        for box in photo.boxes:
            inside[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = True
        strong = blurred(change) > 12
        found += bool(strong[inside].any())
        assert strong[~inside].mean() < 0.002
    assert found >= 58


def blurred(change: np.ndarray) -> np.ndarray:
    """Mean of 3 x 3: the two photos have other camera noise."""
    padded = np.pad(change, 1, mode="edge")
    return sum(padded[i : i + change.shape[0], j : j + change.shape[1]] for i in range(3) for j in range(3)) / 9


def test_about_a_third_of_the_phones_is_defective() -> None:
    share = np.mean([p.label == "defect" for p in photos.series(8, 300)])
    assert 0.25 < share < 0.42
