"""One error budget: the evidence for a version's answers of one label, from the grid to the certificate.

Pure: counts and labels in, counts out. A lineage spends its delta once, however often it is looked at.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.deploy import loss
from tenure.deploy.automation import rereads
from tenure.deploy.automation.items import Label, Sample
from tenure.deploy.automation.rereads import Rereads
from tenure.scope.project import LossSpec
from tenure.stats import certificate, interval

Floats = npt.NDArray[np.float64]

MAX_MISSING = 0.05
"""Nothing is issued when a larger share of the labels is missing."""

MIN_SIDE = 50
"""Scores of the side itself before its grid is fixed: one per threshold."""


class Grid(msgspec.Struct, frozen=True):
    """What is fixed before the first label: thresholds, safest first, and where the fallback procedure starts."""

    thresholds: tuple[float, ...]
    starts: tuple[int, ...] | None = None


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """Labels of one loss and one ratio of chances: how many at or above each threshold."""

    loss: float
    n: tuple[int, ...]
    ratio: float = 1.0


class Counts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The column `lineages.counts`.

    Attributes:
        since: newest item when the lineage was opened.
        renewal: the lineage renews one threshold from audits.
        pilot: unlabelled scores of this side, until the grid is fixed.
        seen: pilot items of any answer.
        n: labels at or above each threshold.
        k: those that were wrong or missing.
        log_e: largest log e-value so far, per threshold.
        missing: labels that never came.
        single: labels that rest on one reader.
        single_wrong: disagreements that rest on one reader.
        loss: what counts as wrong; fixed when the lineage is opened.
        population: which cases count, in words; empty = all. Fixed when the lineage is opened.
        cells: where losses between 0 and 1 or unequal chances occur, counts by both; `k` counts losses above 0.
        wrong: draw numbers of the labels with a loss, for whoever counts again.
        gaps: draw numbers of the labels that never came.
        digest: chained hash of all counted labels in order; None in counts older than it.
        starts: thresholds where the fallback procedure starts; None in counts older than it: four, evenly spaced.
        weighted: all blind labels count, by one over their chances; fixed when the lineage is opened.
        rereads: evidence about agreements, where the claim is against adjudicated truth; the other evidence is
            then about what is left of the bound, and each spends half of delta.
    """

    since: int = 0
    renewal: bool = False
    pilot: tuple[float, ...] = ()
    seen: int = 0
    n: tuple[int, ...] = ()
    k: tuple[int, ...] = ()
    log_e: tuple[float, ...] = ()
    missing: int = 0
    single: int = 0
    single_wrong: int = 0
    loss: LossSpec = loss.EQUAL
    population: str = ""
    cells: tuple[Cell, ...] = ()
    wrong: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()
    digest: str | None = None
    starts: tuple[int, ...] | None = None
    weighted: bool = False
    rereads: Rereads | None = None

    @property
    def labels(self) -> int:
        """All labels counted; the last threshold is the boldest."""
        return self.n[-1] if self.n else 0

    @property
    def missing_share(self) -> float:
        return self.missing / self.labels if self.labels else 0.0

    @property
    def reference(self) -> str:
        """What the claim is measured against."""
        return "one blind reader" if self.single and self.rereads is None else "adjudicated"


class Forecast(msgspec.Struct, frozen=True):
    """How many more labels would certify at the present error rate, and what share that would automate."""

    labels: int
    share: float


def start(
    grid: Sequence[float],
    *,
    since: int,
    starts: Sequence[int] | None = None,
    renewal: bool = False,
    by: LossSpec = loss.EQUAL,
    population: str = "",
    weighted: bool = False,
    again: Rereads | None = None,
) -> Counts:
    """Return empty counts on a fixed grid; `starts`, `population` and `weighted` as in `Counts`.

    `again` holds bound and share of the agreements that are read again.
    """
    zero, log_e = (0,) * len(grid), (0.0,) * len(grid)
    fixed = None if starts is None else tuple(starts)
    return Counts(
        since=since, renewal=renewal, n=zero, k=zero, log_e=log_e, loss=by, digest="", starts=fixed,
        population=population, weighted=weighted,
        rereads=None if again is None else rereads.start(again, len(grid)),
    )  # fmt: skip


