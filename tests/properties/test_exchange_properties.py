"""Answers survive the way to Label Studio and COCO and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.maintain.exchange import label_studio
from tenure.scope.project import Output
from tenure.types import Box

sides = st.integers(1, 20_000)
shares = st.floats(0, 1)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[tuple[int, int], list[Box]]:
    width, height = draw(sides), draw(sides)
    found = []
    for _ in range(draw(st.integers(0, 5))):
        (x1, x2), (y1, y2) = (sorted((draw(shares) * side, draw(shares) * side)) for side in (width, height))
        found.append(Box(x1, y1, x2, y2, draw(st.sampled_from(["scratch", 'a "quoted" <one>', "日本"]))))
    return (width, height), found


@given(pictures(), st.sampled_from(["good", "defect"]), st.booleans())
def test_boxes_come_back_within_a_millionth_of_a_pixel(
    picture: tuple[tuple[int, int], list[Box]], label: str, shown: bool
) -> None:
    size, boxes = picture
    output = Output(labels=("good", "defect"), regions="box")
    one = {
        "meta": {"item": "q", "shown_suggestion": shown}, "data": {},
        "annotations": [{"id": 1, "result": label_studio.results(label, boxes, output, size)}],
    }  # fmt: skip
    (back,) = label_studio.read(json.loads(json.dumps([one])), output, name="f")
    assert (back.item, back.value, back.shown) == ("q", label, shown)
    assert [b.label for b in back.regions] == [b.label for b in boxes]
    for got, sent in zip(back.regions, boxes, strict=True):
        pairs = [(got.x1, sent.x1), (got.y1, sent.y1), (got.x2, sent.x2), (got.y2, sent.y2)]
        assert all(g == pytest.approx(s, abs=1e-6) for g, s in pairs)


@given(
    st.one_of(st.text(min_size=1), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
)
def test_texts_and_numbers_come_back_as_they_were(value: str | float) -> None:
    output = Output(kind="text" if isinstance(value, str) else "number")
    one = {
        "meta": {"item": "q"}, "data": {},
        "annotations": [{"id": 1, "result": label_studio.results(value, (), output, None)}],
    }  # fmt: skip
    (back,) = label_studio.read(json.loads(json.dumps([one])), output, name="f")
    assert back.value == value
