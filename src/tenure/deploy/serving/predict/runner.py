"""Load versions and run them on batches: work-conserving, deadline first, poison items apart."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from tenure.clock import Clock
from tenure.deploy.serving.predict.pace import Pace
from tenure.errors import BusyError
from tenure.model.pipeline import Result
from tenure.types import Failed, Input, Prediction

MAX_BATCH = 64
_log = logging.getLogger("tenure.serving")


class Model(Protocol):
    """A loaded version: a batch in, one result per item out, in order."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def run(self, batch: Sequence[Input]) -> Sequence[Result]: ...


class Job(Protocol):
    """What waits in front of a version.

    Attributes:
        item: the decoded input.
        start_ns: monotonic time of its arrival.
        expires_ns: monotonic time after which nobody wants the answer; 0 = never.
        gone: nobody wants the answer any more.
        settled: it has its answer.
        alone: its item is a whole batch by itself.
    """

    item: Any
    start_ns: int
    expires_ns: int
    gone: bool
    settled: bool
    alone: bool


class Batch(NamedTuple):
    """Jobs that ran, or fell, together: `results` in their order, or `error` for all of them.

    `expired` jobs were not computed; `items` are the inputs as the model saw them; `taken_ns` is when they left
    the queue.
    """

    jobs: Sequence[Any]
    items: Sequence[Input]
    taken_ns: int
    results: Sequence[Result] | None = None
    error: BaseException | None = None
    expired: bool = False


class Runner:
    """The queue in front of one version.

    A batch starts as soon as the runner is free and takes whatever waits, the earliest deadline first and at most
    as much as the earliest deadline allows; a lone request never waits for company. Expired and abandoned work is
    not computed. `inline` runs on the event loop, for models far below a millisecond; otherwise one thread runs
    the model.

    Args:
        model: the loaded version.
        clock: for arrival, expiry and the learnt pace.
        pool: the threads; None = inline.
        gather: makes the batch of inputs from the items of the jobs.
        finish: is called with each batch that is done.
        budget_ns: within how long of its arrival a request should be answered; sizes batches, drops nothing.
    """

    def __init__(
        self, model: Model, *, clock: Clock, pool: ThreadPoolExecutor | None,
        gather: Callable[[Sequence[Any]], Sequence[Input]], finish: Callable[[Runner, Batch], None],
        budget_ns: int = 0,
    ) -> None:  # fmt: skip
        self.model = model
        self.pace = Pace(MAX_BATCH)
        self._clock = clock
        self._pool = pool
        self._gather, self._finish = gather, finish
        self._budget_ns = budget_ns
        self._waiting: list[tuple[int, int, Any]] = []  # a heap of (deadline, number, job)
        self._number = itertools.count()
        self._busy = False
        self._running = 0
        self._rows = 0  # items that wait

    def queued_us(self) -> float:
        """Return the work that waits or runs, in microseconds."""
        n = self._rows + self._running
        return self.pace.queue_us(n) if n else 0.0

    def put(self, job: Any, *, last: bool = False) -> None:
        """Queue one job; `kick` starts it. `last`: behind everything that has a deadline."""
        due = job.expires_ns or (job.start_ns + self._budget_ns if self._budget_ns and not last else _NEVER)
        heapq.heappush(self._waiting, (due, next(self._number), job))
        self._rows += len(job.item) if job.alone else 1

    def kick(self) -> None:
        """Start a batch now if the model is free."""
        if not self._busy and self._waiting:
            self._busy = True
            self._start()

    def _start(self) -> None:
        jobs, expired, now, due = self._take()
        if expired:
            self._finish(self, Batch(expired, (), now, expired=True))
        if not jobs:
            self._busy = bool(self._waiting)
            if self._busy:
                asyncio.get_running_loop().call_soon(self._start)
            return
        items = jobs[0].item if jobs[0].alone else self._gather([job.item for job in jobs])
        self._running = len(items)
        if self._pool is None:
            try:
                done = Batch(jobs, items, now, results=self.model.run(items))
            except Exception as error:  # noqa: BLE001  # the queue must live on whatever a model does
                done = Batch(jobs, items, now, error=error)
            self._end(done, due)
            return
        try:
            task = asyncio.get_running_loop().run_in_executor(self._pool, self.model.run, items)
        except RuntimeError as error:  # the pool is closed: the worker ends
            self._end(Batch(jobs, items, now, error=error), due)
            return
        task.add_done_callback(lambda done: self._end(_ended(jobs, items, now, done), due))
        last = min((job.expires_ns for job in jobs if job.expires_ns), default=0)
        if last:
            asyncio.get_running_loop().call_later(max(0.0, (last - now) / 1e9), self._overdue, jobs)

    def _overdue(self, jobs: Sequence[Any]) -> None:
        """Give up those of a running batch whose time is over; the model's answer will find nobody waiting."""
        now = self._clock.monotonic_ns()
        late = [job for job in jobs if not job.gone and not job.settled and 0 < job.expires_ns <= now]
        if late:
            self._finish(self, Batch(late, (), now, expired=True))
            for job in late:
                job.gone = True
        left = [job.expires_ns for job in jobs if not job.gone and not job.settled and job.expires_ns]
        if left:
            delay = max(0.0, (min(left) - now) / 1e9)
            asyncio.get_running_loop().call_later(delay, self._overdue, jobs)

    def _take(self) -> tuple[list[Any], list[Any], int, int]:
        """Return (jobs to run, jobs that expired, now, the earliest deadline among those to run)."""
        now = self._clock.monotonic_ns()
        jobs: list[Any] = []
        expired: list[Any] = []
        due, size = _NEVER, MAX_BATCH
        waiting = self._waiting
        while waiting and len(jobs) < size:
            deadline, _, job = waiting[0]
            alone = job.alone
            if jobs and alone:
                break
            heapq.heappop(waiting)
            self._rows -= len(job.item) if alone else 1
            if job.gone:
                continue
            if 0 < job.expires_ns <= now:
                expired.append(job)
                continue
            if alone:
                return [job], expired, now, deadline
            if not jobs:
                due = deadline
                left = math.inf if deadline == _NEVER else (deadline - now) / 1000
                size = self.pace.size(len(waiting) + 1, left)
            jobs.append(job)
        return jobs, expired, now, due

    def _end(self, batch: Batch, due: int) -> None:
        now = self._clock.monotonic_ns()
        self.pace.learn(self._running, (now - batch.taken_ns) / 1000, met=now <= due)
        self._running = 0
        try:
            self._finish(self, batch)
        finally:
            if self._waiting:  # let the event loop breathe between two batches
                asyncio.get_running_loop().call_soon(self._start)
            else:
                self._busy = False


