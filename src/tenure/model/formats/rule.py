"""Rules on the fields of a record, and constants: baselines that need no model and no code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenure.errors import ModelError
from tenure.model.manifest import Confidence
from tenure.scope.condition import Test, condition
from tenure.types import Prediction, Value


@dataclass
class Rule:
    """The answer of the first case whose condition holds, else `otherwise`.

    Args:
        cases: each {"when": condition, "answer": value, "confidence": optional, in [0, 1]}.
        otherwise: the answer where no condition holds.
        confidence_otherwise: its confidence, None = it has none.

    A condition is `field sign value`, several joined by `and`, such as `amount > 1000 and country != "de"`; see
    `tenure.scope.condition`.
    """

    otherwise: Value
    cases: Sequence[dict[str, Any]] = ()
    confidence_otherwise: float | None = None
    confidence: Confidence = field(default="none", init=False)

    def load(self, files: Path) -> None:
        """Read the conditions; raises ModelError where one is not understood."""
        self._cases = [_case(each) for each in self.cases]
        self._otherwise = Prediction(self.otherwise, self.confidence_otherwise)
        stated = [answer.confidence for _, answer in self._cases] + [self.confidence_otherwise]
        self.confidence = "none" if all(value is None for value in stated) else "stated"

    def predict_one(self, item: Any) -> Prediction:
        """Answer one input; without cases it may be of any kind."""
        if self._cases and not isinstance(item, dict):
            raise ModelError("a rule needs records with fields", at="rule")
        return next((answer for holds, answer in self._cases if holds(item)), self._otherwise)


def _case(given: dict[str, Any]) -> tuple[Test, Prediction]:
    try:
        return condition(str(given["when"])), Prediction(given["answer"], given.get("confidence"))
    except KeyError as error:
        raise ModelError(f"a case needs `when` and `answer`, {error} is missing", at="cases") from error
    except ValueError as error:
        raise ModelError(str(error), at="when") from error
