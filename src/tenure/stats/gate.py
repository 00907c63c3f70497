"""Count-based gates of a canary: e-values of the ratio of bad outcomes, valid at every look.

A cell is a class of bad outcomes whose chance of having come from the candidate was known before the outcome.
Given that a bad outcome happened, a candidate with rate ratio r owns it with chance rho r / (rho r + 1 - rho);
the base rate cancels. Mixtures over a fixed grid of r are e-values (Ville's inequality; Howard et al. 2021;
Lindon & Malek). Everything is in natural logs; compare with `-log(alpha)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.seeds import generator
from tenure.stats import special

Floats = npt.NDArray[np.float64]

HARM: Floats = np.geomspace(1.02, 20.0, 64)
"""Rate ratios that a harmful candidate may have."""

_POWER = 0.9
_WORST = 50.0


class Cell(msgspec.Struct, frozen=True):
    """Bad outcomes with one known chance of the candidate.

    Attributes:
        rho: chance in [0, 1] that such an outcome's draw fell on the candidate.
        x1: bad outcomes of the candidate.
        x0: bad outcomes of the stable version.
    """

    rho: float
    x1: int
    x0: int


def harm_log_e(cells: Sequence[Cell]) -> float:
    """Return the log e-value against "the candidate is no worse"; roll back at `-log(alpha)`.

    Example:
        >>> round(math.exp(harm_log_e([Cell(0.05, 5, 3)])), 2)
        3037.84
    """
    return _mixture(cells, HARM, 1.0)


def shown_log_e(cells: Sequence[Cell], margin: float) -> float:
    """Return the log e-value against "the rate ratio is 1 + margin or more"; advance at `-log(delta)`.

    Assumes that under the null the ratio is at least 1 + margin in every cell; randomisation alone does not
    give that.

    Args:
        cells: counts so far.
        margin: tolerated relative increase, such as 0.5; above -0.9.
    """
    if margin <= -0.9:
        raise ValueError(f"margin is {margin}; it must be above -0.9")
    top = 1.0 + margin
    return _mixture(cells, np.geomspace(0.05, top / 1.02, 64), top)


def missing_log_e(cells: Sequence[Cell]) -> float:
    """Return the two-sided log e-value against "labels go missing alike in both arms"."""
    return _mixture(cells, np.concatenate([HARM, 1.0 / HARM]), 1.0)


def family_log_e(log_es: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return the log of the weighted average of e-values; valid under any dependence.

    Args:
        log_es: one per gate.
        weights: positive, summing to 1; equal by default.
    """
    if not log_es:
        return 0.0
    shares = np.full(len(log_es), 1.0 / len(log_es)) if weights is None else np.asarray(weights, float)
    if len(shares) != len(log_es) or (shares < 0).any() or abs(shares.sum() - 1.0) > 1e-9:
        raise ValueError(f"weights must be {len(log_es)} numbers >= 0 that sum to 1, not {list(shares)}")
    return float(special.logsumexp(np.asarray(log_es, float), b=shares))


def events_needed(share: float, alpha: float) -> int:
    """Return how many bad outcomes, all of the candidate, reach 1/alpha at this share.

    Example:
        >>> events_needed(0.05, 0.01), events_needed(0.5, 0.05)
        (3, 6)
    """
    if not (0.0 < share < 1.0 and 0.0 < alpha < 1.0):
        raise ValueError(f"share {share} and alpha {alpha} must lie between 0 and 1")
    low, high = 0, 1
    while harm_log_e([Cell(share, high, 0)]) < -math.log(alpha):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if harm_log_e([Cell(share, middle, 0)]) < -math.log(alpha):
            low = middle
        else:
            high = middle
    return high


def noticeable_ratio(cells: Sequence[Cell], *, alpha: float, draws: int = 400, seed: int = 0) -> float | None:
    """Return the smallest rate ratio that the gate would have noticed nine times of ten, or None above 50.

    The stable version's counts give the base rate: at ratio R the candidate's count is Poisson with mean
    R x0 rho / (1 - rho). Found by bisection over simulated counts; the same draws are used at every R.
    """
    used = [c for c in cells if 0.0 < c.rho < 1.0 and c.x0 > 0]
    if not used:
        return None
    rho = np.array([c.rho for c in used])
    base = np.array([float(c.x0) for c in used])
    rng = generator(seed)
    control = rng.poisson(base, (draws, len(used))).astype(float)
    uniform = rng.random((draws, len(used)))

    def power(ratio: float) -> float:
        hits = np.maximum(np.ceil(special.pdtrik(uniform, ratio * base * rho / (1.0 - rho))), 0.0)
        return float((_log_e(rho, hits, control, HARM, 1.0) >= -math.log(alpha)).mean())

    return _bisect(power)


def conditional_share(current: float, last_control: float | None) -> float:
    """Return the candidate's chance for a unit whose earlier contribution showed it in the stable arm.

    Args:
        current: share of the candidate now.
        last_control: share at the step of that contribution; None if the unit never contributed.
    """
    if last_control is None:
        return current
    if not 0.0 <= last_control <= current <= 1.0 or last_control == 1.0:
        raise ValueError(f"shares never shrink inside one salt: {last_control} then {current}")
    return (current - last_control) / (1.0 - last_control)


def _mixture(cells: Sequence[Cell], ratios: Floats, null: float) -> float:
    for cell in cells:
        if not 0.0 <= cell.rho <= 1.0 or cell.x1 < 0 or cell.x0 < 0:
            raise ValueError(f"not a cell of counts: {cell}")
    rho = np.array([c.rho for c in cells], float)
    x1 = np.array([c.x1 for c in cells], float)
    x0 = np.array([c.x0 for c in cells], float)
    return float(_log_e(rho, x1, x0, ratios, null))


def _log_e(rho: Floats, x1: Floats, x0: Floats, ratios: Floats, null: float) -> Floats:
    """Return log mean_r L(r) / L(null); `x1` and `x0` end in the axis of `rho` (cells)."""
    odds = np.log(ratios / null)
    mix = np.log((np.outer(ratios, rho) + 1.0 - rho) / (null * rho + 1.0 - rho))
    log_l = x1.sum(-1)[..., None] * odds - (x1 + x0) @ mix.T
    return np.asarray(special.logsumexp(log_l, axis=-1) - math.log(len(ratios)))


def _bisect(power: Callable[[float], float]) -> float | None:
    if power(_WORST) < _POWER:
        return None
    low, high = 0.0, math.log(_WORST)
    while high - low > 0.01:
        middle = (low + high) / 2.0
        if power(math.exp(middle)) < _POWER:
            low = middle
        else:
            high = middle
    return math.exp(high)
