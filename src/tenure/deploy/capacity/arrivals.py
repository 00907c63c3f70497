"""When requests come: drawn before the first is sent, so that no answer can delay a question."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from tenure.seeds import generator

Pattern = Literal["poisson", "constant"]
RAMP_FROM = 0.1
"""A ramp begins at this share of its rate."""
MOST = 5_000_000
"""No test sends more requests than this."""


def arrivals(
    rate: float, seconds: float, *, pattern: Pattern = "poisson", seed: int = 0, ramp: bool = False
) -> npt.NDArray[np.float64]:
    """Return the times, in seconds from the start and in order, at which requests are to be sent.

    Their number is `rate * seconds`, rounded, so that the rate is the one asked for. `poisson` draws a Poisson
    process given that number: callers that do not know of each other. `constant` spaces them evenly, as one
    machine would. With `ramp` the rate climbs evenly from a tenth of `rate` to `rate`.

    Args:
        rate: requests a second, above 0.
        seconds: length, above 0.
        pattern: how they are spread.
        seed: of the draw.
        ramp: whether the rate climbs.

    Raises:
        ValueError: more than `MOST` requests, or none.
    """
    area = rate * seconds * ((1 + RAMP_FROM) / 2 if ramp else 1.0)
    if not 0.5 <= area <= MOST:
        raise ValueError(f"a test sends 1 to {MOST} requests, not {area:.0f}; change the rate or the time")
    count = round(area)
    if pattern == "poisson":
        spots = np.sort(generator(seed).random(count))
    else:
        spots = (np.arange(count) + 0.5) / count
    return _climbing(spots, seconds) if ramp else spots * seconds


def rate_at(rate: float, share: float, *, ramp: bool) -> float:
    """Return the rate after this share of the time."""
    return rate * (RAMP_FROM + (1 - RAMP_FROM) * share) if ramp else rate


def _climbing(spots: npt.NDArray[np.float64], seconds: float) -> npt.NDArray[np.float64]:
    """Return the times at which these shares of all requests of a ramp have come: its integral, inverted."""
    slope, total = (1 - RAMP_FROM) / 2, (1 + RAMP_FROM) / 2
    return seconds * (np.sqrt(RAMP_FROM**2 + 4 * slope * total * spots) - RAMP_FROM) / (2 * slope)
