"""Sample-ratio mismatch: whether each version gets the share of units that routing promises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tenure.stats import special


def mismatch_log_e(shares: Sequence[float], counts: Sequence[int], k: float = 200.0) -> float:
    """Return the log e-value against "units fall on versions with these shares" for one step.

    Count every unit once, at its first logged request since the salt began. Steps with fresh units multiply: add
    their logs. Hold at log(1000). Dirichlet-multinomial mixture (Lindon & Malek 2022).

    Args:
        shares: chance of each version, summing to 1.
        counts: units first seen on each version in this step.
        k: concentration of the alternative around `shares`.

    Example:
        >>> round(mismatch_log_e((0.1, 0.9), (150, 850)), 3)
        9.338
    """
    p, n = np.asarray(shares, float), np.asarray(counts, float)
    if p.shape != n.shape or (p < 0).any() or (n < 0).any() or abs(p.sum() - 1.0) > 1e-6:
        raise ValueError(f"shares {list(shares)} must sum to 1 and match counts {list(counts)}")
    if (n[p == 0] > 0).any():
        return float("inf")
    n, p = n[p > 0], p[p > 0]
    return float(_log_beta(k * p + n) - _log_beta(k * p) - (n * np.log(p)).sum())


def _log_beta(a: npt.NDArray[np.float64]) -> float:
    return float(special.gammaln(a).sum() - special.gammaln(a.sum()))
