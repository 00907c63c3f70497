"""Inline SVG for the report: intervals, tables as heat, pairs as points. Each chart has a text for readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from tenure.stats.bland_altman import Differences


def intervals(rows: Sequence[tuple[str, float | None, float | None, float | None]], title: str) -> str:
    """Draw shares in [0, 1] as dots with bands: (name, value, low, high)."""
    known = [v for _, *values in rows for v in values if v is not None]
    if not known:
        return ""
    low, high, step = _scale(min(known), max(known), 0.0, 1.0)
    left, wide, tall = 150.0, 410.0, 34.0
    bottom = tall * len(rows) + 8
    parts = _axis_x(low, high, step, left=left, wide=wide, bottom=bottom, percent=True)
    for i, (name, value, lo, hi) in enumerate(rows):
        y = tall * i + 22
        parts.append(f'<text x="{left - 12}" y="{y + 5}" class="name">{escape(_cut(name))}</text>')
        at = [None if v is None else left + (v - low) / (high - low) * wide for v in (value, lo, hi)]
        if at[1] is not None and at[2] is not None:
            parts.append(f'<line x1="{at[1]:.1f}" x2="{at[2]:.1f}" y1="{y}" y2="{y}" class="band"/>')
        if at[0] is not None:
            parts.append(f'<circle cx="{at[0]:.1f}" cy="{y}" r="5.5" class="dot"/>')
    return _svg(parts, 600, bottom + 30, title)


def scatter(points: Sequence[tuple[float, float]], found: Differences | None, title: str) -> str:
    """Draw difference against mean, with bias and limits of agreement (Bland-Altman)."""
    if not points or found is None:
        return ""
    marks = [((x + y) / 2.0, x - y) for x, y in points]
    lines = [(found.upper.value, "limit"), (found.bias.value, "bias"), (found.lower.value, "limit")]
    xs, ys = [m for m, _ in marks], [d for _, d in marks] + [v for v, _ in lines]
    x0, x1, xstep = _scale(min(xs), max(xs), -math.inf, math.inf)
    y0, y1, ystep = _scale(min(ys), max(ys), -math.inf, math.inf)
    left, wide, bottom = 84.0, 390.0, 260.0
    parts = _axis_x(x0, x1, xstep, left=left, wide=wide, bottom=bottom, percent=False)

    def down(value: float) -> float:
        return bottom - (value - y0) / (y1 - y0) * (bottom - 12)

    for value in _ticks(y0, y1, ystep):
        parts.append(f'<text x="{left - 8}" y="{down(value) + 5:.1f}" class="name">{_short(value, ystep)}</text>')
    for mean, gap in marks:
        x = left + (mean - x0) / (x1 - x0) * wide
        parts.append(f'<circle cx="{x:.1f}" cy="{down(gap):.1f}" r="3" class="point"/>')
    for value, kind in lines:
        y, name = down(value), "bias" if kind == "bias" else "limit"
        parts.append(f'<line x1="{left}" x2="{left + wide}" y1="{y:.1f}" y2="{y:.1f}" class="{kind}"/>')
        parts.append(f'<text x="{left + wide + 6}" y="{y + 5:.1f}">{name} {_short(value, ystep / 10)}</text>')
    parts.append(f'<text x="{left + wide / 2}" y="{bottom + 42}" class="mid">mean of model and person</text>')
    return _svg(parts, 600, bottom + 54, title)


def bars(rows: Sequence[tuple[str, Sequence[tuple[str, int]]]], title: str) -> str:
    """Draw stacked counts, one bar a row: (name, [(class of the style, count)])."""
    top = max((sum(n for _, n in parts) for _, parts in rows), default=0)
    if not top:
        return ""
    left, wide, tall, drawn = 150.0, 400.0, 32.0, list[str]()
    for i, (name, parts) in enumerate(rows):
        y, x = tall * i + 6, left
        drawn.append(f'<text x="{left - 12}" y="{y + 16}" class="name">{escape(_cut(name))}</text>')
        for style, count in parts:
            width = count / top * wide
            drawn.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="22" class="{style}"/>')
            if width > 9 * len(f"{count}") + 6:
                drawn.append(f'<text x="{x + width / 2:.1f}" y="{y + 16}" class="mid on">{count:,}</text>')
            x += width
    return _svg(drawn, 600, tall * len(rows) + 10, title)


def _axis_x(
    low: float, high: float, step: float, *, left: float, wide: float, bottom: float, percent: bool
) -> list[str]:
    parts = [f'<line x1="{left}" x2="{left + wide}" y1="{bottom}" y2="{bottom}" class="axis"/>']
    for value in _ticks(low, high, step):
        x = left + (value - low) / (high - low) * wide
        text = f"{_short(value * 100, step * 100)} %" if percent else _short(value, step)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" class="mid">{text}</text>')
    return parts


def _scale(low: float, high: float, floor: float, ceiling: float) -> tuple[float, float, float]:
    """Return round ends around [low, high] and a round step of about a third of it."""
    span = max(high - low, 1e-9, abs(high) * 1e-9)
    size = 10.0 ** math.floor(math.log10(span / 3.0))
    step = min((m * size for m in (1, 2, 5, 10)), key=lambda s: abs(s - span / 3.0))
    start = max(floor, math.floor(low / step - 1e-9) * step)
    end = min(ceiling, math.ceil(high / step + 1e-9) * step)
    return (start, end, step) if end > start else (start - step, start + step, step)


def _ticks(low: float, high: float, step: float) -> list[float]:
    return [low + i * step for i in range(int((high - low) / step + 1e-6) + 1)]


def _short(value: float, step: float) -> str:
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{min(digits, 6)}f}".replace("-", "\u2212")


def _cut(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}\u2026"


def _svg(parts: Sequence[str], wide: float, tall: float, title: str) -> str:
    inside = "".join(parts)
    return (
        f'<svg viewBox="0 0 {wide:.0f} {tall:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{inside}</svg>"
    )
