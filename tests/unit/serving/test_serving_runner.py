"""The queue in front of a model: work-conserving, fair, and never stuck."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tenure.clock import ManualClock
from tenure.deploy.serving.runner import MAX_BATCH, Fleet, Runner
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
        self.gate.wait(10)
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


async def until(event: threading.Event) -> None:
    await asyncio.get_running_loop().run_in_executor(None, event.wait, 10)


def test_a_batch_takes_what_waits_and_a_lone_request_waits_for_nobody(clock: ManualClock) -> None:
    model = Gated()

    async def work() -> list[tuple[Result, int]]:
        with ThreadPoolExecutor(1) as pool:
            runner = Runner(model, clock=clock, pool=pool)
            tasks = [asyncio.create_task(runner.run("first"))]
            await until(model.entered)
            tasks += [asyncio.create_task(runner.run(f"i{n}")) for n in range(MAX_BATCH + 5)]
            await asyncio.sleep(0)
            assert runner.queued_us() > 0
            clock.advance(0.002)
            model.gate.set()
            return await asyncio.gather(*tasks)

    answers = asyncio.run(work())
    assert [len(b) for b in model.batches] == [1, MAX_BATCH, 5]
    said = [a.prediction.value for a, _ in answers if isinstance(a.prediction, Prediction)]
    assert said == ["first", *(f"i{n}" for n in range(MAX_BATCH + 5))]
    assert answers[0][1] == 0
    assert answers[1][1] == 2000


def test_expired_and_abandoned_work_is_not_computed(clock: ManualClock) -> None:
    model = Gated()

    async def work() -> Result:
        with ThreadPoolExecutor(1) as pool:
            runner = Runner(model, clock=clock, pool=pool)
            first = asyncio.create_task(runner.run("first"))
            await until(model.entered)
            late = asyncio.create_task(runner.run("late", deadline_ns=clock.monotonic_ns() + 1000))
            gone = asyncio.create_task(runner.run("gone"))
            kept = asyncio.create_task(runner.run("kept", deadline_ns=clock.monotonic_ns() + 10**10))
            await asyncio.sleep(0)
            gone.cancel()
            clock.advance(1)
            model.gate.set()
            await asyncio.gather(first, kept)
            return (await late)[0]

    assert asyncio.run(work()).prediction == Failed("expired")
    assert model.batches == [["first"], ["kept"]]


@pytest.mark.parametrize("inline", [True, False])
def test_a_fault_below_the_pipeline_fails_its_batch_and_the_queue_lives_on(
    clock: ManualClock, inline: bool
) -> None:
    async def work() -> tuple[list[BaseException | tuple[Result, int]], Result]:
        with ThreadPoolExecutor(1) as pool:
            runner = Runner(Faulty(), clock=clock, pool=None if inline else pool)
            failed = await asyncio.gather(runner.run("a"), runner.run("b"), return_exceptions=True)
            return failed, (await runner.run("c"))[0]

    failed, fine = asyncio.run(work())
    assert [type(f) for f in failed] == [RuntimeError, RuntimeError]
    assert fine.prediction == Prediction("fine", 1.0)


def test_a_poison_item_fails_alone(clock: ManualClock) -> None:
    def predict(texts: list[str]) -> list[str]:
        if "poison" in texts:
            raise ValueError("poison")
        return [t.upper() for t in texts]

    async def work() -> list[tuple[Result, int]]:
        runner = Runner(Pipeline([("upper", adapt(predict))]), clock=clock, pool=None)
        return await asyncio.gather(*(runner.run(t) for t in ["a", "poison", "b"]))

    a, poison, b = (answer.prediction for answer, _ in asyncio.run(work()))
    assert isinstance(poison, Failed)
    assert (a, b) == (Prediction("A"), Prediction("B"))


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
        runner = Runner(Loud(), clock=clock, pool=None)
        await asyncio.gather(*(runner.run(str(n)) for n in range(MAX_BATCH + 1)))

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

    async def work() -> None:
        fleet = Fleet(load, clock=clock, inline=lambda version: True)
        with pytest.raises(BusyError) as caught:
            fleet.runner("a@1")
        assert (caught.value.code, caught.value.at) == ("not_ready", "a@1")
        await asyncio.gather(fleet.load("a@1"), fleet.load("b@1"))
        runner = fleet.runner("a@1")
        await fleet.load("a@1")
        assert fleet.runner("a@1") is runner, "a version loaded twice keeps its queue"
        fleet.keep_only({"b@1"})
        assert fleet.versions() == ("b@1",)
        fleet.close()

    asyncio.run(work())
    assert loop_thread not in loaded_on
