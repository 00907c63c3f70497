"""A model that is too late: who waits, who asks a person, who falls back, who refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serving_world import LABELS, NUMBER, World, ask

from tenure.clock import ManualClock, SystemClock
from tenure.deploy.serving.predict.core import Core
from tenure.errors import BusyError, CaseError
from tenure.model.pipeline import Pipeline
from tenure.model.stage import adapt
from tenure.scope.project import Fallback, Serve
from tenure.types import Answer, Level, Prediction


class Stuck:
    """A model that waits for its gate."""

    def __init__(self) -> None:
        self.gate, self.batches = threading.Event(), list[int]()

    def predict(self, batch: Sequence[Any]) -> list[Prediction]:
        self.batches.append(len(batch))
        self.gate.wait(60)
        return [Prediction("big", 0.9) for _ in batch]


def world_of(folder: Path, serve: Serve, model: Stuck) -> World:
    spec = msgspec.structs.replace(NUMBER, serve=serve)
    world = World(
        folder, spec=spec, clock=SystemClock(), load=lambda v: Pipeline([("s", adapt(model))], output=LABELS)
    )
    world.at(Level.FULL, audit=0.0)
    return world


def in_threads(core: Core) -> Core:
    core._fleet._inline = lambda version: False
    return core


FALL = Fallback(decide="small", after=30.0)


@pytest.mark.parametrize("how", ["person", "fallback", "refuse"])
def test_who_is_too_late_is_not_waited_for(tmp_path: Path, how: Any) -> None:
    """The budget passes while the model is at it: the caller is answered, the late answer finds nobody."""
    model = Stuck()
    world = world_of(tmp_path, Serve(latency=0.05, on_overrun=how, on_timeout=FALL), model)

    async def work() -> Any:
        core = await world.ready(in_threads(world.core()))
        try:
            return await core.predict(ask())
        except CaseError as error:
            return error
        finally:
            model.gate.set()
            while core._fleet.queued_us():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    found = asyncio.run(work())
    (row,) = world.rows()
    assert row["status"] == "expired"
    if how == "refuse":
        assert (found.status, found.code, row["route"]) == (504, "deadline_exceeded", "refused")
    elif how == "fallback":
        assert (found.status, found.decision.value, found.decision.by) == ("decided", "small", "fallback")
        assert (row["route"], row["by"]) == ("fallback", "fallback")
    else:
        assert (found.status, found.decision, row["route"]) == ("pending", None, "pending")
    world.close()


def test_without_a_rule_the_model_is_waited_for(tmp_path: Path) -> None:
    model = Stuck()
    world = world_of(tmp_path, Serve(latency=0.01), model)

    async def work() -> Answer:
        core = await world.ready(in_threads(world.core()))
        asked = asyncio.create_task(core.predict(ask()))
        while not model.batches:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert not asked.done()
        model.gate.set()
        return await asked

    assert asyncio.run(work()).status == "decided"
    assert world.rows()[0]["over_budget"]
    world.close()


def test_a_fallback_s_answer_is_the_same_when_it_is_asked_for_again(tmp_path: Path) -> None:
    model = Stuck()
    world = world_of(tmp_path, Serve(latency=0.02, on_overrun="fallback", on_timeout=FALL), model)

    async def work() -> list[Answer]:
        core = await world.ready(in_threads(world.core()))
        first = await core.predict(ask(key="k"))
        model.gate.set()
        core.pending.book._answers.clear()
        return [first, await core.predict(ask(key="k")), await core.decision("", first.id, 0)]

    first, *others = asyncio.run(work())
    assert others == [first, first]
    world.close()


def test_a_stage_that_overruns_its_budget_ends_the_work(tmp_path: Path, clock: ManualClock) -> None:
    """What is left of the pipeline is not run."""
    ran: list[str] = []

    def slow(batch: list[Any]) -> list[Any]:
        clock.advance(0.2)
        return batch

    def judge(batch: list[Any]) -> list[Prediction]:
        ran.append("judge")
        return [Prediction("big", 0.9) for _ in batch]

    def load(version: str) -> Pipeline:
        made = Pipeline([("slow", adapt(slow)), ("judge", adapt(judge))], output=LABELS, clock=clock)
        made.budgets = {"slow": 0.1, "judge": 0.1}
        return made

    spec = msgspec.structs.replace(NUMBER, serve=Serve(on_overrun="refuse"))
    world = World(tmp_path, spec=spec, clock=clock, load=load)
    world.at(Level.FULL)

    async def work() -> None:
        core = await world.ready(world.core())
        with pytest.raises(CaseError) as caught:
            await core.predict(ask())
        assert caught.value.status == 504

    asyncio.run(work())
    assert ran == []
    assert world.rows()[0]["status"] == "expired"
    world.close()


def test_work_that_would_come_too_late_is_refused_at_the_door(tmp_path: Path) -> None:
    model = Stuck()
    world = world_of(tmp_path, Serve(), model)

    async def work() -> None:
        core = await world.ready(in_threads(world.core()))
        first = asyncio.create_task(core.predict(ask()))
        while not model.batches:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        waiting = [asyncio.create_task(core.predict(ask())) for _ in range(50)]
        while sum(runner._rows for runner in core._fleet._runners.values()) < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        with pytest.raises(BusyError) as caught:
            await core.predict(ask(deadline_s=0.001))
        assert caught.value.retry_after > 0
        model.gate.set()
        await asyncio.gather(first, *waiting)

    asyncio.run(work())
    assert len(world.rows()) == 51
    world.close()
