"""The review page of each modality: no axe violation, wide and narrow; the help; media fetched ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from desk_world import World, drawn, fits, until
from test_console_pages import violations

from tenure.scope import project as p
from tenure.types import Box

pytestmark = pytest.mark.browser

PROJECT = p.Project(
    project="mixed",
    scope=p.Scope(x="an input", y=p.Output(kind="text")),
    endpoints={
        "sound": p.EndpointSpec(input="audio"),
        "photo": p.EndpointSpec(input="image", output=p.Output(labels=("good", "defect"), regions="box")),
        "record": p.EndpointSpec(
            input="record",
            fields={"age": p.Field(type="int"), "name": p.Field(type="text", masked=True)},
            output=p.Output(kind="number", unit="days"),
        ),
        "text": p.EndpointSpec(input="text"),
    },
)
FETCHED = "performance.getEntriesByType('resource').filter(r => /waveform/.test(r.name) && r.responseEnd).length"
SEEN = {"sound": ".wave path", "photo": ".box", "record": ".record", "text": ".text-item"}


def fill(world: World, data: Path) -> None:
    """One item of each modality, each with what a model said."""
    clip = (data / "speech" / "utterances" / "cards_001.flac").read_bytes()
    words = [Box(0.1, 0, 0.4, 1, "ten", 0.9), Box(0.4, 0, 0.6, 1, "off", 0.2)]
    world.add("a", "audio/*", clip, endpoint="sound", said="ten off clubs", confidence=0.7, regions=words)
    photo = sorted((data / "images" / "deeppcb" / "images").glob("*_test.jpg"))[0].read_bytes()
    world.add("p", "image/*", photo, endpoint="photo", said="defect", regions=[Box(20, 20, 90, 90, "short", 0.6)])
    world.add("r", "application/json", endpoint="record", record={"age": 61, "name": "Ada"}, said=4.0)
    world.add("t", "text/plain", endpoint="text", record="A note of a few words.", said="a note")


@pytest.mark.parametrize(("width", "scheme"), [(1600, "light"), (400, "dark")])
def test_every_modality_is_accessible_and_fits(
    desk: Any, world: World, axe: str, width: int, scheme: str
) -> None:
    desk.emulate_media(color_scheme=scheme)
    found = []
    for name, seen in SEEN.items():
        desk.goto(f"{world.url}/#/review/{name}")
        desk.locator(seen).first.wait_for()
        drawn(desk)
        if name == "photo":
            desk.keyboard.press("]")
            desk.keyboard.press("l")
        if not fits(desk, width=width):
            found.append(f"{name} is wider than {width} px")
        found += [f"{name}: {v}" for v in violations(desk, axe)]
        desk.keyboard.press("?")
        desk.get_by_role("dialog", name="Keys").wait_for()
        found += [f"{name} help: {v}" for v in violations(desk, axe)]
        desk.keyboard.press("Escape")
        desk.get_by_role("dialog").wait_for(state="hidden")
    assert found == []


def test_the_help_names_the_keys_of_the_modality(desk: Any, world: World) -> None:
    for name, said in (
        ("sound", "play, pause"),
        ("photo", "next, previous class"),
        ("record", "write the answer"),
    ):
        desk.goto(f"{world.url}/#/review/{name}")
        desk.locator(SEEN[name]).first.wait_for()
        drawn(desk)
        desk.keyboard.press("?")
        desk.get_by_text(said).wait_for()
        assert (desk.get_by_text("no speech").count() > 0) == (name == "sound")
        desk.keyboard.press("Escape")


def test_the_clip_of_the_next_item_is_there_before_it_is_shown(desk: Any, world: World) -> None:
    clip = world.media["a"][1]
    world.add("b", "audio/*", clip, endpoint="sound", said="ten of clubs")
    desk.goto(f"{world.url}/#/review/sound")
    desk.locator(".wave path").wait_for()
    until(desk, f"{FETCHED} === 2")
    drawn(desk)
    desk.context.set_offline(True)
    desk.keyboard.press("Enter")
    desk.get_by_text("1 judged by you now").wait_for()
    desk.locator(".wave path").wait_for()  # drawn without any connection
    until(desk, "document.querySelector('audio').readyState >= 3")
    desk.context.set_offline(False)
