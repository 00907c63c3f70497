"""Boxes, plates and colours on pictures of every size."""

from __future__ import annotations

import io
import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from tenure.deploy.serving.http import drawing
from tenure.deploy.serving.http.drawing import PALETTE, Rect, Scale, annotated, colours_of, draw, ink_on, words
from tenure.types import Box

Pixels = npt.NDArray[np.uint8]


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def picture(width: int, height: int, value: int = 90) -> Pillow.Image:
    return Pillow.new("RGB", (width, height), (value, value, value))


def encoded(shown: Pillow.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    shown.save(out, form, **options)
    return out.getvalue()


def decoded(body: bytes) -> Pixels:
    return np.asarray(Pillow.open(io.BytesIO(body)).convert("RGB"))


def where(pixels: Pixels, colour: str) -> Rect:
    rows, columns = np.nonzero((pixels == rgb(colour)).all(axis=2))
    return Rect(int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max()))


def placed(boxes: list[Box], size: tuple[int, int]) -> list[tuple[Box, Rect, str]]:
    rects = [drawing._rect(box, size) for box in boxes]
    return drawing._plates(boxes, rects, size, Scale.of(*size))


def test_a_box_is_where_it_was_said_to_be() -> None:
    shown = picture(400, 300)
    draw(shown, [Box(100, 150, 200, 250, "dent", 0.5)], labels=("dent",))
    pixels = np.asarray(shown)
    assert where(pixels[150:], PALETTE[0]) == Rect(100, 0, 199, 99)  # its plate lies above
    assert tuple(pixels[200, 150]) == (90, 90, 90)


def test_a_line_shows_on_a_ground_of_its_own_colour() -> None:
    shown = Pillow.new("RGB", (200, 200), PALETTE[0])
    draw(shown, [Box(50, 60, 150, 160, "dent")], labels=("dent",))
    pixels = np.asarray(shown)
    assert tuple(pixels[110, 49]) == tuple(pixels[110, 52]) == rgb(ink_on(PALETTE[0]))


@pytest.mark.parametrize("size", [(100, 100), (480, 480), (4000, 3000), (3000, 120), (60, 400)])
def test_plates_lie_inside_and_none_covers_another(size: tuple[int, int]) -> None:
    width, height = size
    boxes = [
        Box(x * width, y * height, (x + 0.2) * width, (y + 0.2) * height, f"label {n}", n / 20)
        for n, (x, y) in enumerate(itertools.product((-0.1, 0.2, 0.5, 0.95), (-0.1, 0.4, 0.9)))
    ]
    plates = [plate for _, plate, _ in placed(boxes, size)]
    assert len(plates) >= 4
    assert all(0 <= p.x1 <= p.x2 < width and 0 <= p.y1 <= p.y2 < height for p in plates)
    assert not any(a.meets(b) for a, b in itertools.combinations(plates, 2))


@pytest.mark.parametrize(("side", "least", "most"), [(32, 11, 11), (100, 11, 14), (480, 11, 16), (4000, 70, 120)])
def test_letters_grow_with_the_picture(side: int, least: int, most: int) -> None:
    assert least <= Scale.of(side, side).font <= most


def test_a_short_label_is_whole_at_100_pixels_and_a_long_one_keeps_its_confidence() -> None:
    (_, _, short), (_, _, long) = placed(
        [
            Box(5, 60, 50, 90, "much too long a label to be written here", 0.5),
            Box(5, 20, 50, 50, "scratch", 0.93),
        ],
        (100, 100),
    )
    assert short == "scratch 0.93"
    assert long.endswith("… 0.50")
    assert long.startswith("much")


def test_the_surest_box_gets_its_plate_and_lies_on_top() -> None:
    same = [Box(2, 2, 30, 14, "a", 0.2), Box(2, 2, 30, 14, "b", 0.9)]
    plates = placed(same, (32, 16))
    assert [box.label for box, _, _ in plates] == ["b"]
    shown = picture(32, 16)
    draw(shown, same[::-1], labels=("a", "b"))
    assert not (np.asarray(shown) == rgb(PALETTE[0])).all(axis=2).any()


