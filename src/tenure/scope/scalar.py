"""Read one scalar of a YAML file by its text and its form."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable
from typing import Any

import msgspec
import yaml

from tenure.scope.later import NOT_YET
from tenure.scope.shape import Form
from tenure.scope.units import parse

TAG = "tag:yaml.org,2002:"


def scalar(node: yaml.ScalarNode, form: Form) -> Any:
    """Return the value of a scalar node.

    Raises:
        ValueError: not what the form asks for.
    """
    text, tag = node.value, node.tag.removeprefix(TAG)
    if form.kind == "quantity":
        return _bounded(parse(form.unit, text), form, text)
    if form.kind == "switch":
        return _switch(node)
    if form.kind == "scalar" and tag in ("int", "float"):
        return int(text) if tag == "int" and text.isdecimal() else parse(form.unit, text)
    if form.kind == "scalar" and text in ("true", "false") and not node.style:
        return text == "true"
    if tag != "str":
        raise ValueError(f'{text} reads as {READS.get(tag, tag)} in YAML; for the word write "{text}" in quotes')
    if form.kind == "choice" and text not in form.choices:
        near = difflib.get_close_matches(text, form.choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"expected {expected(form)}, got {text}{NOT_YET.get((form.choices, text), hint)}")
    return text


def expected(form: Form) -> str:
    """Return what belongs at a place, in words."""
    if form.kind == "choice":
        return f"one of {', '.join(form.choices)}"
    if form.kind == "quantity":
        return form.unit.value
    return _EXPECTED[form.kind]


_EXPECTED = {
    "section": "a section with keys",
    "map": "names with a value each",
    "list": "a list such as [a, b]",
    "text": "a text",
    "switch": "true or false",
    "scalar": "a text, a number, true or false",
}
READS = {
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
    "null": "nothing",
    "timestamp": "a date",
    "merge": "a merge key",
    "value": "a special sign",
}


def _switch(node: yaml.ScalarNode) -> bool:
    if node.value in ("true", "false") and not node.style:
        return bool(node.value == "true")
    raise ValueError(f"expected true or false, got {node.value}")


def _bounded(value: float, form: Form, text: str) -> float:
    meta = form.meta or msgspec.Meta()
    limits: list[tuple[str, float | None, Callable[[float, float], bool]]] = [
        ("more than", meta.gt, operator.gt),
        ("at least", meta.ge, operator.ge),
        ("less than", meta.lt, operator.lt),
        ("at most", meta.le, operator.le),
    ]
    for words, limit, holds in limits:
        if limit is not None and not holds(value, limit):
            raise ValueError(f"expected {form.unit.value}, {words} {limit}, got {text}")
    return value
