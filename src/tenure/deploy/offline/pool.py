"""Score batches in order, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tenure.clock import SystemClock
from tenure.deploy.offline.force import Rules
from tenure.deploy.offline.rows import Item, Scored
from tenure.deploy.offline.score import Load, Plan, Scorer
from tenure.errors import ModelError


class Alone:
    """Scores in this process."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def map(self, batches: Iterable[Sequence[Item]], rules: Rules) -> Iterator[Scored]:
        """Yield what became of each batch, in order."""
        for batch in batches:
            yield self._scorer.score(batch, rules)

    def close(self) -> None:
        """Nothing is held."""


class Pool:
    """Scores in several processes, each with the version loaded; they end with this one, however it ends."""

    def __init__(self, plan: Plan, load: Load, workers: int) -> None:
        self._ahead = 2 * workers
        self._pool = ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(plan, load)
        )

    def map(self, batches: Iterable[Sequence[Item]], rules: Rules) -> Iterator[Scored]:
        """Yield what became of each batch, in order; raises ModelError where a process died or could not load."""
        running: deque[Future[Scored]] = deque()
        try:
            for batch in batches:
                running.append(self._pool.submit(_score, batch, rules))
                if len(running) > self._ahead:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool as error:
            raise ModelError("a scoring process ended: out of memory, or the model cannot be loaded") from error

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


_here: list[Scorer] = []
"""The scorer of this worker process."""


def _start(plan: Plan, load: Load) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that commits
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    _here.append(Scorer(plan, load(plan.version), clock=SystemClock()))


def _follow(parent: Any) -> None:
    """End with the process that started this one; a pool's processes would wait for work for ever."""
    parent.join()
    os._exit(1)


def _score(batch: Sequence[Item], rules: Rules) -> Scored:
    return _here[0].score(batch, rules)
