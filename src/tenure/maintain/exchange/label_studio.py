"""Label Studio: tasks with predictions and our ids out; its JSON and JSON_MIN exports in.

Boxes are percents of the picture's sides, x and y at the upper left (Label Studio's documentation, "Label Studio
JSON format of annotated tasks").
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard
from xml.sax.saxutils import quoteattr

from tenure.data.state import dumps
from tenure.maintain.exchange.entry import Out, Taken, wrong
from tenure.maintain.exchange.interface import OBJECTS, Interface
from tenure.scope.project import InputKind, Output
from tenure.types import Box, Value

FORMAT = 1
ITEM, SHOWN = "tenure_item", "tenure_shown"
DAY_S = 86_400.0
ID = re.compile(r"[\w.-]{1,100}", re.ASCII)
_TIME = re.compile(r"[0-9T:.+Z -]{4,40}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
OURS = Interface(data="")
"""The names of our own labelling configuration."""

TO, LABEL, BOXES, TEXT, NUMBER = OURS.to, OURS.label, OURS.boxes, OURS.text, OURS.number


def config(kind: InputKind, output: Output, names: Sequence[str]) -> str:
    """Return the labelling configuration of a project for an endpoint; `names` are the labels of boxes."""
    lines = [f'  <{OBJECTS[kind][0]} name="{TO}" value="${kind}"/>']
    if output.labels:
        choices = "".join(f"<Choice value={quoteattr(label)}/>" for label in output.labels)
        lines.append(
            f'  <Choices name="{LABEL}" toName="{TO}" choice="single" required="true">{choices}</Choices>'
        )
    elif output.kind == "number":
        lines.append(f'  <Number name="{NUMBER}" toName="{TO}" required="true"/>')
    else:
        lines.append(f'  <TextArea name="{TEXT}" toName="{TO}" maxSubmissions="1" required="true"/>')
    if output.regions == "box":
        labels = "".join(f"<Label value={quoteattr(name)}/>" for name in names)
        lines.append(f'  <RectangleLabels name="{BOXES}" toName="{TO}">{labels}</RectangleLabels>')
    return "\n".join(["<View>", *lines, "</View>", ""])


def task(out: Out, kind: InputKind, output: Output, *, prefix: str) -> dict[str, Any]:
    """Return the task of an item; `prefix` goes before the name of its file.

    A prediction is given only where a reader may see it. The id is in `data`, too, since JSON_MIN drops `meta`.
    """
    said = out.judged
    item = said.item
    data = prefix + out.file if out.file is not None else _text(out.record)
    made: dict[str, Any] = {
        "data": {kind: data, ITEM: out.id, SHOWN: out.show},
        "meta": {
            "tenure": FORMAT, "item": out.id, "endpoint": item["endpoint"], "kind": item["kind"],
            "shown_suggestion": out.show, "weight": out.weight,
        },
    }  # fmt: skip
    if out.show and item["version"] is not None:
        result = results(said.predicted, said.regions, output, out.size)
        made["predictions"] = [{"model_version": item["version"], "score": said.confidence, "result": result}]
    if out.truth is not None:
        made["annotations"] = [{"ground_truth": True, "result": results(out.truth, out.boxes, output, out.size)}]
    return made


def results(
    value: Value, boxes: Sequence[Box], output: Output, size: tuple[int, int] | None, names: Interface = OURS
) -> list[dict[str, Any]]:
    """Return an answer as a list of regions and choices, by the names of a project's parts."""
    found = [] if value is None else [_answer(value, output, names)]
    if boxes and size is None:
        raise ValueError("boxes need the size of the picture")
    return found + [_rectangle(box, n, size, names) for n, box in enumerate(boxes) if size is not None]


def read(content: Any, output: Output, *, name: str) -> Iterator[Taken]:
    """Yield the judgements of an export in JSON or JSON_MIN; those that were skipped are left out.

    Raises:
        CaseError: `invalid_exchange`; the text names file, record and field.
    """
    if not isinstance(content, list):
        raise wrong(name, "expected a list of tasks, as Label Studio exports them")
    for number, one in enumerate(content):
        at = f"{name}[{number}]"
        if not isinstance(one, Mapping):
            raise wrong(at, "expected an object")
        if "annotations" in one:
            yield from _of_task(one, output, at)
        elif "annotation_id" in one:
            yield _of_min(one, output, at)
        else:
            raise wrong(at, "has neither `annotations` (JSON) nor `annotation_id` (JSON_MIN)")


