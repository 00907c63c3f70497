"""Has the share of right answers in a sequence fallen? A test that may be looked at after every answer.

Universal inference (Wasserman, Ramdas & Balakrishnan 2020) for "the error rate is constant, whatever it is": the
numerator is a mixture over moments of change, one every 20 answers, with weights that sum to one. Up to a change
the answers are predicted by Krichevsky & Trofimov's mixture (1981), after it by a Beta mixture over rates above
the one seen until then. The denominator is the best constant rate in hindsight. The ratio is an e-process, so
that the chance of a false alarm, ever, is at most alpha (Ville 1939).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.stats import special

Floats = npt.NDArray[np.float64]
_EVERY = 20
_PRIOR = (1.0, 4.0)
"""Of the error rate of a reader who has fallen, before it is cut off below what they had."""


class Decline(msgspec.Struct, frozen=True, kw_only=True):
    """What the sequence says so far.

    Attributes:
        n: answers.
        wrong: wrong ones among them.
        log_e: largest log e-value so far.
        needed: log e-value from which on a fall is shown.
        fallen_at: number (from 1) of the answer at which it was shown, or None.
    """

    n: int
    wrong: int
    log_e: float
    needed: float
    fallen_at: int | None


def decline(right: Sequence[bool], *, alpha: float = 0.01) -> Decline:
    """Test whether the error rate has risen somewhere in the sequence.

    Independent answers with a constant error rate raise the alarm, ever, with a chance of at most `alpha`.

    Example:
        >>> decline([True] * 200).fallen_at is None
        True
        >>> decline([True] * 100 + [False] * 20).fallen_at
        104
    """
    errors = 1.0 - np.asarray(right, float)
    needed = -math.log(alpha)
    log_es = _log_es(errors) if errors.size else np.zeros(0)
    over = np.flatnonzero(log_es >= needed)
    return Decline(
        n=errors.size,
        wrong=int(errors.sum()),
        log_e=max(0.0, float(log_es.max())) if log_es.size else 0.0,
        needed=needed,
        fallen_at=int(over[0]) + 1 if over.size else None,
    )


def _log_es(errors: Floats) -> Floats:
    """Return (n,) log e-values after each answer; a change that is still to come predicts as none does."""
    n, k = np.arange(1.0, errors.size + 1.0), np.cumsum(errors)
    steady = special.betaln(k + 0.5, n - k + 0.5) - special.betaln(0.5, 0.5)
    changes = range(_EVERY, errors.size, _EVERY)
    parts = np.tile(steady, (len(changes) + 1, 1))
    for place, at in enumerate(changes):
        before = (k[at - 1] + 0.5) / (at + 1.0)
        m, j = n[at:] - at, k[at:] - k[at - 1]
        parts[place, at:] = steady[at - 1] + _above(m, j, before)
    weights = [1.0 / ((i + 1) * (i + 2)) for i in range(len(changes))] + [1.0 / (len(changes) + 1)]
    mixed = special.logsumexp(parts + np.log(weights)[:, None], axis=0)
    return np.asarray(mixed - special.xlogy(k, k / n) - special.xlogy(n - k, 1.0 - k / n), float)


def _above(n: Floats, k: Floats, rate: float) -> Floats:
    """Return the log probability of k errors in n, in their order, under the prior cut off below `rate`."""
    a, b = _PRIOR
    with np.errstate(divide="ignore"):  # a tail of 0 bets nothing, which is valid
        tail = np.log(special.betaincc(a + k, b + n - k, rate)) - np.log(special.betaincc(a, b, rate))
    return np.asarray(special.betaln(a + k, b + n - k) - special.betaln(a, b) + tail, float)