def pilot(counts: Counts, scores: Sequence[float], seen: int) -> Counts:
    """Return the counts with more unlabelled scores of this side."""
    return msgspec.structs.replace(counts, pilot=(*counts.pilot, *scores), seen=counts.seen + seen)


def grid_of(counts: Counts, *, bound: float, delta: float, wanted: int, planned: int) -> Grid | None:
    """Return the grid once there are enough unlabelled scores, else None."""
    if counts.seen < wanted or len(counts.pilot) < MIN_SIDE:
        return None
    own = max(1, round(planned * len(counts.pilot) / counts.seen))
    starts = certificate.planned_starts(own, bound=bound, delta=delta)
    cuts = certificate.make_grid(counts.pilot, bound=bound, delta=delta, planned=own, starts=starts)
    return Grid(tuple(cuts), certificate.geometric_starts(cuts, counts.pilot, starts))


def advance(counts: Counts, grid: Sequence[float], bound: float, labels: Sequence[Label]) -> Counts:
    """Return the counts after more labels, in order; a missing one counts as an error."""
    labels = [x for x in labels if x.ratio < math.inf]  # others come from a time when some had no chance
    if not labels:
        return counts
    bound = left(counts, bound)
    above = np.array([x.score for x in labels])[:, None] >= np.asarray(grid)[None, :]
    bad = np.array([x.wrong is not False for x in labels])[:, None]
    n = np.asarray(counts.n) + above.cumsum(axis=0)
    k = np.asarray(counts.k) + (above & bad).cumsum(axis=0)
    cells = counts.cells
    if betting(counts):
        log_e = _bets(counts, above, labels, bound)
        cells = _cells(counts, above, labels)
    else:
        log_e = certificate.certify_log_es(n.astype(float), k.astype(float), bound)
    best = np.maximum(np.asarray(counts.log_e), log_e.max(axis=0))
    return msgspec.structs.replace(
        counts,
        n=tuple(int(v) for v in n[-1]),
        k=tuple(int(v) for v in k[-1]),
        log_e=tuple(float(v) for v in best),
        missing=counts.missing + sum(x.wrong is None for x in labels),
        single=counts.single + sum(x.single and x.wrong is not None for x in labels),
        single_wrong=counts.single_wrong + sum(x.single and x.wrong is True for x in labels),
        cells=cells,
        wrong=(*counts.wrong, *(x.number for x in labels if x.wrong)),
        gaps=(*counts.gaps, *(x.number for x in labels if x.loss is None)),
        rereads=_rereads(counts, grid, labels),
        digest=None if counts.digest is None else _chained(counts.digest, labels, weighted=counts.weighted),
    )


def left(counts: Counts, bound: float) -> float:
    """Return what is left of the bound for errors that are found, beside those among agreements."""
    return bound - counts.rereads.bound if counts.rereads else bound


def _rereads(counts: Counts, grid: Sequence[float], labels: Sequence[Label]) -> Rereads | None:
    if counts.rereads is None:
        return None
    found = [(x.number, x.score, x.reread) for x in labels if x.reread is not None]
    return rereads.advance(counts.rereads, grid, found)


def betting(counts: Counts) -> bool:
    """Say whether the evidence is the wealth of bets: for graded losses and for unequal chances."""
    return counts.weighted or loss.bounded(counts.loss)


def _chained(digest: str, labels: Sequence[Label], *, weighted: bool) -> str:
    for x in labels:
        told = None if x.loss is None else float(x.loss)
        text = f"{digest}|{x.number}|{float(x.score)!r}|{told!r}|{int(x.single)}"
        text += f"|{x.ratio!r}" if weighted else ""
        digest = hashlib.sha256(text.encode()).hexdigest()
    return digest


