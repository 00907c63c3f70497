"""Load versions and run them on batches: work-conserving, off the event loop, poison items apart."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from tenure.clock import Clock
from tenure.errors import BusyError
from tenure.model.pipeline import Result
from tenure.types import Failed, Input

MAX_BATCH = 64


class Model(Protocol):
    """A loaded version: a batch in, one result per item out, in order."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def run(self, batch: Sequence[Input]) -> list[Result]: ...


class _Work(NamedTuple):
    item: Input
    future: asyncio.Future[tuple[Result, int]]
    came_ns: int
    deadline_ns: int  # monotonic; 0 = none


class Runner:
    """The queue in front of one version.

    A batch starts as soon as the runner is free and takes whatever waits, at most `MAX_BATCH`; a lone request
    never waits for company. Expired and abandoned work is not computed. `inline` runs on the event loop, for
    models far below a millisecond; otherwise one thread runs the model.
    """

    def __init__(self, model: Model, *, clock: Clock, pool: ThreadPoolExecutor | None) -> None:
        self.model = model
        self._clock = clock
        self._pool = pool
        self._waiting: deque[_Work] = deque()
        self._busy = False
        self._item_us = 1000.0  # moving average of the cost of one item

    def queued_us(self) -> float:
        """Return the work that waits, in microseconds."""
        return len(self._waiting) * self._item_us

    async def run(self, item: Input, *, deadline_ns: int = 0) -> tuple[Result, int]:
        """Answer one item; returns (result, microseconds in the queue)."""
        loop = asyncio.get_running_loop()
        work = _Work(item, loop.create_future(), self._clock.monotonic_ns(), deadline_ns)
        self._waiting.append(work)
        if not self._busy:
            self._busy = True
            loop.call_soon(self._start)
        return await work.future

    def _start(self) -> None:
        batch, now = self._take()
        if not batch:
            self._busy = False
            return
        items = [work.item for work in batch]
        if self._pool is None:
            try:
                results = self.model.run(items)
            except Exception as error:  # noqa: BLE001  # the queue must live on whatever a model does
                self._fail(batch, error)
            else:
                self._finish(batch, now, results)
            return
        task = asyncio.get_running_loop().run_in_executor(self._pool, self.model.run, items)
        task.add_done_callback(lambda done: self._done(batch, now, done))

    def _take(self) -> tuple[list[_Work], int]:
        now = self._clock.monotonic_ns()
        batch: list[_Work] = []
        while self._waiting and len(batch) < MAX_BATCH:
            work = self._waiting.popleft()
            if work.future.done():  # the caller went away
                continue
            if 0 < work.deadline_ns <= now:
                work.future.set_result((Result(Failed("expired"), ()), (now - work.came_ns) // 1000))
                continue
            batch.append(work)
        return batch, now

    def _done(self, batch: list[_Work], start_ns: int, done: asyncio.Future[list[Result]]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            self._finish(batch, start_ns, done.result())
        else:
            self._fail(batch, error)

    def _fail(self, batch: list[_Work], error: BaseException) -> None:
        for work in batch:
            if not work.future.done():
                work.future.set_exception(error)
        self._next()

    def _finish(self, batch: list[_Work], start_ns: int, results: list[Result]) -> None:
        spent = (self._clock.monotonic_ns() - start_ns) / 1000 / len(batch)
        self._item_us += 0.1 * (spent - self._item_us)
        for work, result in zip(batch, results, strict=True):
            if not work.future.done():
                work.future.set_result((result, (start_ns - work.came_ns) // 1000))
        self._next()

    def _next(self) -> None:
        if self._pool is None and self._waiting:  # let the event loop breathe between two inline batches
            asyncio.get_running_loop().call_soon(self._start)
        else:
            self._start()


class Fleet:
    """The versions that this process holds, each behind its runner."""

    def __init__(self, load: Callable[[str], Model], *, clock: Clock, inline: Callable[[str], bool]) -> None:
        self._load = load
        self._clock = clock
        self._inline = inline
        self._runners: dict[str, Runner] = {}
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="model")
        self._loading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")

    def has(self, version: str) -> bool:
        return version in self._runners

    def versions(self) -> tuple[str, ...]:
        return tuple(self._runners)

    def runner(self, version: str) -> Runner:
        """Return the runner; raises BusyError while the version is not loaded."""
        try:
            return self._runners[version]
        except KeyError:
            raise BusyError(f"version {version} is not loaded yet", code="not_ready", at=version) from None

    async def load(self, version: str) -> None:
        """Load a version in the background and smoke-test it before it may answer."""
        model = await asyncio.get_running_loop().run_in_executor(self._loading, self._load, version)
        pool = None if self._inline(version) else self._pool
        self._runners.setdefault(version, Runner(model, clock=self._clock, pool=pool))

    def keep_only(self, versions: set[str]) -> None:
        """Drop what no routing names any more."""
        for version in self._runners.keys() - versions:
            del self._runners[version]

    def queued_us(self) -> float:
        return sum(runner.queued_us() for runner in self._runners.values())

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._loading.shutdown(wait=False, cancel_futures=True)