def annotation(one: Mapping[str, Any], found: Mapping[str, Any], output: Output, *, at: str) -> Taken:
    """Return one annotation of a task as a judgement."""
    regions, value = [], None
    for number, result in enumerate(_list(found.get("result"), f"{at}.result")):
        here = f"{at}.result[{number}]"
        if result.get("type") == "rectanglelabels":
            regions.append(_box(_object(result, "value", here), result, f"{here}.value"))
        else:
            value = _value(_object(result, "value", here), output, value, f"{here}.value")
    return _taken(
        item=_item(one, at), annotator=_who(found.get("completed_by")), number=found.get("id"), value=value,
        regions=regions, seconds=found.get("lead_time"), output=output,
        changed=found.get("updated_at"), at=at,
        shown=shows(one) or _saw(one, found),
    )  # fmt: skip


def _saw(one: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Say whether a task or its annotation tells that some prediction could be seen, whatever the task denies."""
    results, said = found.get("result"), one.get("predictions")
    origins = [r.get("origin") for r in results if isinstance(r, Mapping)] if isinstance(results, list) else []
    hints = (found.get("parent_prediction"), found.get("prediction"), one.get("total_predictions"), said)
    return any(map(bool, hints)) or any(str(origin).startswith("prediction") for origin in origins)


def _of_task(one: Mapping[str, Any], output: Output, at: str) -> Iterator[Taken]:
    for number, found in enumerate(_list(one["annotations"], f"{at}.annotations")):
        if not found.get("was_cancelled"):
            yield annotation(one, found, output, at=f"{at}.annotations[{number}]")


def _of_min(one: Mapping[str, Any], output: Output, at: str) -> Taken:
    boxes = [_box(b, b, f"{at}.{BOXES}[{i}]") for i, b in enumerate(_list(one.get(BOXES, []), f"{at}.{BOXES}"))]
    value = one.get(LABEL) if output.labels else one.get(NUMBER if output.kind == "number" else TEXT)
    if isinstance(value, Mapping):
        value = value.get("number", value.get("text"))
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, list | Mapping):
        raise wrong(at, "more than one answer; the endpoint takes one")
    return _taken(
        item=_item(one, at), annotator=_who(one.get("annotator")), number=one["annotation_id"], value=value,
        regions=boxes, seconds=one.get("lead_time"), output=output, changed=one.get("updated_at"), at=at,
        shown=shows({"data": one}),
    )  # fmt: skip


def _taken(
    *, item: str, annotator: str, number: Any, value: Value, regions: Sequence[Box], seconds: Any, changed: Any,
    output: Output, at: str, shown: bool,
) -> Taken:  # fmt: skip
    if not ID.fullmatch(str(number)):
        raise wrong(f"{at}.id", "the annotation has no id, so that a second import could not be told")
    if value is None:
        raise wrong(f"{at}.result", f"no {'label' if output.labels else output.kind} was given")
    stem = f"label_studio:{item}:{number}:"
    when = changed if isinstance(changed, str) and _TIME.fullmatch(changed) else ""
    return Taken(
        item=item, reader=f"label_studio:{annotator}", value=value, regions=tuple(regions), stem=stem,
        key=f"{stem}{when}", at=at, seconds=_seconds(seconds), shown=shown,
    )  # fmt: skip


def _seconds(value: Any) -> float:
    return max(0.0, min(float(value), DAY_S)) if _is_finite(value) else 0.0


def _answer(value: Value, output: Output, names: Interface) -> dict[str, Any]:
    to = {"to_name": names.to}
    if output.labels:
        return {"type": "choices", "from_name": names.label, **to, "value": {"choices": [value]}}
    if output.kind == "number":
        return {"type": "number", "from_name": names.number, **to, "value": {"number": value}}
    return {"type": "textarea", "from_name": names.text, **to, "value": {"text": [_text(value)]}}


def _rectangle(box: Box, number: int, size: tuple[int, int], names: Interface) -> dict[str, Any]:
    width, height = size
    made: dict[str, Any] = {
        "id": f"box{number}", "type": "rectanglelabels", "from_name": names.boxes, "to_name": names.to,
        "original_width": width, "original_height": height, "image_rotation": 0,
        "value": {
            "x": 100 * box.x1 / width, "y": 100 * box.y1 / height,
            "width": 100 * (box.x2 - box.x1) / width, "height": 100 * (box.y2 - box.y1) / height,
            "rotation": 0, "rectanglelabels": [box.label],
        },
    }  # fmt: skip
    return made if box.confidence is None else made | {"score": box.confidence}


def _box(value: Mapping[str, Any], holder: Mapping[str, Any], at: str) -> Box:
    x, y, w, h = (_number(value, name, at) for name in ("x", "y", "width", "height"))
    width, height = (_number(holder, f"original_{side}", at) for side in ("width", "height"))
    if value.get("rotation") or holder.get("image_rotation"):
        raise wrong(f"{at}.rotation", "a turned box cannot be taken; boxes are upright here")
    names = value.get("rectanglelabels")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise wrong(f"{at}.rectanglelabels", "a box needs exactly one label")
    # Rounding takes back what the way through percents added, a millionth of a pixel at most.
    corners = (x * width, y * height, (x + w) * width, (y + h) * height)
    x1, y1, x2, y2 = (round(c / 100, 6) for c in corners)
    return Box(x1, y1, x2, y2, names[0])


def _value(value: Mapping[str, Any], output: Output, before: Value, at: str) -> Value:
    for name in ("choices", "number", "text"):
        if name not in value:
            continue
        found = value[name]
        many = found if isinstance(found, list) else [found]
        if len(many) != 1 or before is not None:
            raise wrong(f"{at}.{name}", "more than one answer; the endpoint takes one")
        if not isinstance(many[0], str | int | float | bool):
            raise wrong(f"{at}.{name}", f"{many[0]!r} is no answer")
        return many[0]
    raise wrong(at, "expected rectanglelabels, choices, number or text")


def item_of(one: Mapping[str, Any]) -> str | None:
    """Return our id of a task, None where it has none."""
    for place, name in (("meta", "item"), ("data", ITEM)):
        inner = one.get(place)
        if isinstance(inner, Mapping) and isinstance(inner.get(name), str) and ID.fullmatch(inner[name]):
            return str(inner[name])
    found = one.get(ITEM)
    return found if isinstance(found, str) and ID.fullmatch(found) else None


def shows(one: Mapping[str, Any]) -> bool:
    """Say whether a task's reader counts as one who sees the model's answer: so unless the task denies it."""
    places = (("meta", "shown_suggestion"), ("data", SHOWN))
    said = [inner.get(name) for place, name in places if isinstance(inner := one.get(place), Mapping)]
    return any(word is True for word in said) or False not in [word for word in said if isinstance(word, bool)]


def _item(one: Mapping[str, Any], at: str) -> str:
    found = item_of(one)
    if found is not None:
        return found
    raise wrong(at, f"our id is missing: neither meta.item nor data.{ITEM}")


def _who(who: Any) -> str:
    """Return a reader's id, else their address: webhooks tell the id alone, and nobody may be two readers."""
    if isinstance(who, Mapping):
        who = who.get("id") or who.get("email")
    text = str(who) if isinstance(who, int | str) else ""
    return text if _NAME.fullmatch(text) else "unknown"


def _number(value: Mapping[str, Any], name: str, at: str) -> float:
    found = value.get(name)
    if not _is_finite(found):
        raise wrong(f"{at}.{name}", f"expected a finite number, got {str(found)[:40]}")
    return float(found)


def _is_finite(value: Any) -> TypeGuard[int | float]:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _list(value: Any, at: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(v, Mapping) for v in value):
        raise wrong(at, "expected a list of objects")
    return value


def _object(holder: Mapping[str, Any], name: str, at: str) -> Mapping[str, Any]:
    found = holder.get(name)
    if not isinstance(found, Mapping):
        raise wrong(f"{at}.{name}", "expected an object")
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)
