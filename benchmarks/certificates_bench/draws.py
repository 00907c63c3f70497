"""What tenure and the naive plug-in claim after every batch of labels drawn with replacement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from certificates_bench.populations import Bools, Floats, Population
from tenure.deploy.automation import lineage
from tenure.deploy.automation.items import Label
from tenure.stats import certificate

DELTA = 0.05
PILOT = 1000
FAMILY = 20_261_126
"""Of the draws' seeds; the starts of the fallback procedure were chosen on another one."""

NOTHING = np.inf
"""The threshold of a method that claims nothing."""


@dataclass(frozen=True)
class Draw:
    """One study: unlabelled scores for the grid, and rows in the order of their labels."""

    pilot: Floats
    rows: npt.NDArray[np.int64]


def draw(population: Population, seed: int, size: int, *, family: int = FAMILY) -> Draw:
    rng = np.random.default_rng((family, seed))
    n = len(population.score)
    return Draw(population.score[rng.integers(n, size=PILOT)], rng.integers(n, size=size))


def grid_of(found: Draw, bound: float, planned: int) -> lineage.Grid:
    """Return the thresholds as the service fixes them."""
    counts = lineage.pilot(lineage.Counts(), found.pilot.tolist(), PILOT)
    grid = lineage.grid_of(counts, bound=bound, delta=DELTA, wanted=PILOT, planned=planned)
    assert grid is not None
    return grid


class Evidence:
    """`certify_log_es` of all counts that can lift a running maximum above 0, computed once per bound.

    Above k = n b the e-value is below 1, so that more errors can be counted as the last column.
    """

    def __init__(self, bound: float, labels: int) -> None:
        self.bound = bound
        self.most = int(np.ceil(bound * labels))
        n, k = np.meshgrid(np.arange(labels + 1.0), np.arange(self.most + 1.0), indexing="ij")
        self.table = certificate.certify_log_es(n.ravel(), np.minimum(n, k).ravel(), bound).reshape(n.shape)

    def __call__(self, n: npt.NDArray[np.int64], k: npt.NDArray[np.int64]) -> Floats:
        return np.asarray(self.table[n, np.minimum(k, self.most)])


@dataclass(frozen=True)
class Claims:
    """Thresholds claimed after each batch; `NOTHING` where none is."""

    tenure: Floats
    naive: Floats
    log_e: Floats


def even(found: Draw, bound: float, planned: int) -> lineage.Grid:
    """Return grid and starts as method 1 fixed them: always four starts, evenly spaced."""
    cuts = certificate.make_grid(found.pilot.tolist(), bound=bound, delta=DELTA, planned=planned)
    return lineage.Grid(tuple(cuts), certificate.even_starts(len(cuts)))


def claims(score: Floats, wrong: Bools, fixed: lineage.Grid, *, evidence: Evidence, batch: int) -> Claims:
    """Return what both methods claim after every `batch` labels, on the same grid."""
    grid = fixed.thresholds
    starts = fixed.starts or ()
    above = score[:, None] >= np.asarray(grid)[None, :]
    n, k = above.cumsum(axis=0), (above & wrong[:, None]).cumsum(axis=0)
    looks = len(score) // batch
    log_e = evidence(n, k).reshape(looks, batch, len(grid)).max(axis=1)
    log_e = np.maximum.accumulate(np.maximum(log_e, 0.0), axis=0)
    tenure, naive = np.full(looks, NOTHING), np.full(looks, NOTHING)
    n, k = n[batch - 1 :: batch], k[batch - 1 :: batch]
    for i in range(looks):
        valid = certificate.valid_set(np.exp(-log_e[i]), DELTA, starts)
        fine = np.flatnonzero((n[i] > 0) & (k[i] <= evidence.bound * n[i]))
        tenure[i] = grid[valid[-1]] if valid else NOTHING
        naive[i] = grid[fine[-1]] if len(fine) else NOTHING
    return Claims(tenure, naive, log_e)


def by_the_service(score: Floats, wrong: Bools, fixed: lineage.Grid, *, bound: float, batch: int) -> Claims:
    """Return tenure's claims by the code that runs in production, label by label; slow."""
    grid = fixed.thresholds
    counts, found = lineage.start(grid, since=0, starts=fixed.starts), []
    labels = [Label(i, float(s), bool(w), False) for i, (s, w) in enumerate(zip(score, wrong, strict=True))]
    for i in range(0, len(labels), batch):
        counts = lineage.advance(counts, grid, bound, labels[i : i + batch])
        valid = lineage.valid(counts, DELTA)
        found.append(grid[valid[-1]] if valid else NOTHING)
    return Claims(np.array(found), np.array([]), np.array(counts.log_e))


def oracle(population: Population, bound: float) -> float:
    """Return the threshold that automates most at a true risk of at most `bound`."""
    order = np.argsort(-population.score, kind="stable")
    score, wrong = population.score[order], population.wrong[order].cumsum()
    last = np.append(score[1:] != score[:-1], True)  # ties are automated together
    fine = np.flatnonzero(last & (wrong <= bound * np.arange(1, len(score) + 1)))
    return float(score[fine[-1]]) if len(fine) else NOTHING