@pytest.mark.parametrize(
    ("confidence", "text"), [(None, ""), (0.0, "0.00"), (0.404, "0.40"), (0.9999, "0.99"), (1.0, "1.00")]
)
def test_only_certainty_is_called_one(confidence: float | None, text: str) -> None:
    assert words(Box(0, 0, 1, 1, "dent", confidence)) == ("dent", text)


def test_letters_that_no_font_has_are_replaced() -> None:
    assert drawing._writable("crack\n\u202e two") == "crack two"
    assert drawing._writable("日本") == "??"


def test_without_other_fonts_accents_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_FONT", "no such font.ttf")
    for cached in (drawing._wide_font, drawing._has_glyph):
        cached.cache_clear()
    assert drawing._writable("größer") == "gro?er"
    for cached in (drawing._wide_font, drawing._has_glyph):
        cached.cache_clear()


# Colours


def test_declared_labels_keep_their_colour_and_others_differ_from_them() -> None:
    declared = ("good", "dent")
    alone, beside = colours_of(["dent"], declared), colours_of(["dent", "crack", "hole"], declared)
    assert alone["dent"] == beside["dent"] == PALETTE[1]
    assert len({beside[label] for label in ("good", "dent", "crack", "hole")}) == 4


def test_seven_labels_have_seven_colours_whatever_their_names() -> None:
    for start in range(50):
        assert len(set(colours_of([f"kind {start + n}" for n in range(7)], ()).values())) == 7


def test_every_plate_can_be_read() -> None:
    def luminance(colour: str) -> float:
        return drawing._luminance(colour)

    for colour in PALETTE:
        light, dark = sorted((luminance(colour), luminance(ink_on(colour))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, level AA


def _seen_by(colour: str, kind: str) -> npt.NDArray[np.float64]:
    """Return a colour as a dichromat sees it (Vienot, Brettel and Mollon 1999; linear RGB)."""
    planes = {
        "protan": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
        "deutan": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
    }
    linear = (np.array(rgb(colour)) / 255) ** 2.2
    return np.clip(np.array(planes[kind]) @ linear, 0, 1) ** (1 / 2.2) * 255


@pytest.mark.parametrize("kind", ["protan", "deutan"])
def test_colour_blind_people_tell_the_colours_apart(kind: str) -> None:
    seen = [_seen_by(colour, kind) for colour in PALETTE]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))
    assert nearest > 30  # of 441; pure red and pure green of equal lightness come below 20


# Whole pictures


def test_what_comes_back_is_the_picture_upright() -> None:
    lying = Pillow.fromarray(np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))).convert("RGB")
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    body = encoded(lying, "JPEG", exif=exif, quality=95)
    back = Pillow.open(io.BytesIO(annotated(body, [], "image/png")))
    assert back.size == (40, 60)
    assert back.getexif().get(0x0112) is None
    seen = np.asarray(back)[..., 0].astype(int)
    assert seen[0].mean() < 10 < 245 < seen[-1].mean()


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
def test_both_forms_hold_the_same_picture(media_type: str) -> None:
    body = encoded(picture(64, 48))
    out = annotated(body, [Box(10, 20, 40, 40, "dent", 0.9)], media_type)
    assert Pillow.MIME[Pillow.open(io.BytesIO(out)).format or ""] == media_type
    assert decoded(out).shape == (48, 64, 3)


FLOATS = st.floats(-1e9, 1e9) | st.floats(-20, 120)
BOXES = st.builds(
    lambda x, y, w, h, label, sure: Box(x, y, x + w, y + h, label, sure),
    FLOATS, FLOATS, st.floats(0, 1e9) | st.floats(0, 100), st.floats(0, 1e9) | st.floats(0, 100),
    st.text(max_size=30), st.none() | st.floats(0, 1),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(size=st.tuples(st.integers(1, 120), st.integers(1, 120)), boxes=st.lists(BOXES, max_size=6))
def test_no_boxes_break_a_drawing(size: tuple[int, int], boxes: list[Box]) -> None:
    shown = picture(*size)
    draw(shown, boxes)
    assert shown.size == size


def test_thousands_of_boxes_are_drawn_with_plates_for_the_surest() -> None:
    boxes = [Box(n % 90, n % 70, n % 90 + 8, n % 70 + 8, "x", n / 5000) for n in range(5000)]
    shown = picture(900, 700)
    draw(shown, boxes)
    assert (np.asarray(shown) != 90).any()
