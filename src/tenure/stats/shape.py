"""After an alarm: did it come suddenly or gradually, and since when? "Too early to tell" is an answer.

A step (least squares, at least 3 panes on each side) is compared with a ramp (flat, line, flat; the line spans
at least 5 panes and may still be rising) by BIC. The onset interval of a step holds every change point whose
likelihood is within Yao's cut. Intervals are "about": they are not corrected for being computed after an alarm.

Sources: Yao 1987 (limit law of the change point); Bai, Perron 1998 (least squares breaks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Verdict = Literal["sudden", "gradual", "too early to tell"]

YAO_CUT = 7.35
"""2 (max - at t) of the log likelihood below which t stays in the 95 % interval: (1 - exp(-x/2))^2 = .95."""

BIC_GAP = 6.0
SIDE = 3
LINE = 5


@dataclass(frozen=True)
class Shape:
    """What a series looks like around its change; indices count panes from the series' start.

    Attributes:
        verdict: sudden, gradual or too early to tell.
        onset: first pane after the change, best guess; None without enough panes.
        earliest, latest: about 95 % interval of the onset.
        before, after: level before the change and at the end.
        gap: BIC of the ramp minus BIC of the step; positive speaks for a step.
    """

    verdict: Verdict
    onset: int | None
    earliest: int | None
    latest: int | None
    before: float
    after: float
    gap: float


def judge(series: npt.ArrayLike, *, deff: float = 1.0) -> Shape:
    """Say how a series of pane means changed.

    Args:
        series: (panes,) means in the metric's unit, oldest first, no NaN.
        deff: design effect of the pane means; log likelihoods are divided by it.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(1).normal(size=50)
        >>> judge(noise + 20 * (np.arange(50) >= 45)).verdict
        'sudden'
    """
    y = np.asarray(series, dtype=float)
    if len(y) < 4 * SIDE:
        level = float(y.mean()) if len(y) else float("nan")
        return Shape("too early to tell", None, None, None, level, level, 0.0)
    splits, step_rss = _steps(y)
    starts, ends, ramp_rss = _ramps(y)
    step_ll, ramp_ll = (_log_likelihood(rss, y, deff) for rss in (step_rss, ramp_rss))
    penalty = np.log(len(y))
    gap = float((4 * penalty - 2 * ramp_ll.max()) - (3 * penalty - 2 * step_ll.max()))
    best = int(splits[step_ll.argmax()])
    ramp = int(ramp_ll.argmax())
    verdict: Verdict = "sudden" if gap >= BIC_GAP else "gradual" if gap <= -BIC_GAP else "too early to tell"
    onsets = splits[2 * (step_ll.max() - step_ll) <= YAO_CUT]
    if verdict != "sudden":
        onsets = np.concatenate([onsets, starts[2 * (ramp_ll.max() - ramp_ll) <= YAO_CUT]])
    onset = int(starts[ramp]) if verdict == "gradual" else best
    until = min(int(ends[ramp]), len(y) - 1) if verdict == "gradual" else best
    before, after = float(y[:onset].mean()), float(y[until:].mean())
    return Shape(verdict, onset, int(onsets.min()), int(onsets.max()), before, after, gap)


def _steps(y: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Residual sum of squares of every step; `split` is the first pane after it."""
    n = len(y)
    splits = np.arange(SIDE, n - SIDE + 1)
    centred = y - y.mean()
    sums = np.concatenate([[0.0], np.cumsum(centred)])[splits]
    explained = sums**2 / splits + sums**2 / (n - splits)
    return splits, np.maximum(float(centred @ centred) - explained, 0.0)


def _ramps(y: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """Residual sum of squares of every ramp that starts to rise after `start` and is up at `end`.

    A line that has not ended by the last pane is the same ramp as one that ends there, so `end` is at most the
    last pane; what it would have reached is not identified.
    """
    n = len(y)
    starts, ends = np.meshgrid(np.arange(SIDE - 1, n - LINE), np.arange(SIDE - 1 + LINE, n), indexing="ij")
    keep = ends - starts >= LINE
    starts, ends = starts[keep], ends[keep]
    centred = y - y.mean()
    x = np.clip((np.arange(n) - starts[:, None]) / (ends - starts)[:, None], 0.0, 1.0)
    x -= x.mean(axis=1, keepdims=True)
    explained = (x @ centred) ** 2 / np.maximum((x * x).sum(axis=1), 1e-12)
    return starts, ends, np.maximum(float(centred @ centred) - explained, 0.0)


def _log_likelihood(rss: Floats, y: Floats, deff: float) -> Floats:
    """Gaussian with unknown variance; a perfect fit is held at the precision of the numbers."""
    floor = max(float(np.var(y)) * len(y), 1.0) * 1e-12
    return np.asarray(-len(y) / 2.0 * np.log(np.maximum(rss, floor)) / deff)
