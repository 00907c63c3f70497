"""Conditions on the fields of a record, as rules have them: parsed, never evaluated as code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Mapping[str, Any]], bool]

_PART = re.compile(
    r"""\s*(?P<field>[^\W\d]\w*)\s*(?P<sign><=|>=|==|!=|<|>)\s*(?P<value>"[^"]*"|'[^']*'|[^\s"'<>=!]+)\s*"""
)
_AND = re.compile(r"""\s+and\s+(?=(?:[^"']|"[^"]*"|'[^']*')*$)""")
"""`and` outside quotes."""

_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def condition(text: str) -> Test:
    """Return the test that a condition is: `field sign value`, several joined by `and`.

    Signs are < <= > >= == !=. A value is a number, true, false, or a text, in quotes where it holds a space. A
    comparison with a missing field, or of a text with a number, does not hold.

    Raises:
        ValueError: it is not understood.

    Example:
        >>> condition("amount > 1000 and country != de")({"amount": 2000.0, "country": "fr"})
        True
    """
    tests = [(m["field"], _SIGNS[m["sign"]], _value(m["value"])) for m in _read(text)]
    return lambda record: all(_holds(record.get(name), sign, value) for name, sign, value in tests)


def fields_of(text: str) -> tuple[str, ...]:
    """Return the fields that a condition names; raises ValueError as `condition`."""
    return tuple(m["field"] for m in _read(text))


def _read(text: str) -> list[re.Match[str]]:
    found = [_PART.fullmatch(part) for part in _AND.split(text)]
    if any(m is None for m in found):
        raise ValueError(f'expected such as amount > 1000 and country != "de", got {text!r}')
    return [m for m in found if m]


def _value(text: str) -> str | float | bool:
    if text[:1] in ("'", '"'):
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _holds(given: Any, sign: Callable[[Any, Any], bool], value: Any) -> bool:
    if given is None or isinstance(given, str) != isinstance(value, str):
        return False
    return sign(given, value)
