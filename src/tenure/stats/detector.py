"""Drift bets: how far a share may stray from its reference, and the evidence that it strayed further.

A *bet* watches one share, such as "photos darker than the reference's 10 % point". Its null is "the share is at
most `bound`", an upper confidence bound of the reference plus a tolerance, so that an estimated reference keeps
the promised rate. Evidence is an e-value per pane; an e-SR recursion turns it into a detector whose mean over
bets alarms at most once in `threshold` panes with data.

Sources: Shin, Ramdas, Rinaldo, "E-detectors" (2203.03532); Podkopaev, Ramdas (2110.06177) for the bound and the
tolerance. Everything is in logarithms; an e-value itself is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tenure.stats import special

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LAMBDAS: Floats = np.array([0.1, 0.3, 0.6, 0.9])
"""Sizes of the alternative that each bet mixes; from a slight shift to nearly everything."""

MIN_PANES = 20
"""Fewer panes do not show how strongly rows hang together, so such a reference is refused."""

REFERENCE_RISK = 0.01
"""Chance that some bound of a reference is too low, over all bets of the project."""


@dataclass(frozen=True)
class Bets:
    """What a reference allows to be watched; arrays have one entry per bet.

    Attributes:
        share: share in the reference.
        rows: rows of the reference.
        deff: design effect; rows count `1 / deff` each.
        bound: the null's largest share.
        armed: the bet could notice the shift in time.
        delay: rows until the shift is noticed, about; inf when never.
        needed: reference rows that would arm the bet; inf when no reference would.
    """

    share: Floats
    rows: Floats
    deff: Floats
    bound: Floats
    armed: Bools
    delay: Floats
    needed: Floats


@dataclass(frozen=True)
class Terms:
    """What a board promises and how fast it must be.

    Attributes:
        threshold: A, panes with data between false alarms.
        risk: chance that some bound is too low, already divided by the number of bets.
        bets: number of bets that share the board, armed or not.
        delay_rows: rows within which `shift` must be noticed.
        tolerance: share that may move without an alarm.
        shift: the shift that an armed bet must be able to notice.
    """

    threshold: float
    risk: float
    bets: int
    delay_rows: float
    tolerance: float = 0.02
    shift: float = 0.10

    @property
    def need(self) -> float:
        """Log evidence that one bet needs to carry the whole board over the threshold."""
        return float(np.log(self.threshold * self.bets * len(LAMBDAS)))


def clopper_pearson_upper(k: npt.ArrayLike, n: npt.ArrayLike, risk: float) -> Floats:
    """Return the upper bound of a share that is too low with chance `risk` at most; k and n may be fractions.

    Example:
        >>> round(float(clopper_pearson_upper(50, 500, 0.01 / 18)), 6)
        0.150771
    """
    k, n = np.broadcast_arrays(np.asarray(k, dtype=float), np.asarray(n, dtype=float))
    full = k >= n
    b = np.where(full, 1.0, n - k)
    return np.asarray(np.where(full, 1.0, special.betaincinv(k + 1.0, b, 1.0 - risk)))


def design_effect(hits: npt.ArrayLike, rows: npt.ArrayLike) -> Floats:
    """Return how many times noisier a share is than with independent rows, at least 1.

    Compares means over blocks of panes with the binomial variance; the division by the 10 % point of chi-square
    makes it an upper estimate, because few blocks tell little.

    Args:
        hits: (panes, ...) rows in the tail.
        rows: (panes, ...) all rows; each pane has some.
    """
    k, n = np.asarray(hits, dtype=float), np.asarray(rows, dtype=float)
    panes = len(k)
    length = max(1, int(min(panes / 10, np.sqrt(panes))))
    blocks = panes // length
    if blocks < 2:
        return np.ones(k.shape[1:])
    shape = (blocks, length, *k.shape[1:])
    block_k = k[: blocks * length].reshape(shape).sum(axis=1)
    block_n = n[: blocks * length].reshape((blocks, length, *n.shape[1:])).sum(axis=1)
    f = k.sum(axis=0) / np.maximum(n.sum(axis=0), 1.0)
    variance = np.var(block_k / np.maximum(block_n, 1.0), axis=0, ddof=1)
    binomial = f * (1.0 - f) / np.maximum(block_n.mean(axis=0), 1.0)
    ratio = np.divide(variance, binomial, out=np.zeros_like(variance), where=binomial > 0)
    low = special.chdtri(blocks - 1, 0.90)  # the point below which chi-square falls with chance 10 %
    return np.asarray(np.maximum(1.0, ratio * (blocks - 1) / low))


def divergence(p: npt.ArrayLike, q: npt.ArrayLike) -> Floats:
    """Return the binary Kullback-Leibler divergence kl(p, q) in nats."""
    p, q = np.asarray(p, dtype=float), np.asarray(q, dtype=float)
    return np.asarray(special.rel_entr(p, q) + special.rel_entr(1.0 - p, 1.0 - q))


def fit(hits: npt.ArrayLike, rows: npt.ArrayLike, terms: Terms) -> Bets:
    """Learn every bet's bound from the reference and say which bets are worth arming.

    Args:
        hits: (panes, bets) rows in the tail.
        rows: (panes, bets) rows that count for the bet.
        terms: the board's promise.
    """
    k, n = np.asarray(hits, dtype=float), np.asarray(rows, dtype=float)
    total_k, total_n = k.sum(axis=0), n.sum(axis=0)
    share = total_k / np.maximum(total_n, 1.0)
    deff = design_effect(k, n)
    bound = _bound(share, total_n / deff, terms)
    enough = len(k) >= MIN_PANES
    armed = enough & (total_n > 0) & _notices(share, bound, deff, terms)
    target = np.minimum(share + terms.shift, 1.0)
    gain = np.where(target > bound, divergence(target, bound), 0.0)
    delay = np.divide(deff * terms.need, gain, out=np.full_like(gain, np.inf), where=gain > 0)
    return Bets(share, total_n, deff, bound, armed, delay, _needed(share, deff, terms))


def log_e(hits: npt.ArrayLike, rows: npt.ArrayLike, bound: npt.ArrayLike, deff: npt.ArrayLike) -> Floats:
    """Return the log e-value of one pane per bet and lambda: shape (..., 4).

    Dividing by the design effect is exact for independent rows and an approximation, checked by simulation, for
    short memory.
    """
    c, n = np.asarray(hits, dtype=float)[..., None], np.asarray(rows, dtype=float)[..., None]
    m = np.asarray(bound, dtype=float)[..., None]
    q = m + LAMBDAS**2 / 2.0 * (1.0 - m)
    return np.asarray(log_bet(c, n, m, q) / np.asarray(deff, dtype=float)[..., None])


def log_bet(hits: npt.ArrayLike, rows: npt.ArrayLike, bound: npt.ArrayLike, bet: npt.ArrayLike) -> Floats:
    """Return c ln(q/m) + (n-c) ln((1-q)/(1-m)): the log e-value of independent rows."""
    c, n = np.asarray(hits, dtype=float), np.asarray(rows, dtype=float)
    m, q = np.asarray(bound, dtype=float), np.asarray(bet, dtype=float)
    return np.asarray(c * np.log(q / m) + (n - c) * np.log((1.0 - q) / (1.0 - m)))


def step(log_m: Floats, evidence: Floats, seen: npt.ArrayLike) -> Floats:
    """Return the e-SR values after one pane, M = (M + 1) e, in logs; a bet without rows holds its value.

    A pane without any data must not be stepped at all: an idle board would creep to its threshold by itself.
    """
    stepped = np.logaddexp(log_m, 0.0) + evidence
    return np.asarray(np.where(np.asarray(seen, dtype=bool)[..., None], stepped, log_m))


def start(bets: int) -> Floats:
    """Return the values of a detector that has seen nothing: log 0."""
    return np.full((bets, len(LAMBDAS)), -np.inf)


def board(log_m: Floats, armed: npt.ArrayLike) -> float:
    """Return the log of the plain mean over everything armed; -inf with nothing armed."""
    chosen = log_m[np.asarray(armed, dtype=bool)]
    if chosen.size == 0:
        return float("-inf")
    return float(special.logsumexp(chosen) - np.log(chosen.size))


def _bound(share: Floats, effective: Floats, terms: Terms) -> Floats:
    upper = clopper_pearson_upper(share * effective, effective, terms.risk)
    return np.minimum(upper + terms.tolerance, 1.0 - 1e-9)


def _notices(share: Floats, bound: Floats, deff: Floats, terms: Terms) -> Bools:
    target = np.minimum(share + terms.shift, 1.0)
    evidence = terms.delay_rows / deff * divergence(target, bound)
    return np.asarray((target > bound) & (evidence >= terms.need))


def _needed(share: Floats, deff: Floats, terms: Terms) -> Floats:
    """Bisect on the logarithm of the reference's rows; nothing is gained above 1e9 rows."""
    low, high = np.full_like(share, 0.0), np.full_like(share, np.log(1e9))
    possible = _notices(share, _bound(share, np.exp(high) / deff, terms), deff, terms)
    for _ in range(40):
        middle = (low + high) / 2.0
        ok = _notices(share, _bound(share, np.exp(middle) / deff, terms), deff, terms)
        low, high = np.where(ok, low, middle), np.where(ok, middle, high)
    return np.where(possible, np.ceil(np.exp(high)), np.inf)
