"""A small chart with a logarithmic y axis, written as SVG or PNG: lines, a budget, a legend; nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import msgspec

from tenure.errors import CaseError, StoreError

WIDTH, HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 36, 44
_INK, _GRID, _LINE, _LIMIT = "#333333", "#dddddd", "#2266aa", "#cc3333"
_SIZE = 12


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """What to draw.

    Attributes:
        title: above it.
        points: (x in [0, 1] of the width, y above 0), in order of x.
        ticks: (x in [0, 1], label).
        x_label: below the axis.
        y_label: above the axis.
        limit: a level to compare with; 0 = none.
        limit_label: what it is.
        dots: whether each point is marked.
    """

    title: str
    points: tuple[tuple[float, float], ...]
    ticks: tuple[tuple[float, str], ...]
    x_label: str
    y_label: str
    limit: float = 0.0
    limit_label: str = ""
    dots: bool = False


class Line(msgspec.Struct, frozen=True):
    """A line through points, in pixels."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0


class Dot(msgspec.Struct, frozen=True):
    """A filled circle."""

    x: float
    y: float
    colour: str


class Label(msgspec.Struct, frozen=True):
    """A text with its baseline at (x, y)."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    colour: str = _INK


Shape = Line | Dot | Label


def save(chart: Chart, path: Path) -> None:
    """Write a chart; the ending says how, `.svg` or `.png`.

    Raises:
        CaseError: another ending.
        StoreError: it cannot be written.
    """
    drawn = shapes(chart)
    try:
        if path.suffix == ".svg":
            path.write_text(as_svg(drawn), encoding="utf-8")
        elif path.suffix == ".png":
            _save_png(drawn, path)
        else:
            raise CaseError(f"a plot is written as .svg or .png, not {path.suffix or path.name!r}", at="--plot")
    except OSError as error:
        raise StoreError(f"cannot write the plot: {error.strerror}", at=str(path)) from error


def shapes(chart: Chart) -> list[Shape]:
    """Return the chart as lines, dots and labels."""
    values = [y for _, y in chart.points if y > 0 and math.isfinite(y)] or [1.0]
    values += [chart.limit] if chart.limit > 0 else []
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)

    def spot(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(max(y, 10.0**low)) - low) / (high - low)
        return (
            _LEFT + x * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - min(share, 1.0) * (HEIGHT - _TOP - _BOTTOM),
        )

    out: list[Shape] = [Label(WIDTH / 2, 18, chart.title, "middle")]
    for power in range(low, high + 1):
        left, right = spot(0, 10.0**power), spot(1, 10.0**power)
        out += [Line((left, right), _GRID), Label(left[0] - 6, left[1] + 4, f"{10.0**power:g}", "end")]
    for x, text in chart.ticks:
        base = spot(x, 10.0**low)
        out += [Line((base, spot(x, 10.0**high)), _GRID), Label(base[0], base[1] + 16, text, "middle")]
    out += [Label(8, 18, chart.y_label), Label(WIDTH / 2, HEIGHT - 8, chart.x_label, "middle")]
    if chart.limit > 0:
        left, right = spot(0, chart.limit), spot(1, chart.limit)
        out += [
            Line((left, right), _LIMIT, 1.5),
            Label(left[0] + 6, left[1] - 5, chart.limit_label, colour=_LIMIT),
        ]
    spots = tuple(spot(x, y) for x, y in chart.points if math.isfinite(y))
    out.append(Line(spots, _LINE, 2.0))
    return out + ([Dot(x, y, _LINE) for x, y in spots] if chart.dots else [])


def as_svg(drawn: Sequence[Shape]) -> str:
    """Return the shapes as an SVG document."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="{_SIZE}">\n<rect width="100%" height="100%" '
        'fill="white"/>\n'
    )
    return head + "".join(_svg(shape) + "\n" for shape in drawn) + "</svg>\n"


def _svg(shape: Shape) -> str:
    if isinstance(shape, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        return f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"/>'
    if isinstance(shape, Dot):
        return f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="3.5" fill="{shape.colour}"/>'
    return (
        f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" text-anchor="{shape.anchor}" fill="{shape.colour}">'
        f"{escape(shape.text)}</text>"
    )


def _save_png(drawn: Sequence[Shape], path: Path, *, scale: int = 2) -> None:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(_SIZE * scale)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for shape in drawn:
        if isinstance(shape, Line):
            spots = [(x * scale, y * scale) for x, y in shape.points]
            pen.line(spots, fill=shape.colour, width=max(1, round(shape.width * scale)), joint="curve")
        elif isinstance(shape, Dot):
            pen.circle((shape.x * scale, shape.y * scale), 3.5 * scale, fill=shape.colour)
        else:
            where = (shape.x * scale, shape.y * scale)
            pen.text(where, shape.text, fill=shape.colour, font=font, anchor=anchors[shape.anchor])
    image.save(path)