def mean_loss(counts: Counts, j: int) -> float:
    """Return the mean loss at or above threshold `j`, weighted by one over the chances; 0 without labels."""
    if not counts.n or not counts.n[j]:
        return 0.0
    if not betting(counts):
        return counts.k[j] / counts.n[j]
    return math.fsum(cell.loss * cell.n[j] / cell.ratio for cell in counts.cells) / cases(counts, j)


def cases(counts: Counts, j: int) -> float:
    """Return the weights of the labels at or above threshold `j`: 1 for the least likely of their time."""
    if not counts.weighted:
        return counts.n[j]
    return math.fsum(cell.n[j] / cell.ratio for cell in counts.cells)


def share(counts: Counts, j: int) -> float:
    """Return the estimated share of this side's cases at or above threshold `j`; 0 without labels."""
    return cases(counts, j) / cases(counts, -1) if counts.labels else 0.0


def _losses(labels: Sequence[Label]) -> Floats:
    """Return the losses; a missing label is the worst mistake."""
    return np.array([1.0 if x.loss is None else x.loss for x in labels])


def _bets(counts: Counts, above: npt.NDArray[np.bool_], labels: Sequence[Label], bound: float) -> Floats:
    """Return log E after each label (rows) at each threshold (columns)."""
    losses = _losses(labels)
    steps = certificate.betting_steps(losses, np.array([x.ratio for x in labels]), bound)
    start = _wealth(counts, bound)
    return certificate.mixed(start[None] + (above[:, :, None] * steps[:, None, :]).cumsum(axis=0))


def _wealth(counts: Counts, bound: float) -> Floats:
    """Return the log wealth of each bet (columns) at each threshold (rows)."""
    losses, drawn = np.array([c.loss for c in counts.cells]), np.array([c.ratio for c in counts.cells])
    held = np.array([c.n for c in counts.cells], float).reshape(len(losses), len(counts.n))
    return held.T @ certificate.betting_steps(losses, drawn, bound)


def _cells(counts: Counts, above: npt.NDArray[np.bool_], labels: Sequence[Label]) -> tuple[Cell, ...]:
    losses, drawn = _losses(labels), np.array([x.ratio for x in labels])
    found = {(cell.loss, cell.ratio): np.array(cell.n) for cell in counts.cells}
    for value, ratio in sorted(set(zip(losses.tolist(), drawn.tolist(), strict=True))):
        more = above[(losses == value) & (drawn == ratio)].sum(axis=0)
        found[value, ratio] = found.get((value, ratio), 0) + more
    return tuple(Cell(v, tuple(int(x) for x in n), c) for (v, c), n in sorted(found.items()))


def valid(counts: Counts, delta: float) -> list[int]:
    """Return the certified thresholds' indices; empty when too many labels are missing."""
    if not counts.n or counts.missing_share > MAX_MISSING:
        return []
    starts = starts_of(counts)
    if counts.rereads is None:
        return certificate.valid_set(np.exp(-np.asarray(counts.log_e)), delta, starts)
    both = (counts.log_e, counts.rereads.log_e)
    found, again = (certificate.valid_set(np.exp(-np.asarray(e)), delta / 2, starts) for e in both)
    return [j for j in found if j in again]


def forecast(counts: Counts, *, bound: float, delta: float) -> Forecast | None:
    """Return the cheapest way to a certificate at the present error rates, or None when there is none."""
    size, starts, best = len(counts.n), starts_of(counts), None
    bound, delta = left(counts, bound), delta if counts.rereads is None else delta / 2
    for j in sorted(set(starts)):
        n = counts.n[j]
        part = n / counts.labels if n else (j + 1) / size
        if counts.weighted:
            missing = _missing_bets(counts, j, bound, math.log(len(starts) / delta))
        else:
            need = certificate.labels_needed(bound, delta, mean_loss(counts, j), starts=len(starts))
            missing = None if need is None else need - n
        if missing is None:
            continue
        more = Forecast(max(1, math.ceil(missing / part)), part)
        if best is None or more.labels < best.labels:
            best = more
    return best


