"""Real photos from a folder with an index."""

import json
from pathlib import Path

import pytest

from tenure.demo.inspection import folder, photos
from tenure.errors import CaseError


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    lines = []
    for number in range(6):
        photo = photos.take(1, number)
        (tmp_path / f"images/{number}.jpg").write_bytes(photo.data)
        boxes = [[b.x1, b.y1, b.x2, b.y2] for b in photo.boxes]
        exposure = 6 if number < 4 else 1
        line = {"file": f"images/{number}.jpg", "label": photo.label, "boxes": boxes, "exposure": exposure}
        lines.append(json.dumps(line | {"mask": None, "defect_type": None}))
    (tmp_path / "index.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_exposures_part_the_photos(tiles: Path) -> None:
    assert len(folder.read(tiles, [6])) == 4
    assert {p.light for p in folder.read(tiles, [1, 2])} == {1 / 6}


def test_label_boxes_and_bytes_come_from_the_folder(tiles: Path) -> None:
    found = {p.data: p for p in folder.read(tiles, [6])}
    for number in range(4):
        photo = photos.take(1, number)
        same = found[photo.data]
        assert same.label == photo.label
        assert [(b.x1, b.y1, b.x2, b.y2) for b in same.boxes] == [(b.x1, b.y1, b.x2, b.y2) for b in photo.boxes]


def test_the_seed_fixes_the_order(tiles: Path) -> None:
    assert folder.read(tiles, [6], seed=1) == folder.read(tiles, [6], seed=1)


def test_a_folder_without_index_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"index\.jsonl"):
        folder.read(tmp_path, [6])


def test_a_wrong_line_is_named(tiles: Path) -> None:
    with (tiles / "index.jsonl").open("a") as index:
        index.write('\n{"file": "images/0.jpg", "label": "fine"}')
    with pytest.raises(CaseError, match=r"line 7.*fine"):
        folder.read(tiles, [6])


def test_a_photo_outside_the_folder_is_refused(tiles: Path) -> None:
    (tiles / "index.jsonl").write_text('{"file": "../secret.jpg", "label": "good", "exposure": 6}')
    with pytest.raises(CaseError, match="not a file in"):
        folder.read(tiles, [6])
