"""The page survives a lost network and a killed server: every judgement arrives once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from desk_world import World, drawn, sent, until

from tenure.scope import project as p

pytestmark = pytest.mark.browser

PROJECT = p.Project(
    project="inspection",
    scope=p.Scope(x="photo of a tile", y=p.Output(labels=("good", "defect"))),
    endpoints={"tiles": p.EndpointSpec(input="image")},
)
FETCHED = (
    "performance.getEntriesByType('resource').filter(r => r.name.endsWith('/media') && r.responseEnd).length"
)
OUTBOX = "JSON.parse(localStorage.getItem('tenure.outbox.local') ?? '[]').length"


def fill(world: World, data: Path) -> None:
    """Five real tiles."""
    folder = data / "images" / "magnetic_tile"
    lines = (folder / "index.jsonl").read_text().splitlines()[:5]
    for n, line in enumerate(lines):
        world.add(f"tile{n}", "image/*", (folder / json.loads(line)["file"]).read_bytes(), endpoint="tiles")


def ready(desk: Any, world: World) -> None:
    """Wait until the photos of the items ahead are in the page."""
    desk.goto(f"{world.url}/#/review/tiles")
    desk.locator(".stage img").wait_for()
    until(desk, f"{FETCHED} >= 3")
    drawn(desk)


def test_judgements_made_offline_arrive_once(desk: Any, world: World) -> None:
    ready(desk, world)
    desk.context.set_offline(True)
    for n in range(1, 4):  # three items are ahead
        desk.locator(".stage img").wait_for()
        drawn(desk)
        desk.keyboard.press("2")
        desk.get_by_text(f"{n} judged by you now").wait_for()
    until(desk, f"{OUTBOX} === 3")
    assert world.judgements() == []
    desk.context.set_offline(False)
    sent(desk, 3)
    rows = world.judgements()
    assert len({r["item"] for r in rows}) == len(rows) == 3


def test_a_killed_server_loses_and_doubles_nothing(desk: Any, world: World) -> None:
    """The server dies after storing a judgement and before its answer; the page is loaded anew meanwhile."""
    ready(desk, world)
    stored: list[str] = []
    dead: list[bool] = []
    back: list[bool] = []

    def die(route: Any) -> None:
        if back:
            route.continue_()
        elif stored:  # the page may try again before the server is quite dead
            route.abort("connectionrefused")
        else:
            stored.append(route.request.headers["idempotency-key"])
            route.fetch()
            world.kill()
            dead.append(True)
            route.abort("connectionreset")

    desk.route("**/judgements", die)
    desk.keyboard.press("2")
    desk.get_by_text("1 judged by you now").wait_for()
    until(desk, f"{OUTBOX} === 1")
    until(desk, lambda: dead)  # the page does not wait for the server, and fetching lets the test run on
    assert len(world.judgements()) == 1
    drawn(desk)
    desk.keyboard.press("1")
    desk.get_by_text("2 judged by you now").wait_for()
    until(desk, f"{OUTBOX} === 2")
    world.start()
    back.append(True)
    desk.reload()
    until(desk, f"{OUTBOX} === 0")
    rows = world.judgements()
    assert [r["value"] for r in rows] == ["defect", "good"]
    assert len({r["item"] for r in rows}) == 2
