"""Charts and blocks."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenure.deploy.capacity import plot
from tenure.deploy.capacity.chart import HEIGHT, WIDTH, Chart, Dot, Line, as_svg, save, shapes
from tenure.deploy.capacity.measured import histogram
from tenure.errors import CaseError, StoreError

CHART = Chart(
    title="a < b", points=((0.0, 1.0), (0.5, 10.0), (1.0, math.nan), (1.0, 90.0)), ticks=((0.5, "50 %"),),
    x_label="x", y_label="ms", limit=50.0, limit_label="budget", dots=True,
)  # fmt: skip


def test_a_chart_is_well_formed_svg() -> None:
    found = ET.fromstring(as_svg(shapes(CHART)))
    texts = [e.text for e in found.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a < b", "budget", "50 %", "1", "10", "100"} <= set(texts)
    assert len(list(found.iter("{http://www.w3.org/2000/svg}circle"))) == 3


def test_higher_values_are_higher_and_inside() -> None:
    dots = [s for s in shapes(CHART) if isinstance(s, Dot)]
    assert [d.x for d in dots] == sorted(d.x for d in dots)
    assert [d.y for d in dots] == sorted((d.y for d in dots), reverse=True)
    for line in (s for s in shapes(CHART) if isinstance(s, Line)):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in line.points)


@pytest.mark.parametrize("name", ["out.svg", "out.png"])
def test_a_chart_is_saved(tmp_path: Path, name: str) -> None:
    save(CHART, tmp_path / name)
    if name.endswith("png"):
        with Image.open(tmp_path / name) as image:
            assert image.size == (2 * WIDTH, 2 * HEIGHT)
            assert len(image.getcolors(1 << 20) or ()) > 3
    else:
        assert (tmp_path / name).read_text().startswith("<svg")


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"\.svg or \.png"):
        save(CHART, tmp_path / "out.pdf")
    with pytest.raises(StoreError, match="cannot write the plot"):
        save(CHART, tmp_path / "none" / "out.svg")


def test_bars_are_as_high_as_their_counts() -> None:
    lines = plot.bars(((1.0, 8), (2.0, 4), (3.0, 0), (4.0, 1)), height=2)
    assert lines == ["█   ", "██ ▂"]
    assert plot.bars(()) == []


def test_the_axis_names_the_ends() -> None:
    found = histogram(np.geomspace(0.5, 200, 999))
    text = plot.axis(found)
    assert text.startswith("0.5")
    assert text.endswith("200")
    assert plot.over(found, 1e9) == len(found)
    assert plot.over(found, 0.1) == 0