def _missing_bets(counts: Counts, j: int, bound: float, goal: float) -> float | None:
    """Return how many more labels like those so far bring the best bet to the goal; None where none wins."""
    n = counts.n[j]
    have = _wealth(counts, bound)[j] if n else certificate.betting_steps(np.zeros(1), np.ones(1), bound)[0]
    gain, start = have / max(n, 1), have if n else np.zeros(len(have))
    wins = gain > 0.0
    if not wins.any():
        return None
    return float(((goal + math.log(len(gain)) - start[wins]) / gain[wins]).min())


def sample_of(counts: Counts) -> Sample:
    """Return which items a lineage counts."""
    return "audited" if counts.renewal else "weighted" if counts.weighted else "fair"


def starts_of(counts: Counts) -> tuple[int, ...]:
    """Return the starts that were fixed with the grid; those of counts older than that are spaced evenly."""
    if counts.starts is not None:
        return counts.starts
    return (0,) if counts.renewal else certificate.even_starts(len(counts.n))


def note(counts: Counts, *, bound: float, delta: float, side: str, wanted: int) -> str:
    """Say in one sentence what is missing for a certificate."""
    what = "answers" if side == "*" else f"answers {side!r}"
    if not counts.n:
        more = max(wanted - counts.seen, MIN_SIDE - len(counts.pilot))
        return f"needs {more} more unlabelled scores of {what} to fix its thresholds"
    if counts.missing_share > MAX_MISSING:
        return (
            f"{counts.missing_share:.1%} of the labels are missing or were not blind; "
            f"above {MAX_MISSING:.0%} nothing is certified"
        )
    coming = forecast(counts, bound=bound, delta=delta)
    if coming is None:
        rate = mean_loss(counts, 0)
        return (
            f"{rate:.1%} of even the surest {what} are wrong ({counts.k[0]} of {counts.n[0]}); "
            f"at that rate no number of labels shows less than {bound:.1%}"
        )
    told = f"needs {coming.labels} more labels of {what} at the present error rate"
    return told if counts.rereads is None else f"{told}{_price(counts.rereads, starts_of(counts), delta)}"


def _price(again: Rereads, starts: Sequence[int], delta: float) -> str:
    """Say what the claim against adjudicated truth still costs."""
    more = rereads.missing(again, starts, delta / 2)
    if more is None:
        return f"; {again.k[0]} of {again.n[0]} agreements were wrong, too many for a bound of {again.bound:.2%}"
    if not more:
        return "; enough agreements were read again"
    many = math.ceil(more / again.share)
    return f", and {more} more agreements read again, of about {many} at a share of {again.share:.0%}"


def curve(counts: Counts, grid: Sequence[float], delta: float) -> list[dict[str, float | int | bool]]:
    """Return the risk-coverage curve: per threshold the share automated, counts and a 95 % upper bound."""
    certified = set(valid(counts, delta))
    return [
        {
            "threshold": grid[j],
            "share": share(counts, j),
            "n": counts.n[j],
            "k": counts.k[j],
            "upper": _upper(counts, j),
            "log_e": counts.log_e[j],
            "valid": j in certified,
        }
        for j in range(len(counts.n))
    ]


def _upper(counts: Counts, j: int) -> float:
    """Return the exact upper bound for counts; with weights that of as many even labels, for charts only."""
    if not counts.weighted or not counts.n[j]:
        return interval.upper(counts.k[j], counts.n[j], 0.95)
    worth = cases(counts, j) ** 2 / math.fsum(cell.n[j] / cell.ratio**2 for cell in counts.cells)
    return interval.upper(mean_loss(counts, j) * worth, worth, 0.95)
