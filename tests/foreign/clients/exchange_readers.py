"""Read exports with the formats' own readers, a word per check. argv: folders of label-studio and of coco."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface
from pycocotools.coco import COCO

studio, coco = Path(sys.argv[1]), Path(sys.argv[2])
config = (studio / "config.xml").read_text()
tasks = json.loads((studio / "tasks.json").read_text())

interface = LabelInterface(config)
assert interface.validate() is None
print("config")
for task in tasks:  # its validate_task cannot be asked about a task with annotations, in any form
    assert interface.validate_task({"data": task["data"]}), task["data"]
    for one in task["annotations"]:
        assert interface.validate_annotation(one), one
print("tasks")

with contextlib.redirect_stdout(sys.stderr):
    read = COCO(str(coco / "annotations.json"))
truth = json.loads((coco / "annotations.json").read_text())
assert len(read.getImgIds()) == len(truth["images"])
mine = {i["file_name"].rpartition("/")[2].partition(".")[0]: i["id"] for i in truth["images"]}
for image in read.loadImgs(read.getImgIds()):
    for one in read.loadAnns(read.getAnnIds(imgIds=image["id"])):
        x, y, w, h = one["bbox"]
        assert 0 <= x < x + w <= image["width"]
        assert 0 <= y < y + h <= image["height"]
print("pycocotools")

# Label Studio's own converter turns our percents into the pixels that our COCO has.
done = studio / "done.json"
full = [{**t, "id": n} for n, t in enumerate(tasks)]
for t in full:
    for n, a in enumerate(t["annotations"]):
        a.update(id=n, completed_by={"email": "a@b.c"}, was_cancelled=False)
done.write_text(json.dumps(full))
out = studio / "converted"
with contextlib.redirect_stdout(sys.stderr):
    Converter(config, str(studio), download_resources=False).convert_to_coco(
        str(done), str(out), output_image_dir=str(out / "images"), is_dir=False
    )
    theirs = COCO(str(out / "result.json"))
pairs = 0
for image in theirs.loadImgs(theirs.getImgIds()):
    name = image["file_name"].rpartition("/")[2].partition(".")[0]
    said = sorted(a["bbox"] for a in theirs.loadAnns(theirs.getAnnIds(imgIds=image["id"])))
    ours = sorted(a["bbox"] for a in read.loadAnns(read.getAnnIds(imgIds=mine[name])))
    assert len(said) == len(ours), name
    for a, b in zip(said, ours, strict=True):
        assert all(abs(p - q) < 1e-6 for p, q in zip(a, b, strict=True)), (a, b)
        pairs += 1
assert pairs == len(truth["annotations"]) > 0
print("converter")

short = studio / "min"
with contextlib.redirect_stdout(sys.stderr):
    Converter(config, str(studio), download_resources=False).convert_to_json_min(
        str(done), str(short), is_dir=False
    )
assert len(json.loads((short / "result.json").read_text())) == len(tasks)
print("json_min")
