"""What one metric looked like in one pane: counts on fixed cells, missing values apart, merged by `+`.

Before a reference exists, values are counted on a grid that is the same for every metric: float32 with 8 bits
of mantissa, so neighbours differ by at most 0.4 %. Edges learnt from a reference lie on this grid, so that a pane
counted before can be counted again on the edges without loss.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_MANY = 512
"""Rows from which on counting beats sorting, as long as they spread over fewer than `_SPREAD` cells each."""
_SPREAD = 8

_SHIFT = 15  # float32 has 23 bits of mantissa; 8 stay


def keys(values: npt.ArrayLike) -> Ints:
    """Return the grid cell of each finite number; larger numbers have larger keys."""
    bits = (np.asarray(values, dtype=np.float32) + np.float32(0.0)).view(np.int32)  # + 0 turns -0 into 0
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> _SHIFT).astype(np.int64)


def value(key: int) -> float:
    """Return the least number of a grid cell."""
    ordered = np.array(key << _SHIFT, dtype=np.int64).astype(np.int32)
    return float((ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).astype(np.int32).view(np.float32))


def tag(edges: Ints | None) -> int:
    """Return the number that a stored profile carries to say on which edges it counts; 0 = the grid."""
    return 0 if edges is None else (zlib.crc32(edges.astype("<i8").tobytes()) | 1) & 0x7FFFFFFF


@dataclass(frozen=True)
class Profile:
    """Counts of one metric.

    Attributes:
        n: rows with a value.
        missing: rows without.
        total: sum of the values.
        low, high: extremes; inf and -inf when empty.
        cells: (k,) distinct cells in rising order: grid keys, or cell numbers 0..len(edges) on edges.
        counts: (k,) rows per cell.
        tag: on which edges the cells lie; see `tag`.
    """

    n: int
    missing: int
    total: float
    low: float
    high: float
    cells: Ints
    counts: Ints
    tag: int = 0

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Profile:
        """Count values on the grid; NaN and infinities are missing."""
        x = np.asarray(values, dtype=np.float32)
        finite = np.isfinite(x)
        if not finite.all():
            x, missing = x[finite], int(x.size - finite.sum())
        else:
            missing = 0
        if not x.size:
            return cls(0, missing, 0.0, np.inf, -np.inf, _NONE, _NONE)
        cells, counts = _counted(x)
        total = float(x.sum(dtype=np.float64))
        return cls(x.size, missing, total, float(x.min()), float(x.max()), cells, counts)

    @classmethod
    def flags(cls, mask: npt.NDArray[np.bool_]) -> Profile:
        """Count a yes-or-no metric: 1 where the mask holds, else 0."""
        n, yes = mask.size, int(mask.sum())
        pairs = [(_ZERO, n - yes), (_ONE, yes)]
        cells = np.array([cell for cell, count in pairs if count], dtype=np.int64)
        counts = np.array([count for _, count in pairs if count], dtype=np.int64)
        low, high = (0.0 if yes < n else 1.0, 1.0 if yes else 0.0) if n else (np.inf, -np.inf)
        return cls(n, 0, float(yes), low, high, cells, counts)

    @classmethod
    def empty(cls) -> Profile:
        return cls(0, 0, 0.0, np.inf, -np.inf, _NONE, _NONE)

    @property
    def mean(self) -> float:
        """Mean of the values; NaN without any."""
        return self.total / self.n if self.n else float("nan")

    @property
    def rows(self) -> int:
        """All rows, with and without a value."""
        return self.n + self.missing

    @property
    def whole(self) -> bool:
        """Whether the cells hold every value; not so after merging profiles on different edges."""
        return int(self.counts.sum()) == self.n

    def __add__(self, other: Profile) -> Profile:
        """Return the profile of both; cells on different edges cannot be merged and are dropped."""
        if self.tag != other.tag and self.cells.size and other.cells.size:
            cells, counts, where = _NONE, _NONE, self.tag
        else:
            where = self.tag if self.cells.size else other.tag
            cells, counts = _merge(self, other)
        return Profile(
            self.n + other.n,
            self.missing + other.missing,
            self.total + other.total,
            min(self.low, other.low),
            max(self.high, other.high),
            cells,
            counts,
            where,
        )

    def on(self, edges: Ints) -> Profile:
        """Return the same counts on edges; a profile that is already on edges is returned as it is."""
        if self.tag != 0:
            return self
        cells, inverse = np.unique(np.searchsorted(edges, self.cells, side="right"), return_inverse=True)
        counts = np.bincount(inverse, weights=self.counts, minlength=cells.size).astype(np.int64)
        return Profile(
            self.n, self.missing, self.total, self.low, self.high, cells.astype(np.int64), counts, tag(edges)
        )

    def dense(self, edges: Ints) -> Ints | None:
        """Return counts per cell, (len(edges) + 1,); None when they were not counted on these edges."""
        binned = self.on(edges)
        if not binned.whole or (binned.cells.size and binned.tag != tag(edges)):
            return None
        out = np.zeros(len(edges) + 1, dtype=np.int64)
        out[binned.cells] = binned.counts
        return out

    def pack(self) -> bytes:
        """Return tag, cells and counts as little-endian int32, for the `counts` column of `panes`."""
        return np.concatenate([[self.tag], self.cells, self.counts]).astype("<i4").tobytes()

    @classmethod
    def unpack(cls, row: tuple[int, int, float, float | None, float | None], blob: bytes) -> Profile:
        """Return the profile of (n, missing, total, low, high) and a packed blob."""
        n, missing, total, low, high = row
        data = np.frombuffer(blob, dtype="<i4").astype(np.int64)
        half = (len(data) - 1) // 2 if len(data) else 0
        cells, counts = (data[1 : 1 + half], data[1 + half :]) if half else (_NONE, _NONE)
        mark = int(data[0]) if len(data) else 0
        return cls(n, missing, total, np.inf if low is None else low, -np.inf if high is None else high,
                   cells, counts, mark)  # fmt: skip


def quantile(profile: Profile, q: float, edges: Ints | None = None) -> float:
    """Return about the q-quantile: the cell's least value, kept within the extremes; NaN without values."""
    if not profile.n or not profile.whole:
        return float("nan")
    position = int(np.searchsorted(np.cumsum(profile.counts), q * profile.n))
    cell = int(profile.cells[min(position, len(profile.cells) - 1)])
    if profile.tag == 0:
        found = value(cell)
    elif edges is None or tag(edges) != profile.tag:
        return float("nan")
    else:
        found = value(int(edges[cell - 1])) if cell else profile.low
    return float(min(max(found, profile.low), profile.high))


