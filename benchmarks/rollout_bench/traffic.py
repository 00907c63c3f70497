"""Seeded traffic of one ramp: the same requests, draws and luck for every method, whatever shares it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SHARES = (0.01, 0.05, 0.10, 0.25, 0.50)
PER_STEP = 20_000
"""Requests of both versions that a step lasts, for every method."""

HORIZON = 150_000
"""Requests after which a ramp that has not ended counts as stuck; the plan needs 100,000."""

BASE = 0.01
UNITS = 20_000
FRAILTY = 0.1
"""Shape of the gamma that multiplies a unit's rate: variance 10, so that a few units fail much more often."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Traffic:
    """Requests of one ramp in order.

    Attributes:
        unit: number of the unit of each request; its own number where each request is drawn by itself.
        draw: uniform in [0, 1) per request; the candidate answers where it is below the share. One per unit
            where units stick.
        luck: uniform in [0, 1) per request, over the frailty of its unit: bad where it is below the rate.
        sticky: whether units are drawn once.
    """

    unit: npt.NDArray[Any]
    draw: Floats
    luck: Floats
    sticky: bool


def requests(seed: int) -> Traffic:
    """Return a ramp whose requests are drawn one by one and fail independently."""
    rng = np.random.default_rng(seed)
    return Traffic(np.arange(HORIZON), rng.random(HORIZON), rng.random(HORIZON), sticky=False)


def units(seed: int) -> Traffic:
    """Return a ramp of sticky units whose own rates differ: their failures come in clusters."""
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, UNITS, HORIZON)
    frail = rng.gamma(FRAILTY, 1.0 / FRAILTY, UNITS)
    with np.errstate(divide="ignore"):
        luck = rng.random(HORIZON) / np.maximum(frail, 1e-12)[unit]
    return Traffic(unit, rng.random(UNITS)[unit], luck, sticky=True)
