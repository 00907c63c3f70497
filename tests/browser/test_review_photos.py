"""A reviewer judges real photos of tiles and circuit boards: boxes, light, the last good one beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from desk_world import World, drawn, fits, sent, shot, until

from tenure.scope import project as p
from tenure.types import Box

pytestmark = pytest.mark.browser

OUTPUT = p.Output(labels=("good", "defect"), regions="box")
ONCE = p.Review(second_reader=p.SecondReader(agreements=0.0, disagreements=0.0))  # no item comes again by chance
PROJECT = p.Project(
    project="inspection",
    scope=p.Scope(x="photo of a part", y=OUTPUT),
    endpoints={name: p.EndpointSpec(input="image", review=ONCE) for name in ("boards", "tiles", "dense")},
)
BOARD, TILE = "00041000", "blowhole_exp1_num_108719"


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]


def fill(world: World, data: Path) -> None:
    """A board whose template people called good, a dark tile, and a board under 1,200 boxes."""
    boards, tiles = data / "images" / "deeppcb", data / "images" / "magnetic_tile"
    bad = next(r for r in rows(boards) if r["file"].endswith(f"{BOARD}_test.jpg"))
    boxes = [Box(*b, kind, 0.8) for b, kind in zip(bad["boxes"], bad["box_types"], strict=True)]
    world.add("template", "image/*", (boards / bad["template"]).read_bytes(), endpoint="boards", said="good")
    (held,) = world.queue.lease("mira", endpoint="boards")
    world.queue.submit(held.item, reader="mira", token=held.token, value="good", key="k0")
    photo = (boards / bad["file"]).read_bytes()
    world.add("board", "image/*", photo, endpoint="boards", said="defect", confidence=0.71, regions=boxes)
    tile = next(r for r in rows(tiles) if TILE in r["file"])
    world.add("tile", "image/*", (tiles / tile["file"]).read_bytes(), endpoint="tiles", said="defect",
              confidence=0.6, regions=[Box(*tile["boxes"][0], "blowhole", 0.6)])  # fmt: skip
    many = [Box(x, y, x + 6, y + 6, "pad", 0.5) for y in range(4, 304, 10) for x in range(0, 320, 8)]
    world.add("dense", "image/*", photo, endpoint="dense", said="defect", confidence=0.5, regions=many)


def opened(desk: Any, world: World, endpoint: str) -> None:
    desk.goto(f"{world.url}/#/review/{endpoint}")
    desk.locator(".stage svg .box").first.wait_for()
    drawn(desk)


def test_a_box_is_resized_reclassified_and_deleted_by_keyboard(desk: Any, world: World) -> None:
    opened(desk, world, "boards")
    assert desk.locator(".stage .box").count() == 10
    for key in ("]", "Shift+ArrowRight", "ArrowUp", "t", "]", "Delete", "Enter"):
        desk.keyboard.press(key)
    sent(desk, 1)
    boxes = json.loads(world.judgements()[-1]["regions"])
    assert len(boxes) == 9
    first = boxes[0]  # was [233, 220.5, 246.5, 235] mousebite
    assert (first["x1"], first["y1"], first["x2"], first["label"]) == (233, 218.5, 248.5, "open")


def test_a_box_is_resized_and_reclassified_by_mouse(desk: Any, world: World) -> None:
    opened(desk, world, "boards")
    edge = desk.locator(".box[data-box='4'] .edge").bounding_box()
    desk.mouse.click(edge["x"] + edge["width"] / 2, edge["y"] + edge["height"] / 2)
    handle = desk.locator(".box.selected .handle.se").bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    desk.mouse.move(x, y)
    desk.mouse.down()
    desk.mouse.move(x + 40, y + 20, steps=4)
    desk.mouse.up()
    desk.get_by_label("Class of box 5").select_option("short")
    desk.keyboard.press("Enter")
    sent(desk, 1)
    box = json.loads(world.judgements()[-1]["regions"])[4]
    assert (box["x1"], box["y1"], box["label"]) == (75.5, 74.5, "short")
    assert box["x2"] > 91 + 5
    assert box["y2"] > 87.5 + 2


def test_the_last_good_one_is_beside_it_under_the_same_view(desk: Any, world: World) -> None:
    opened(desk, world, "boards")
    desk.keyboard.press("l")
    desk.locator(".beside img").wait_for()
    desk.keyboard.press("+")
    planes = "[...document.querySelectorAll('.stage-plane')].map(p => p.style.transform)"
    until(desk, f"new Set({planes}).size === 1 && {planes}.length === 2")
    shot(desk, "review-board-beside")
    desk.get_by_label("Last").select_option("defect")
    desk.get_by_text("none was kept yet").wait_for()
    desk.locator("h1").click()
    desk.keyboard.press("l")
    desk.locator(".beside").wait_for(state="detached")


def test_light_zoom_and_hiding(desk: Any, world: World) -> None:
    opened(desk, world, "tiles")
    for key in ("b", "c", "g", "g", "+", "+"):
        desk.keyboard.press(key)
    style = desk.locator(".stage img").evaluate("e => e.style.filter")
    assert style == 'url("#review-gamma") brightness(1.2) contrast(1.2)'
    exponent = float(desk.locator("#review-gamma feFuncR").get_attribute("exponent"))
    assert exponent == pytest.approx(1 / 1.4)
    shot(desk, "review-tile")
    desk.keyboard.press("h")
    assert desk.locator(".stage .box").count() == 0
    desk.keyboard.press("h")
    assert desk.locator(".stage .box").count() == 1
    before = desk.locator(".stage-plane").first.bounding_box()["width"]
    desk.mouse.move(400, 400)
    desk.mouse.wheel(0, -300)
    until(desk, f"document.querySelector('.stage-plane img').getBoundingClientRect().width > {before} * 1.5")
    assert fits(desk, width=400)


def test_two_fingers_zoom(desk: Any, world: World) -> None:
    opened(desk, world, "tiles")
    width = "document.querySelector('.stage img').getBoundingClientRect().width"
    before = desk.evaluate(width)
    cdp = desk.context.new_cdp_session(desk)
    edge = desk.locator(".stage").bounding_box()
    x, y = edge["x"] + edge["width"] / 2, edge["y"] + edge["height"] / 2

    def touch(kind: str, apart: float) -> None:
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}] if apart else []
        cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 40)
    for apart in (60, 80, 100, 120):
        touch("touchMove", apart)
    touch("touchEnd", 0)
    until(desk, f"{width} > {before} * 2")
    assert desk.locator(".stage .box").count() == 1  # nothing was drawn


def test_a_move_among_1200_boxes_draws_one(desk: Any, world: World) -> None:
    opened(desk, world, "dense")
    assert desk.locator(".stage .box").count() == 1200
    drawn = "[...document.querySelectorAll('.stage .box')].map(b => Number(b.dataset.drawn))"
    assert desk.locator(".stage .box text:visible").count() == 0  # a thousand names would hide the photo
    start = desk.evaluate(drawn)
    edge = desk.locator(".box[data-box='600'] .edge").bounding_box()
    x, y = edge["x"] + edge["width"] / 2, edge["y"] + edge["height"] / 2
    desk.mouse.move(x, y)
    desk.mouse.down()
    desk.mouse.move(x + 60, y + 30, steps=10)
    desk.mouse.up()
    desk.keyboard.press("+")  # a zoom draws none
    end = desk.evaluate(drawn)
    changed = [i for i, (a, b) in enumerate(zip(start, end, strict=True)) if a != b]
    assert changed == [600]
    assert end[600] - start[600] >= 2  # it was chosen, and moved at least once: moves in one frame are one
    shot(desk, "review-dense")
