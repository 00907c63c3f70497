"""What a Label Studio project calls its parts: read from its labelling configuration (XML)."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec

from tenure.errors import CaseError
from tenure.scope.project import InputKind, Output

OBJECTS: dict[InputKind, tuple[str, ...]] = {
    "image": ("Image",),
    "audio": ("Audio", "AudioPlus"),
    "text": ("Text", "HyperText"),
    "record": ("Text", "HyperText"),
}
"""Tags that show an input; the first one is what our own configuration has."""

CONTROLS = {"label": "Choices", "number": "Number", "text": "TextArea", "boxes": "RectangleLabels"}
"""Tags that take an answer."""

MOST = 1 << 20
_DECLARES = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """Names of a project's parts; by default those of our own configuration.

    Attributes:
        data: key of the task's data that holds the input.
        to: the tag that shows it.
        label, number, text, boxes: the tags that take an answer.
    """

    data: str
    to: str = "input"
    label: str = "label"
    number: str = "number"
    text: str = "text"
    boxes: str = "boxes"


def needed(output: Output) -> tuple[str, ...]:
    """Return which answers an endpoint gives, as keys of `CONTROLS`."""
    first = "label" if output.labels else output.kind
    first = first if first in CONTROLS else "text"
    return (first, "boxes") if output.regions == "box" else (first,)


def read(config: str, kind: InputKind, output: Output) -> Interface:
    """Return the names in a labelling configuration that can show the endpoint's input and take its answers.

    Raises:
        CaseError: 422 `invalid_label_config` with the tag or label that is missing.
    """
    root = _parsed(config)
    shown = [tag for tag in root.iter() if tag.tag in OBJECTS[kind] and tag.get("name")]
    if not shown:
        raise wrong(f"it has no <{OBJECTS[kind][0]}> for the endpoint's {kind}")
    thing = shown[0]
    value = thing.get("value") or ""
    if not re.fullmatch(r"\$\w+", value):
        raise wrong(f"<{thing.tag}> needs a value such as ${kind}, not {value[:40]!r}")
    to = thing.get("name") or ""
    names = {}
    for answer in needed(output):
        tag = _control(root, CONTROLS[answer], to)
        names[answer] = tag.get("name") or ""
        if answer == "label":
            _holds(tag, output.labels)
    return Interface(data=value[1:], to=to, **names)


def wrong(what: str) -> CaseError:
    """Return the error of a configuration that does not fit the endpoint."""
    text = f"the labelling configuration does not fit the endpoint: {what}; `tenure export` writes one that does"
    return CaseError(text, code="invalid_label_config", at="label_config")


def _parsed(config: str) -> ElementTree.Element:
    """Parse without entities: a configuration needs none, and they can make a small text huge."""
    if len(config) > MOST or _DECLARES.search(config):
        raise wrong(f"it declares entities, or has more than {MOST} characters")
    try:
        return ElementTree.fromstring(config)
    except (ElementTree.ParseError, ValueError) as error:
        raise wrong(f"it is no XML ({error})"[:200]) from error


def _control(root: ElementTree.Element, name: str, to: str) -> ElementTree.Element:
    for tag in root.iter(name):
        if to in (tag.get("toName") or "").split(",") and tag.get("name"):
            return tag
    raise wrong(f"it has no <{name}> with toName={to[:40]!r}")


def _holds(choices: ElementTree.Element, labels: tuple[str, ...]) -> None:
    there = {tag.get(name) for tag in choices.iter("Choice") for name in ("value", "alias")}
    missing = [label for label in labels if label not in there]
    if missing:
        raise wrong(f"its <Choices> lacks {', '.join(missing)}")
