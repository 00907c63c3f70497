"""The detector: what training reaches on few photos, and what the bundle's code does with a photo."""

import json

import msgspec
import numpy as np
import pytest

from tenure.checks import check_stage
from tenure.data.pictures import read_image
from tenure.demo.inspection import detector, folder, photos, train
from tenure.demo.inspection.detector import PATCH, STRIDE


@pytest.fixture(scope="module")
def trained() -> train.Trained:
    return train.train(list(photos.series(1, 260)), seed=0)


@pytest.fixture(scope="module")
def ready(trained: train.Trained, tmp_path_factory: pytest.TempPathFactory) -> detector.Detector:
    found = detector.Detector()
    found.load(trained.write(tmp_path_factory.mktemp("files")))
    return found


def test_a_few_hundred_photos_make_a_useful_detector(trained: train.Trained) -> None:
    seen = train.measure(trained, list(photos.series(2, 250)))
    assert seen["auc"] > 0.93
    assert seen["error_at"]["50%"] < 0.05


def test_dark_photos_hide_defects_from_it(trained: train.Trained) -> None:
    bright = train.measure(trained, list(photos.series(3, 150)))
    dark = train.measure(trained, list(photos.series(3, 150, light=0.45)))
    assert dark["missed"] > bright["missed"] + 0.2


def test_the_version_that_is_bad_on_purpose_is_bad(trained: train.Trained) -> None:
    assert train.measure(train.broken(trained), list(photos.series(4, 150)))["error_at"]["100%"] > 0.3


def test_training_twice_gives_the_same_files(trained: train.Trained) -> None:
    again = train.train(list(photos.series(1, 260)), seed=0)
    assert again.calibration["weights"] == pytest.approx(trained.calibration["weights"], rel=1e-3)


def test_it_keeps_the_contract_of_stages(trained: train.Trained, tmp_path) -> None:
    samples = [read_image(p.data) for p in photos.series(5, 4)]
    check_stage(detector.Detector, samples, files=trained.write(tmp_path / "files"))


def test_boxes_meet_the_defects(ready: detector.Detector) -> None:
    met = said = 0
    for photo in photos.series(6, 80):
        answer = ready.predict([read_image(photo.data)])[0]
        if answer.value == "good":
            assert not answer.regions
        elif photo.label == "defect":
            said += 1
            met += any(overlap(mine, true) for mine in answer.regions for true in photo.boxes)
    assert said > 10
    assert met / said > 0.8


def overlap(a: object, b: object) -> bool:
    return a.x1 < b.x2 and b.x1 < a.x2 and a.y1 < b.y2 and b.y1 < a.y2


def test_other_sizes_are_answered(ready: detector.Detector) -> None:
    for height, width in ((64, 64), (400, 240)):
        grey = np.full((height, width), 120, np.uint8)
        assert ready.logits(grey).shape == (1 + (height - PATCH) // STRIDE, 1 + (width - PATCH) // STRIDE)


def test_patches_do_not_depend_on_the_level_of_grey() -> None:
    grey = np.arange(40 * 40, dtype=np.uint8).reshape(40, 40) // 2
    assert detector.patches(grey) == pytest.approx(detector.patches(grey + 50), abs=1e-4)


def test_groups_that_touch_by_a_corner_are_one() -> None:
    logits = np.full((6, 6), -5.0, np.float32)
    logits[0, 0] = logits[1, 1] = 3.0
    logits[4, 5] = 6.0
    boxes = list(detector.regions(logits, 2.0, chance=0.9))
    assert [(b.x1, b.y1) for b in boxes] == [(5 * STRIDE, 4 * STRIDE), (0, 0)]


def test_scores_count_both_errors() -> None:
    chance, truth = np.array([0.9, 0.6, 0.2, 0.1]), np.array([True, False, True, False])
    seen = train.scores(chance, truth)
    assert (seen["missed"], seen["false_alarms"]) == (0.5, 0.5)
    assert seen["error_at"] == {"50%": 0.0, "70%": pytest.approx(1 / 3, abs=1e-4), "90%": 0.5, "100%": 0.5}
    assert seen["auc"] == 0.75


def test_training_without_a_defect_says_so() -> None:
    good = [photos.take(1, i, defective=0.0) for i in range(12)]
    with pytest.raises(ValueError, match="one of both is missing"):
        train.train(good)


def test_the_command_keeps_the_retraining_contract(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    originals, dataset, output = tmp_path / "originals", tmp_path / "dataset", tmp_path / "output"
    folder.write(originals, list(photos.series(1, 120)))
    (dataset / "media").mkdir(parents=True)
    output.mkdir()
    with (dataset / "index.jsonl").open("w") as index:
        for number, photo in enumerate(photos.series(2, 60, light=0.45)):
            (dataset / f"media/{number}.jpg").write_bytes(photo.data)
            boxes = [msgspec.to_builtins(b) for b in photo.boxes]
            split = "test" if number >= 40 else "train"
            row = {"id": f"k{number}", "label": photo.label, "boxes": boxes, "split": split, "at_us": number}
            index.write(json.dumps(row | {"file": f"media/{number}.jpg", "source": "agreed"}) + "\n")
    monkeypatch.setenv("TENURE_DATASET", str(dataset))
    monkeypatch.setenv("TENURE_OUTPUT", str(output))
    monkeypatch.setattr("sys.argv", ["train", str(originals)])
    train.main()
    metrics = json.loads((output / "metrics.json").read_text())
    assert (metrics["photos"], metrics["trained_on"]) == (20, 160)
    scores = json.loads((output / "pilot_scores.json").read_text())
    assert sum(len(s) for s in scores.values()) == 20
    made = detector.Detector()
    made.load(output / "files")
    assert made.predict([read_image(photos.take(3, 0).data)])[0].value in ("good", "defect")
