"""Rules on the fields of a record, and constants: baselines that need no model and no code."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenure.errors import ModelError
from tenure.model.manifest import Confidence
from tenure.types import Prediction, Record, Value

_PART = re.compile(
    r"""\s*(?P<field>[^\W\d]\w*)\s*(?P<sign><=|>=|==|!=|<|>)\s*(?P<value>"[^"]*"|'[^']*'|[^\s"'<>=!]+)\s*"""
)
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@dataclass
class Rule:
    """The answer of the first case whose condition holds, else `otherwise`.

    Args:
        cases: each {"when": condition, "answer": value, "confidence": optional, in [0, 1]}.
        otherwise: the answer where no condition holds.
        confidence_otherwise: its confidence, None = it has none.

    A condition is `field sign value`, several joined by `and`: `amount > 1000 and country != "de"`. Signs are
    < <= > >= == !=. A value is a number, true, false, or a text, in quotes where it holds a space. A comparison
    with a missing field, or of a text with a number, does not hold.
    """

    otherwise: Value
    cases: Sequence[dict[str, Any]] = ()
    confidence_otherwise: float | None = None
    confidence: Confidence = field(default="none", init=False)

    def load(self, files: Path) -> None:
        """Read the conditions; raises ModelError where one is not understood."""
        self._cases = [
            (condition(str(c["when"])), Prediction(c["answer"], c.get("confidence"))) for c in self.cases
        ]
        self._otherwise = Prediction(self.otherwise, self.confidence_otherwise)
        stated = [answer.confidence for _, answer in self._cases] + [self.confidence_otherwise]
        self.confidence = "none" if all(value is None for value in stated) else "stated"

    def predict_one(self, item: Any) -> Prediction:
        """Answer one input; without cases it may be of any kind."""
        if self._cases and not isinstance(item, dict):
            raise ModelError("a rule needs records with fields", at="rule")
        return next((answer for holds, answer in self._cases if holds(item)), self._otherwise)


def condition(text: str) -> Callable[[Record], bool]:
    """Return the test that a condition is.

    Raises:
        ModelError: it is not understood.

    Example:
        >>> condition("amount > 1000 and country != de")({"amount": 2000.0, "country": "fr"})
        True
    """
    found = [_PART.fullmatch(part) for part in _parts(text)]
    if not found or not all(found):
        raise ModelError(
            f'the condition {text!r} is not understood; expected such as: amount > 1000 and country != "de"',
            at="when",
        )
    tests = [(m["field"], _SIGNS[m["sign"]], _value(m["value"])) for m in found if m]
    return lambda record: all(_holds(record.get(name), sign, value) for name, sign, value in tests)


def _parts(text: str) -> list[str]:
    """Split at `and`, but not inside quotes."""
    return [part for part in re.split(r"""\s+and\s+(?=(?:[^"']|"[^"]*"|'[^']*')*$)""", text) if part.strip()]


def _value(text: str) -> Value:
    if text[:1] in "\"'":
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
