"""How verdicts name what they count, and how large an e-value is to a reader."""

from __future__ import annotations

import math

WORDS = {
    "wrong_decision": ("wrong decision", "wrong decisions", "judged requests"),
    "over_latency": ("late answer", "late answers", "requests"),
    "empty_output": ("empty answer", "empty answers", "requests"),
    "failed": ("failed answer", "failed answers", "requests"),
}
"""Gate -> one bad outcome, several, and among what they are counted."""


def words(gate: str) -> tuple[str, str, str]:
    """Return one bad outcome of a gate, several, and among what they are counted.

    Example:
        >>> words("reaction:redo")
        ('redo', 'redo reactions', 'requests')
    """
    if gate in WORDS:
        return WORDS[gate]
    name = gate.removeprefix("reaction:").replace("_", " ")
    return name, f"{name} reactions", "requests"


def amount(log_e: float) -> str:
    """Return an e-value in digits that a person can read.

    Example:
        >>> amount(math.log(24.3)), amount(-0.5), amount(99.0)
        ('24', '0.61', 'over a million')
    """
    if log_e > math.log(1e6):
        return "over a million"
    value = math.exp(log_e)
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
