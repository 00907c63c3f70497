"""Typed scalars of the project file: how durations, sizes, shares, rates and numbers are spelled.

Each parser raises ValueError with what was expected, what it got and, where a unit is missing, that it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import Enum

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_TO_DAYS = {unit: seconds for unit, seconds in SECONDS.items() if unit != "w"}  # 30d, not 4.28w; 7d, not 1w
BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}

NUMBER = r"[-+]?(?:[0-9]{1,15}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2})?"
POSITIVE = r"[0-9]{1,15}(?:\.[0-9]+)?"
DURATION = rf"{POSITIVE} ?(?:{'|'.join(SECONDS)})"
SIZE = rf"{POSITIVE} ?(?:{'|'.join(BYTES)})"
PERCENT = rf"{POSITIVE} ?%"
RATE = rf"{POSITIVE} per {DURATION}"
WORDS = {"all": 1.0, "none": 0.0}


class Unit(Enum):
    """What a number of the project file counts; the value is what an error says was expected."""

    DURATION = "a duration such as 250ms, 30s, 10m, 24h or 7d"
    SIZE = "a size such as 500kB, 8MB or 20GiB"
    SHARE = "a share such as 5% or 0.05, from 0 to 1"
    RATE = 'a rate such as "1 per 30d"'
    AMOUNT = "a number or a percentage, such as 0.91 or 2%"
    NUMBER = "a number"
    COUNT = "a whole number, 0 or more"


def duration(text: str) -> float:
    """Return seconds for `250ms`, `30s`, `10m`, `24h`, `7d`, `2w`, or `0`."""
    if text == "0":
        return 0.0
    return _scaled(text, Unit.DURATION, SECONDS)


def size(text: str) -> int:
    """Return bytes for `8MB` (10^6) or `8MiB` (2^20)."""
    return round(_scaled(text, Unit.SIZE, BYTES))


def share(text: str) -> float:
    """Return a number in [0, 1] for `5%`, `0.05`, `all` or `none`."""
    if text in WORDS:
        return WORDS[text]
    value = _percent_or_number(text, Unit.SHARE)
    if not 0.0 <= value <= 1.0:
        hint = f"; write {text}% if percent is meant" if 1.0 < value <= 100.0 and "%" not in text else ""
        raise ValueError(f"expected {Unit.SHARE.value}, got {text}{hint}")
    return value


def rate(text: str) -> float:
    """Return the seconds between two events for `1 per 30d`."""
    times, _, every = text.partition(" per ")
    if not re.fullmatch(RATE, text) or float(times) == 0.0:
        raise ValueError(f"expected {Unit.RATE.value}, got {text}")
    return duration(every) / float(times)


def amount(text: str) -> float:
    """Return a number; `2%` is 0.02."""
    return _percent_or_number(text, Unit.AMOUNT)


def number(text: str) -> float:
    """Return a finite number; no underscores, no base 8 or 60 as YAML 1.1 would read them."""
    return _number(text, Unit.NUMBER)


def count(text: str) -> int:
    """Return a whole number, 0 or more."""
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError(f"expected {Unit.COUNT.value}, got {text}")
    return int(text)


PARSERS: dict[Unit, Callable[[str], float]] = {
    Unit.DURATION: duration,
    Unit.SIZE: size,
    Unit.SHARE: share,
    Unit.RATE: rate,
    Unit.AMOUNT: amount,
    Unit.NUMBER: number,
    Unit.COUNT: count,
}


def parse(unit: Unit, text: str) -> float:
    """Return the value of `text`.

    Raises:
        ValueError: not spelled as the unit asks.
    """
    return PARSERS[unit](text)


def spell(unit: Unit, value: float) -> str:
    """Return a text that `parse` reads back to `value`, in the largest unit that divides it."""
    if unit is Unit.DURATION:
        return _largest(value, _TO_DAYS) if value else "0"
    if unit is Unit.SIZE:
        binary = {name: BYTES[name] for name in ("B", "KiB", "MiB", "GiB", "TiB")}
        return _largest(value, binary)
    if unit is Unit.SHARE:
        return f"{value * 100:.12f}".rstrip("0").rstrip(".") + "%"
    if unit is Unit.RATE:
        return f"1 per {_largest(value, _TO_DAYS)}"
    return f"{value:.15g}"


def _largest(value: float, scale: dict[str, float] | dict[str, int]) -> str:
    for name, factor in reversed(scale.items()):
        times = value / factor
        if times >= 1 and math.isclose(times, round(times), rel_tol=1e-12):
            return f"{round(times)}{name}"
    name, factor = next(iter(scale.items()))
    return f"{value / factor:.15g}{name}"


def _scaled(text: str, unit: Unit, scale: dict[str, float] | dict[str, int]) -> float:
    found = re.fullmatch(rf"({POSITIVE}) ?({'|'.join(scale)})", text)
    if found is None:
        missing = ": say the unit" if re.fullmatch(POSITIVE, text) else ""
        raise ValueError(f"expected {unit.value}, got {text}{missing}")
    return float(found[1]) * scale[found[2]]


def _percent_or_number(text: str, unit: Unit) -> float:
    if re.fullmatch(PERCENT, text):
        return float(text.rstrip("% ")) / 100.0
    return _number(text, unit)


def _number(text: str, unit: Unit) -> float:
    if not re.fullmatch(NUMBER, text):
        raise ValueError(f"expected {unit.value}, got {text}")
    return float(text)
