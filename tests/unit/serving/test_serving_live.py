"""The table in force: swapped whole, loads behind its back, and a warm roll-back waits for nothing."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from serving_world import World, ask, pipeline

from tenure.deploy.router import Endpoint, Policy
from tenure.errors import BusyError
from tenure.types import Level

FULL = Policy(1, Level.FULL, audit=0.0)


class Slow:
    """A loader whose loads of one version wait at a gate."""

    def __init__(self, version: str) -> None:
        self.version, self.gate, self.loads = version, threading.Event(), list[str]()

    def __call__(self, version: str) -> Any:
        self.loads.append(version)
        if version == self.version:
            self.gate.wait(60)
        return pipeline(version)


def test_nothing_is_answered_before_the_first_table(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        core = world.core()
        with pytest.raises(BusyError) as caught:
            await core.predict(ask(key="k"))
        assert (caught.value.code, caught.value.status) == ("not_ready", 503)
        assert world.page.slot(0).state == "starting"
        world.at(Level.FULL)
        await world.ready(core)
        assert world.page.slot(0).state == "ready"
        assert (await core.predict(ask(key="k"))).status == "decided", "the refused key is free"

    asyncio.run(work())
    world.close()


def test_a_new_version_loads_while_the_old_one_answers(tmp_path: Path) -> None:
    load = Slow("m@2")
    world = World(tmp_path, load=load)

    async def work() -> None:
        world.publish(Endpoint("m@1", FULL))
        core = await world.ready(world.core())
        world.publish(Endpoint("m@2", FULL))
        core.poll()
        answer = await core.predict(ask())
        assert answer.decision is not None
        assert answer.decision.version == "m@1"
        assert world.page.acknowledged() == 1
        load.gate.set()
        await world.ready(core)
        answer = await core.predict(ask())
        assert answer.decision is not None
        assert answer.decision.version == "m@2"
        assert world.page.acknowledged() == 2

    asyncio.run(work())
    assert [(r["version"], r["routing"]) for r in world.rows()] == [("m@1", 1), ("m@2", 2)]
    world.close()


def test_a_warm_roll_back_is_in_force_for_the_very_next_request(tmp_path: Path) -> None:
    """Even while another version is loading: the answer after the page moved is the old version's."""
    load = Slow("m@3")
    world = World(tmp_path, load=load)

    async def work() -> None:
        world.publish(Endpoint("m@1", FULL, candidate="m@2", share=1.0))
        core = await world.ready(world.core())
        world.publish(Endpoint("m@3", FULL, warm=("m@1", "m@2")))
        core.poll()
        world.publish(Endpoint("m@1", FULL, warm=("m@2",)))
        answer = await core.predict(ask())
        assert answer.decision is not None
        assert answer.decision.version == "m@1"
        assert world.page.acknowledged() == 3
        load.gate.set()
        while core.live._loading is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert set(core._fleet.versions()) == {"m@1", "m@2"}, "what was loaded for a table long gone is let go"

    asyncio.run(work())
    assert [r["routing"] for r in world.rows()] == [3]
    world.close()


def test_a_version_that_cannot_be_loaded_leaves_its_requests_to_people(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        world.publish(Endpoint("m@1", FULL, candidate="broken@1", share=0.5))
        core = await world.ready(world.core())
        answers = [await core.predict(ask()) for _ in range(40)]
        by = {a.status for a in answers}
        assert by == {"decided", "pending"}

    asyncio.run(work())
    rows = world.rows()
    assert {(r["version"], r["route"]) for r in rows} == {("m@1", "auto"), ("broken@1", "pending")}
    assert {r["status"] for r in rows if r["version"] == "broken@1"} == {"failed"}
    world.close()


def test_a_broken_version_is_tried_again_when_it_is_named_anew(tmp_path: Path) -> None:
    load = Slow("none")
    world = World(tmp_path, load=load)

    async def work() -> None:
        for route in (Endpoint("broken@1", FULL), Endpoint("m@1", FULL), Endpoint("broken@1", FULL)):
            world.publish(route)
            core = world.cores[0] if world.cores else world.core()
            await world.ready(core)

    asyncio.run(work())
    assert load.loads == ["broken@1", "m@1", "broken@1"]
    world.close()


def test_a_table_that_cannot_be_read_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        world.at(Level.FULL)
        core = await world.ready(world.core())
        (tmp_path / "routing" / "2.json").write_bytes(b'{"version": 2')
        world.page.routing = 2
        assert (await core.predict(ask())).status == "decided"
        assert core.live.table is not None
        assert core.live.table.version == 1

    asyncio.run(work())
    world.close()


def test_a_row_names_the_table_that_assigned_it_though_another_came_meanwhile(tmp_path: Path) -> None:
    """A candidate's answer that was in hand during a roll-back is of the canary's table, not of the newer one."""
    world = World(tmp_path)

    async def work() -> None:
        world.publish(Endpoint("m@1", FULL, candidate="m@2", share=1.0))
        core = await world.ready(world.core())
        finish = core.answering._finish

        def slow(*args: Any) -> None:
            world.publish(Endpoint("m@1", FULL, warm=("m@2",)))
            core.poll()
            assert core.live.version == 2
            finish(*args)

        core.answering._finish = slow  # type: ignore[method-assign]
        await core.predict(ask())

    asyncio.run(work())
    assert [(r["version"], r["role"], r["routing"]) for r in world.rows()] == [("m@2", "candidate", 1)]
    world.close()
