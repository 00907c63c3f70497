"""Versions that answer after the reply, unseen: whole batches, from a bounded queue, behind all else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import ClassVar

from tenure.clock import Clock
from tenure.deploy.router import Endpoint
from tenure.deploy.serving.control_page import Slot
from tenure.deploy.serving.predict.desk import Desk, as_logged
from tenure.deploy.serving.predict.runner import Batch, Fleet, Runner, outcome, select
from tenure.deploy.serving.predict.work import Lane
from tenure.model.answer import Scores
from tenure.seeds import request_draw
from tenure.types import Failed, Input, Level

_log = logging.getLogger("tenure.serving")


class Shadow:
    """Requests that a version answers after their replies, as one job of its runner."""

    __slots__ = ("desk", "expires_ns", "gone", "item", "seqs", "settled", "spare", "start_ns", "version")
    alone: ClassVar[bool] = True

    def __init__(
        self, desk: Desk, version: str, *, seqs: Sequence[int], item: Sequence[Input], spare: Sequence[bool],
        start_ns: int,
    ) -> None:  # fmt: skip
        self.desk, self.version, self.seqs, self.item, self.spare = desk, version, seqs, item, spare
        self.start_ns, self.expires_ns, self.gone, self.settled = start_ns, 0, False, False


class Shadows:
    """The shadow work of one worker.

    Args:
        runner: the queue in front of a version.
        most: requests that may wait or run; more are shed, and counted.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        slot: Slot,
        fleet: Fleet,
        run: int,
        runner: Callable[[Desk, str], Runner],
        most: int,
    ) -> None:
        self._clock, self._slot, self._fleet, self._run = clock, slot, fleet, run
        self._runner, self._most = runner, most
        self.waiting = 0

    def start(
        self, lane: Lane, desk: Desk, seqs: Sequence[int], items: Sequence[Input], *, spare: Sequence[bool]
    ) -> None:
        """Let shadow versions answer after the replies, on a lane that has some; those beyond the bound are shed.

        `spare` says of each request whether no person is asked about it.
        """
        route = lane.route
        assert route is not None
        for version, chosen in shadowed(route, lane, run=self._run, seqs=seqs).items():
            if not self._fleet.has(version):
                continue
            room = max(0, self._most - self.waiting)
            if len(chosen) > room:
                self._slot.add("shadows_shed", len(chosen) - room)
                chosen = chosen[:room]
            if not chosen:
                continue
            whole = len(chosen) == len(seqs)
            shadow = Shadow(
                desk, version, seqs=seqs if whole else [seqs[i] for i in chosen],
                item=items if whole else select(items, chosen),
                spare=spare if whole else [spare[i] for i in chosen], start_ns=self._clock.monotonic_ns(),
            )  # fmt: skip
            self.waiting += len(chosen)
            runner = self._runner(desk, version)
            runner.put(shadow, last=True)
            asyncio.get_running_loop().call_soon(runner.kick)

    def has_any(self, lane: Lane) -> bool:
        """Say whether other versions may see what came on a lane."""
        route = lane.route
        if route is None or lane.level == Level.HUMAN_ONLY:
            return False
        return bool(route.shadows) or lane.level == Level.SHADOW

    def done(self, job: Shadow, batch: Batch) -> None:
        """Log what a version said of requests that were answered before."""
        n = len(job.seqs)
        self.waiting -= n
        predictions, _ = outcome(batch)
        if len(predictions) != n:  # the batch fell as a whole
            predictions = [predictions[0]] * n
        self._slot.add("shadows", n)
        if type(predictions) is not Scores:
            predictions = [as_logged(p) for p in predictions]
            self._slot.add("failed", sum(isinstance(p, Failed) for p in predictions))
        try:
            job.desk.log_shadow(
                job.version, job.seqs, predictions, spare=job.spare, t_ns=self._clock.now_ns(),
                latency_us=(self._clock.monotonic_ns() - job.start_ns) // 1000,
            )  # fmt: skip
        except Exception:  # noqa: BLE001  # a shadow must never harm serving
            _log.exception("what shadow %s said is not in the log", job.version)


def shadowed(route: Endpoint, lane: Lane, *, run: int, seqs: Sequence[int]) -> dict[str, Sequence[int]]:
    """Return which of the requests each shadow version answers, by their place; never the one that answered."""
    always = [route.stable] if lane.level == Level.SHADOW and route.stable is not None else []
    drawn: Sequence[int] = range(len(seqs))
    if route.shadow < 1.0:
        salt = f"shadow:{route.salt}"
        drawn = [i for i, seq in enumerate(seqs) if request_draw(salt, run, seq) < route.shadow]
    named: dict[str, Sequence[int]] = dict.fromkeys(route.shadows, drawn)
    named |= dict.fromkeys(always, range(len(seqs)))
    return {v: chosen for v, chosen in named.items() if v != lane.version and chosen}