def learn_edges(profile: Profile, cells: int = 10) -> Ints:
    """Return edges on the grid: the lowest cell seen, about `cells - 1` quantiles, one past the highest cell.

    The first and the last cell on these edges hold what the reference never saw.
    """
    if not profile.n or profile.tag != 0 or not profile.whole:
        return _NONE
    below = np.cumsum(profile.counts) / profile.n
    if profile.cells.size <= cells:
        inner = profile.cells[1:]
    else:
        at = np.searchsorted(below, np.arange(1, cells) / cells, side="left")
        inner = profile.cells[np.minimum(at + 1, profile.cells.size - 1)]
    return np.unique(np.concatenate([profile.cells[:1], inner, profile.cells[-1:] + 1]))


def _counted(x: npt.NDArray[np.float32]) -> tuple[Ints, Ints]:
    """Return the distinct grid cells of finite numbers in rising order, and the rows of each.

    Many rows are counted without sorting them: by sign and magnitude, less what lies between zero and the
    smallest magnitude, the cells that a metric may have are few.
    """
    if x.size >= _MANY:
        bits = (x + np.float32(0.0)).view(np.int32)
        sign, size = bits >> 31, (bits & np.int32(0x7FFFFFFF)) >> _SHIFT  # a negative number's key is -1 - size
        gap = int((size.view(np.uint32) - np.uint32(1)).min())  # zeros wrap around, and only they
        if gap <= int(size.max()):
            places = (size - np.minimum(size, np.int32(gap))) ^ sign
            first, last = int(places.min()), int(places.max())
            if last - first < _SPREAD * x.size:
                rows = np.bincount(places - np.int32(first))
                at = np.flatnonzero(rows)
                return _cells(at + first, gap), rows[at].astype(np.int64)
    cells, counts = np.unique(keys(x).astype(np.int32), return_counts=True)
    return cells.astype(np.int64), counts.astype(np.int64)


def _cells(places: Ints, gap: int) -> Ints:
    sign = places >> 63
    size = places ^ sign
    cells: Ints = np.where(size > 0, size + gap, 0) ^ sign
    return cells


def _merge(a: Profile, b: Profile) -> tuple[Ints, Ints]:
    if not a.cells.size or not b.cells.size:
        return (b.cells, b.counts) if not a.cells.size else (a.cells, a.counts)
    both = np.concatenate([a.cells, b.cells])
    order = both.argsort(kind="stable")  # two sorted runs: merged rather than sorted
    cells = both[order]
    starts = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]]))
    counts = np.concatenate([a.counts, b.counts])[order]
    return cells[starts], np.add.reduceat(counts, starts)


_NONE: Ints = np.zeros(0, dtype=np.int64)
_ZERO, _ONE = (int(k) for k in keys([0.0, 1.0]))
