"""COCO: pictures and boxes, both ways.

Boxes are [x, y, width, height] in pixels (cocodataset.org, "Data format").
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tenure.maintain.exchange.entry import Out, Taken, wrong
from tenure.types import Box, Value


def dataset(outs: Sequence[Out]) -> dict[str, Any]:
    """Return the truths of pictures as a COCO data set; our id and provenance stand in `images[].tenure`."""
    names = sorted({box.label for out in outs for box in out.boxes})
    number = {name: i for i, name in enumerate(names, 1)}
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for image, out in enumerate((o for o in outs if o.size is not None and o.file is not None), 1):
        width, height = out.size or (0, 0)
        images.append(
            {"id": image, "file_name": out.file, "width": width, "height": height, "tenure": _provenance(out)}
        )
        for box in out.boxes:
            w, h = box.x2 - box.x1, box.y2 - box.y1
            boxes.append(
                {
                    "id": len(boxes) + 1, "image_id": image, "category_id": number[box.label],
                    "bbox": [box.x1, box.y1, w, h], "area": w * h, "iscrowd": 0, "segmentation": [],
                }
            )  # fmt: skip
    categories = [{"id": i, "name": name, "supercategory": ""} for name, i in number.items()]
    return {
        "info": {"description": "exported by tenure", "version": "1"}, "licenses": [], "images": images,
        "annotations": boxes, "categories": categories,
    }  # fmt: skip


def read(
    content: Any, *, name: str, reader: str, with_boxes: Value = None, without_boxes: Value = None
) -> Iterator[Taken]:
    """Yield one judgement per picture.

    Its item is `images[].tenure.item`, else the file's name without folder and extension. Its answer is
    `with_boxes` or `without_boxes`, else `images[].tenure.value`.

    Raises:
        CaseError: `invalid_exchange`; the text names file, record and field.
    """
    names = {
        _at(c, "id", f"{name}.categories[{i}]"): c.get("name") for i, c in _each(content, "categories", name)
    }
    found: dict[Any, list[Box]] = defaultdict(list)
    images = {_at(image, "id", f"{name}.images[{i}]") for i, image in _each(content, "images", name)}
    for i, one in _each(content, "annotations", name):
        at = f"{name}.annotations[{i}]"
        image = _at(one, "image_id", at)
        if image not in images:
            raise wrong(f"{at}.image_id", f"there is no image {image!r}")
        found[image].append(_box(one, names, at))
    for i, image in _each(content, "images", name):
        at = f"{name}.images[{i}]"
        ours = image["tenure"] if isinstance(image.get("tenure"), Mapping) else {}
        item = ours.get("item") or PurePosixPath(str(_at(image, "file_name", at))).stem
        boxes = tuple(found[image["id"]])
        value = with_boxes if boxes else without_boxes
        value = ours.get("value") if value is None else value
        if value is None:
            raise wrong(at, "which answer is it? Say --with-boxes and --without-boxes")
        yield Taken(
            item=str(item),
            reader=f"coco:{reader}",
            value=value,
            regions=boxes,
            key=f"coco:{reader}:{item}",
            at=at,
        )


def _provenance(out: Out) -> dict[str, Any]:
    said = out.judged
    return {
        "item": out.id, "value": out.truth, "source": said.item["source"], "weight": out.weight,
        "blind": said.blind, "shown_suggestion": said.shown, "adjudicated": said.item["source"] == "adjudicated",
    }  # fmt: skip


def _box(one: Mapping[str, Any], names: Mapping[Any, Any], at: str) -> Box:
    category = _at(one, "category_id", at)
    if not isinstance(names.get(category), str):
        raise wrong(f"{at}.category_id", f"there is no category {category!r}")
    corners = one.get("bbox")
    good = isinstance(corners, list) and len(corners) == 4 and all(_finite(c) for c in corners)
    if not good or not isinstance(corners, list):
        raise wrong(f"{at}.bbox", f"expected [x, y, width, height], got {corners!r}")
    x, y, w, h = (float(c) for c in corners)
    return Box(x, y, x + w, y + h, names[category])


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _each(content: Any, name: str, file: str) -> list[tuple[int, Mapping[str, Any]]]:
    found = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise wrong(f"{file}.{name}", "expected a list of objects, as COCO has it")
    return list(enumerate(found))


def _at(one: Mapping[str, Any], name: str, at: str) -> Any:
    if not isinstance(one.get(name), str | int):
        raise wrong(f"{at}.{name}", "is missing")
    return one[name]
