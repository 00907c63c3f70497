"""Pictures of a load test: latency by percentile, a histogram for the terminal, rate against p99."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenure.deploy.capacity.chart import Chart
from tenure.deploy.capacity.measured import Measured
from tenure.deploy.capacity.search import Found

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SPOTS = (("0 %", 0.0), ("50 %", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("99.9 %", 0.999), ("99.99 %", 0.9999))


def percentiles(found: Measured, *, title: str) -> Chart:
    """Return latency against percentile; each nine has the same width, so that the tail can be seen."""
    nines = max(2.0, math.log10(max(10, found.good)))
    total, seen = sum(n for _, n in found.histogram), 0
    points = []
    for bound, count in found.histogram:
        seen += count
        if count:
            points.append((_nines(seen / total, nines) / nines, bound))
    ticks = tuple((_nines(s, nines) / nines, name) for name, s in _SPOTS if _nines(s, nines) <= nines)
    return Chart(
        title=title, points=tuple(points), ticks=ticks, x_label="share of good answers that were no slower",
        y_label="ms", limit=found.budget_ms, limit_label=f"serve.latency {found.budget_ms:g} ms",
    )  # fmt: skip


def curve(found: Found, *, title: str, budget_ms: float) -> Chart:
    """Return p99 against rate for every rate that a search tried."""
    steps = [s for s in found.steps if math.isfinite(s.measured.latency_ms["p99"])]
    top = max((s.rate for s in steps), default=1.0) * 1.05
    ticks = tuple((tick / top, f"{tick:g}") for tick in _round_ticks(top))
    return Chart(
        title=title, points=tuple((s.rate / top, s.measured.latency_ms["p99"]) for s in steps), ticks=ticks,
        x_label="requests a second", y_label="p99 ms", limit=budget_ms,
        limit_label=f"serve.latency {budget_ms:g} ms", dots=True,
    )  # fmt: skip


def bars(histogram: Sequence[tuple[float, int]], *, height: int = 6) -> list[str]:
    """Return the histogram as lines of block characters, highest line first; the tallest bar is full."""
    top = max((n for _, n in histogram), default=0)
    if not top:
        return []
    eighths = [max(1, round(n / top * height * 8)) if n else 0 for _, n in histogram]
    return [
        "".join(_BLOCKS[min(8, max(0, filled - row * 8))] for filled in eighths)
        for row in range(height - 1, -1, -1)
    ]


def axis(histogram: Sequence[tuple[float, int]], *, marks: int = 5) -> str:
    """Return a line of milliseconds below the bars."""
    width = len(histogram)
    line = [" "] * (width + 8)
    for mark in range(marks):
        at = round(mark * (width - 1) / (marks - 1))
        text = f"{histogram[at][0]:.3g}"
        line[at : at + len(text)] = text
    return "".join(line).rstrip()


def over(histogram: Sequence[tuple[float, int]], budget_ms: float) -> int:
    """Return how many bars are within the budget; the rest is beyond it."""
    return sum(bound <= budget_ms for bound, _ in histogram)


def _nines(share: float, most: float) -> float:
    return most if share >= 1 else min(most, -math.log10(1 - share))


def _round_ticks(top: float) -> list[float]:
    size = 10 ** math.floor(math.log10(top))
    step = next(s for s in (size / 5, size / 2, size, 2 * size) if top / s <= 8)
    return [step * i for i in range(int(top / step) + 1)]
