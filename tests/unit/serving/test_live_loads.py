"""Loads that fail, hang or come too late, and what is let go when a version is dropped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serving_world import pipeline

from tenure.clock import ManualClock
from tenure.deploy.router import Endpoint, Policy, Table
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.predict.live import Live
from tenure.deploy.serving.predict.runner import Fleet
from tenure.errors import ModelError
from tenure.types import Level

FULL = Policy(1, Level.FULL)


class Place:
    """One worker's routing: a page, a folder, a fleet with the given loader."""

    def __init__(self, folder: Path, load: Callable[[str], Any], **options: Any) -> None:
        (folder / "routing").mkdir()
        self.folder = folder
        self.page = ControlPage.create(folder / "control.page", workers=1)
        self.fleet = Fleet(load, clock=ManualClock(), inline=lambda version: True)
        self.given_back = threading.Event()
        self.live = Live(
            folder, self.page, self.page.slot(0), self.fleet, give_back=self.given_back.set, **options
        )

    def publish(self, *versions: str) -> None:
        number = self.page.routing + 1
        table = Table(number, 0, {v: Endpoint(v, FULL) for v in versions})
        (self.folder / "routing" / f"{number}.json").write_bytes(msgspec.json.encode(table))
        self.page.routing = number

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self.live.check()
            await asyncio.sleep(0.001)

    async def in_force(self) -> None:
        await self.until(lambda: self.live.version == self.page.routing)


class Loader:
    """Remembers what was asked for; some versions fail so many times, some wait at a gate."""

    def __init__(self, *, fails: dict[str, int] | None = None, waits: str = "") -> None:
        self.fails, self.waits, self.gate = fails or {}, waits, threading.Event()
        self.loads: list[str] = []

    def __call__(self, version: str) -> Any:
        self.loads.append(version)
        if version == self.waits:
            self.gate.wait(60)
        if self.fails.get(version, 0) > 0:
            self.fails[version] -= 1
            raise ModelError(f"{version} is not well today")
        return pipeline(version)


def test_a_version_that_could_not_be_loaded_is_tried_again_while_a_table_names_it(tmp_path: Path) -> None:
    loader = Loader(fails={"b@1": 3})
    place = Place(tmp_path, loader, pauses_s=(0.001, 0.002))

    async def work() -> None:
        place.publish("a@1", "b@1")
        await place.in_force()
        assert not place.fleet.has("b@1"), "the table did not wait for it"
        await place.until(lambda: place.fleet.has("b@1"))
        assert loader.loads == ["a@1", "b@1", "b@1", "b@1", "b@1"]
        assert place.live.version == 1, "no new table was needed"

    asyncio.run(work())
    place.fleet.close()


def test_a_broken_version_that_nobody_names_any_more_is_left_alone(tmp_path: Path) -> None:
    loader = Loader(fails={"b@1": 10**6})
    place = Place(tmp_path, loader, pauses_s=(0.01,))

    async def work() -> None:
        place.publish("a@1", "b@1")
        await place.in_force()
        place.publish("a@1")
        await place.until(lambda: place.live.version == 2 and place.live._loading is None)
        tried = len(loader.loads)
        await asyncio.sleep(0.03)  # longer than the pause: the timer has fired
        assert len(loader.loads) == tried

    asyncio.run(work())
    place.fleet.close()


def test_a_load_that_hangs_holds_a_table_back_for_a_bounded_time_only(tmp_path: Path) -> None:
    loader = Loader(waits="slow@1")
    place = Place(tmp_path, loader, load_s=0.05)

    async def work() -> None:
        place.publish("a@1")
        await place.in_force()
        place.publish("a@1", "slow@1")
        await place.in_force()
        assert not place.fleet.has("slow@1")
        loader.gate.set()

    asyncio.run(work())
    place.fleet.close()


def test_what_a_newer_table_no_longer_names_is_not_loaded_after_all(tmp_path: Path) -> None:
    loader = Loader(waits="slow@1")
    place = Place(tmp_path, loader)

    async def work() -> None:
        place.publish("slow@1", "late@1")
        await place.until(lambda: bool(loader.loads))
        place.publish("slow@1")
        place.live.check()
        loader.gate.set()
        await place.in_force()
        assert loader.loads == ["slow@1"]

    asyncio.run(work())
    place.fleet.close()


@pytest.mark.parametrize("drops", [True, False])
def test_memory_is_given_back_when_a_version_is_dropped_and_only_then(tmp_path: Path, drops: bool) -> None:
    place = Place(tmp_path, Loader())

    async def work() -> None:
        place.publish("a@1", "b@1")
        await place.in_force()
        place.publish(*(["a@1"] if drops else ["a@1", "b@1", "c@1"]))
        await place.in_force()
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(work())
    assert place.given_back.is_set() is drops
    place.fleet.close()


def test_a_start_loads_what_the_last_table_named_before_the_controller_is_up(tmp_path: Path) -> None:
    loader = Loader()
    place = Place(tmp_path, loader)
    place.publish("a@1")
    place.publish("a@1", "b@1")
    place.page.routing = 0  # a new page: nothing is in force yet

    async def work() -> None:
        place.live.foresee()
        await place.until(lambda: place.fleet.has("a@1") and place.fleet.has("b@1"))
        assert place.live.table is None
        place.page.routing = 2
        await place.in_force()
        place.page.routing = 0
        place.publish("c@1")  # number 1 again is no matter: what the page names counts
        await place.in_force()
        assert loader.loads == ["a@1", "b@1", "c@1"]
        assert place.fleet.versions() == ("c@1",)

    asyncio.run(work())
    place.fleet.close()
