"""The queue in front of a model: work-conserving, deadline first, and never stuck."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from tenure.clock import Clock, ManualClock
from tenure.deploy.serving.predict.runner import MAX_BATCH, Batch, Fleet, Model, Runner
from tenure.errors import BusyError
from tenure.model.pipeline import Pipeline, Result
from tenure.model.stage import adapt
from tenure.types import Failed, Input, Prediction


class Gated:
    """A model that waits at a gate and remembers its batches."""

    names = ("gated",)

    def __init__(self) -> None:
        self.batches: list[list[Input]] = []
        self.gate = threading.Event()
        self.entered = threading.Event()

    def run(self, batch: Sequence[Input]) -> list[Result]:
        self.batches.append(list(batch))
        self.entered.set()
        self.gate.wait(60)
        return [Result(Prediction(str(item), 1.0), (1,)) for item in batch]


class Faulty:
    """A model whose every second run raises, which no pipeline does."""

    names = ("faulty",)

    def __init__(self) -> None:
        self.runs = 0

    def run(self, batch: Sequence[Input]) -> list[Result]:
        self.runs += 1
        if self.runs % 2:
            raise RuntimeError("a fault below the pipeline")
        return [Result(Prediction("fine", 1.0), (1,)) for _ in batch]


@dataclass
class Job:
    item: Any
    start_ns: int
    expires_ns: int = 0
    gone: bool = False
    settled: bool = False
    alone: bool = False


@dataclass
class Line:
    """A runner whose finished batches are collected; `drained` waits until all jobs have their answer."""

    model: Model
    clock: Clock
    pool: ThreadPoolExecutor | None = None
    budget_ns: int = 0
    done: list[Batch] = field(default_factory=list)
    put: int = 0

    def __post_init__(self) -> None:
        self.runner = Runner(
            self.model,
            clock=self.clock,
            pool=self.pool,
            gather=list,
            finish=self._finish,
            budget_ns=self.budget_ns,
        )

    def _finish(self, runner: Runner, batch: Batch) -> None:
        for job in batch.jobs:
            job.settled = True
        self.done.append(batch)

    def add(self, *items: Any, expires_ns: int = 0, last: bool = False) -> list[Job]:
        jobs = [Job(item, self.clock.monotonic_ns(), expires_ns) for item in items]
        for job in jobs:
            self.runner.put(job, last=last)
        self.put += len(jobs)
        return jobs

    async def drained(self, without: int = 0) -> None:
        self.runner.kick()
        while sum(len(b.jobs) for b in self.done) < self.put - without:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    def said(self) -> dict[Any, Any]:
        return {
            job.item: batch.results[i].prediction if batch.results is not None else None
            for batch in self.done
            for i, job in enumerate(batch.jobs)
        }


async def until(event: threading.Event) -> None:
    await asyncio.get_running_loop().run_in_executor(None, event.wait, 60)


def in_thread(model: Model, clock: Clock, work: Callable[[Line], Any], *, budget_ns: int = 0) -> Line:
    """Run `work` on a line whose model runs in a thread."""

    async def whole() -> Line:
        with ThreadPoolExecutor(1) as pool:
            line = Line(model, clock, pool, budget_ns)
            await work(line)
            return line

    return asyncio.run(whole())


def test_a_batch_takes_what_waits_and_a_lone_request_waits_for_nobody(clock: ManualClock) -> None:
    model = Gated()

    async def work(line: Line) -> None:
        line.add("first")
        line.runner.kick()
        await until(model.entered)
        line.add(*(f"i{n}" for n in range(MAX_BATCH + 5)))
        line.runner.kick()
        assert line.runner.queued_us() > 0
        clock.advance(0.002)
        model.gate.set()
        await line.drained()

    line = in_thread(model, clock, work)
    assert [len(b) for b in model.batches] == [1, MAX_BATCH, 5]
    assert all(prediction == Prediction(item, 1.0) for item, prediction in line.said().items())
    assert len(line.said()) == MAX_BATCH + 6


def test_expired_and_abandoned_work_is_not_computed(clock: ManualClock) -> None:
    model = Gated()

    async def work(line: Line) -> None:
        line.add("first")
        line.runner.kick()
        await until(model.entered)
        line.add("late", expires_ns=clock.monotonic_ns() + 1000)
        (gone,) = line.add("gone")
        line.add("kept", expires_ns=clock.monotonic_ns() + 10**10)
        gone.gone = True
        clock.advance(1)
        model.gate.set()
        await line.drained(without=1)

    line = in_thread(model, clock, work)
    assert model.batches == [["first"], ["kept"]]
    assert [[j.item for j in b.jobs] for b in line.done if b.expired] == [["late"]]


def test_the_earliest_deadline_comes_first_and_shadows_last(clock: ManualClock) -> None:
    model = Gated()
    model.gate.set()

    async def work(line: Line) -> None:
        line.add("shadow", last=True)
        line.add("later", expires_ns=clock.monotonic_ns() + 10**12)
        line.add("sooner", expires_ns=clock.monotonic_ns() + 10**11)
        line.add("plain")
        await line.drained()

    in_thread(model, clock, work, budget_ns=10**10)
    assert model.batches == [["plain", "sooner", "later", "shadow"]]


def test_a_request_is_given_up_while_the_model_is_still_at_it(clock: ManualClock) -> None:
    model = Gated()

    async def work(line: Line) -> None:
        line.add("slow", expires_ns=clock.monotonic_ns() + 10_000_000)
        line.add("patient")
        line.runner.kick()
        await until(model.entered)
        clock.advance(0.02)
        while not line.done:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert [j.item for j in line.done[0].jobs] == ["slow"]
        assert line.done[0].expired
        model.gate.set()
        await line.drained()

    in_thread(model, clock, work)


@pytest.mark.parametrize("inline", [True, False])
def test_a_fault_below_the_pipeline_fails_its_batch_and_the_queue_lives_on(
    clock: ManualClock, inline: bool
) -> None:
    async def work() -> Line:
        with ThreadPoolExecutor(1) as pool:
            line = Line(Faulty(), clock, None if inline else pool)
            line.add("a", "b")
            await line.drained()
            line.add("c")
            await line.drained()
            return line

    line = asyncio.run(work())
    assert [type(b.error) for b in line.done] == [RuntimeError, type(None)]
    assert line.said() == {"a": None, "b": None, "c": Prediction("fine", 1.0)}


def test_a_poison_item_fails_alone(clock: ManualClock) -> None:
    def predict(texts: list[str]) -> list[str]:
        if "poison" in texts:
            raise ValueError("poison")
        return [t.upper() for t in texts]

    async def work() -> Line:
        line = Line(Pipeline([("upper", adapt(predict))]), clock)
        line.add("a", "poison", "b")
        await line.drained()
        return line

    said = asyncio.run(work()).said()
    assert isinstance(said["poison"], Failed)
    assert (said["a"], said["b"]) == (Prediction("A"), Prediction("B"))


def test_inline_batches_let_the_loop_breathe(clock: ManualClock) -> None:
    """Between two inline batches other callbacks run, so that replies and health go out."""
    seen: list[str] = []

    class Loud:
        names = ("loud",)

        def run(self, batch: Sequence[Input]) -> list[Result]:
            seen.append(f"batch {len(batch)}")
            asyncio.get_running_loop().call_soon(seen.append, "other")
            return [Result(Prediction("x"), (1,)) for _ in batch]

    async def work() -> None:
        line = Line(Loud(), clock)
        line.add(*(str(n) for n in range(MAX_BATCH + 1)))
        await line.drained()

    asyncio.run(work())
    assert seen == [f"batch {MAX_BATCH}", "other", "batch 1", "other"] or seen[:3] == [
        f"batch {MAX_BATCH}", "other", "batch 1",
    ]  # fmt: skip


def test_the_fleet_loads_in_the_background_and_forgets_what_is_not_named(clock: ManualClock) -> None:
    loop_thread = threading.get_ident()
    loaded_on: list[int] = []

    def load(version: str) -> Gated:
        loaded_on.append(threading.get_ident())
        return Gated()

    def make(model: Model, pool: ThreadPoolExecutor | None) -> Runner:
        return Line(model, clock, pool).runner

    async def work() -> None:
        fleet = Fleet(load, clock=clock, inline=lambda version: True)
        with pytest.raises(BusyError) as caught:
            fleet.runner("a@1", make)
        assert (caught.value.code, caught.value.at) == ("not_ready", "a@1")
        await asyncio.gather(fleet.load("a@1"), fleet.load("b@1"))
        runner = fleet.runner("a@1", make)
        await fleet.load("a@1")
        assert fleet.runner("a@1", make) is runner, "a version loaded twice keeps its queue"
        fleet.keep_only({"b@1"})
        assert fleet.versions() == ("b@1",)
        fleet.close()

    asyncio.run(work())
    assert loop_thread not in loaded_on
