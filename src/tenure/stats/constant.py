"""A rate against a constant, watched at every look: nothing is randomised, so the constant has to be right.

Likelihood ratios of independent trials whose chance of a bad outcome is, under the null, on one side of a
constant; mixtures over a fixed grid of ratios are e-values (Ville's inequality). In natural logs.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tenure.stats import special

Floats = npt.NDArray[np.float64]


def above_log_e(bad: int, trials: int, constant: float) -> float:
    """Return the log e-value against "each trial is bad with a chance of at most `constant`".

    Args:
        bad: bad outcomes so far.
        trials: all outcomes so far; they count in an order that was fixed before they were known.
        constant: in (0, 1).

    Example:
        >>> above_log_e(0, 0, 0.02), round(above_log_e(10, 100, 0.02), 2)
        (0.0, 7.05)
    """
    top = min(20.0, 0.99 / constant)
    return _mixture(bad, trials, constant, np.geomspace(1.02, max(top, 1.03), 64))


def below_log_e(bad: int, trials: int, constant: float) -> float:
    """Return the log e-value against "each trial is bad with a chance of at least `constant`"."""
    return _mixture(bad, trials, constant, np.geomspace(0.05, 1.0 / 1.02, 64))


def _mixture(bad: int, trials: int, constant: float, ratios: Floats) -> float:
    if not 0.0 < constant < 1.0 or not 0 <= bad <= trials:
        raise ValueError(f"need 0 < constant < 1 and 0 <= bad <= trials, not {constant}, {bad}, {trials}")
    rates = np.minimum(ratios * constant, 1.0 - 1e-9)
    logs = bad * np.log(rates / constant) + (trials - bad) * np.log((1.0 - rates) / (1.0 - constant))
    return float(special.logsumexp(logs) - math.log(len(ratios)))