_NEVER = 2**63


def _ended(jobs: Sequence[Any], items: Sequence[Input], taken_ns: int, done: asyncio.Future[Any]) -> Batch:
    if done.cancelled():
        return Batch(jobs, items, taken_ns, error=asyncio.CancelledError())
    error = done.exception()
    return Batch(jobs, items, taken_ns, results=None if error else done.result(), error=error)


class Fleet:
    """The versions that this process holds, each behind its runner.

    Args:
        load: loads a version; raises where it cannot.
        clock: the clock of the runners.
        inline: says whether a version runs on the event loop.
    """

    def __init__(self, load: Callable[[str], Model], *, clock: Clock, inline: Callable[[str], bool]) -> None:
        self._load = load
        self._clock = clock
        self._inline = inline
        self._runners: dict[str, Runner] = {}
        self._models: dict[str, tuple[Model, ThreadPoolExecutor | None]] = {}
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="model")
        # Loads follow each other; the other threads are for those that come while earlier ones hang for ever.
        self._loading = ThreadPoolExecutor(max_workers=4, thread_name_prefix="load")

    def has(self, version: str) -> bool:
        return version in self._models

    def versions(self) -> tuple[str, ...]:
        return tuple(self._models)

    def runner(
        self, version: str, make: Callable[[Model, ThreadPoolExecutor | None], Runner] | None = None
    ) -> Runner:
        """Return the runner, made at its first use; raises BusyError while the version is not loaded."""
        found = self._runners.get(version)
        if found is not None:
            return found
        if version not in self._models or make is None:
            raise BusyError(f"version {version} is not loaded yet", code="not_ready", at=version)
        found = self._runners[version] = make(*self._models[version])
        return found

    async def load(self, version: str) -> None:
        """Load a version in the background and smoke-test it before it may answer."""
        model = await asyncio.get_running_loop().run_in_executor(self._loading, self._load, version)
        self._models.setdefault(version, (model, None if self._inline(version) else self._pool))

    def keep_only(self, versions: set[str]) -> None:
        """Drop what no routing names any more."""
        for version in self._models.keys() - versions:
            del self._models[version]
            self._runners.pop(version, None)

    def queued_us(self) -> float:
        total = 0.0
        for runner in self._runners.values():
            total += runner.queued_us()
        return total

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._loading.shutdown(wait=False, cancel_futures=True)


def outcome(batch: Batch) -> tuple[Sequence[Prediction | Failed], Sequence[tuple[int, ...]]]:
    """Return the predictions and stage times of a batch, also of one that expired or fell as a whole."""
    results = batch.results
    if results is not None:
        predictions = getattr(results, "predictions", None)
        if predictions is not None:
            return predictions, results.stage_us  # type: ignore[attr-defined]
        return [r.prediction for r in results], [r.stage_us for r in results]
    if batch.expired:
        fell = Failed("expired", late=True)
    else:
        _log.error("a batch failed below the pipeline", exc_info=batch.error)
        fell = Failed(f"{type(batch.error).__name__}: {batch.error}"[:500])
    return [fell] * len(batch.jobs), [()] * len(batch.jobs)


def select(items: Sequence[Input], indices: Sequence[int]) -> Sequence[Input]:
    """Return the inputs with these numbers, in this order."""
    some = getattr(items, "select", None)
    return some(indices) if some is not None else [items[i] for i in indices]
