"""From decoded input to reply, many requests at a time: route, run, rule, log, reply, shadow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tenure.clock import Clock
from tenure.data.records import Flag, Status, encode_id
from tenure.deploy.decide import decide_scores
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.predict.desk import Desk, as_logged, as_shown
from tenure.deploy.serving.predict.journal import Journal, full
from tenure.deploy.serving.predict.lanes import Lanes
from tenure.deploy.serving.predict.live import Live
from tenure.deploy.serving.predict.preview import Job as PreviewJob
from tenure.deploy.serving.predict.replies import AutoReply, iso
from tenure.deploy.serving.predict.ruling import AUDIT, AUDITED, rule, rule_scores
from tenure.deploy.serving.predict.runner import Batch, Fleet, Model, Runner, outcome, select
from tenure.deploy.serving.predict.shadows import Shadow, Shadows
from tenure.deploy.serving.predict.work import Block, Lane, Work
from tenure.errors import BusyError, StoreError, TenureError
from tenure.model.answer import Scores
from tenure.model.pipeline import Results
from tenure.seeds import request_draw, request_draws
from tenure.settings import Settings
from tenure.types import Answer, Audio, Decision, Failed, Image, Input, Level, Prediction, Route

_log = logging.getLogger("tenure.serving")
_FEW = 4
"""Blocks of so few rows that came in one turn are quicker run together, row by row, than each alone."""


class Answering:
    """One worker's way from input to reply.

    Works that arrive in one tick of the event loop are routed together; what waits in front of a version runs
    together; what ran together is ruled on, logged in one frame and answered together.

    Args:
        remember: is told of every answer before its reply goes out.
        pend: is told of every pending answer that has a deadline.
    """

    def __init__(
        self, *, clock: Clock, settings: Settings, page: ControlPage, slot: Slot, fleet: Fleet, journal: Journal,
        live: Live, secret: bytes, remember: Callable[[Work], None], pend: Callable[[Work], None],
    ) -> None:  # fmt: skip
        self._clock, self._slot, self._fleet, self._journal = clock, slot, fleet, journal
        self._live, self._secret = live, secret
        self._remember, self._pend = remember, pend
        self._arrived: list[Work] = []
        self._blocks: list[Block] = []
        self._replies: dict[tuple[Any, ...], AutoReply] = {}
        self._lanes = Lanes(live, page=page, clock=clock, run=journal.run)
        self.is_watched = self._lanes.is_watched
        self.shadows = Shadows(
            clock=clock, slot=slot, fleet=fleet, run=journal.run, runner=self._runner, most=settings.shadow_queue
        )

    # In

    def take(self, work: Work) -> None:
        """Answer a request whose input is decoded; `work.done` is called once, soon, unless `work.gone`."""
        if not self._arrived and not self._blocks:
            asyncio.get_running_loop().call_soon(self._tick)
        self._arrived.append(work)

    def take_block(self, block: Block) -> None:
        """Answer a matrix of records; `block.done` is called once."""
        if not self._arrived and not self._blocks:
            asyncio.get_running_loop().call_soon(self._tick)
        self._blocks.append(block)

    def preview(self, desk: Desk, version: str, job: PreviewJob) -> None:
        """Run an input behind everything else; it is not ruled on, logged or shadowed."""
        runner = self._runner(desk, version)
        runner.put(job, last=True)
        runner.kick()

    def _tick(self) -> None:
        """Route what came since the last tick; requests that no model answers are ruled on at once."""
        arrived, self._arrived = self._arrived, []
        self._live.check()
        lanes = self._lanes
        lanes.begin()
        direct: dict[int, tuple[Lane, list[Work]]] = {}
        kicked: dict[str, Runner] = {}
        if self._blocks:
            arrived = arrived + self._start_blocks(kicked)
        for work in arrived:
            if work.gone:
                continue
            try:
                lane = work.lane = lanes.of(work)
                if lane.version is None:
                    direct.setdefault(id(lane), (lane, []))[1].append(work)
                    continue
                runner = kicked.get(lane.version)
                if runner is None:
                    runner = kicked[lane.version] = self._runner(work.desk, lane.version)
            except BusyError as error:
                if work.lane.version is not None and self._live.table is not None:
                    self._unloaded(work)
                else:
                    self._reject([work], error)
                continue
            runner.put(work)
        for runner in kicked.values():
            runner.kick()
        for lane, works in direct.values():
            self._settle(lane, works, works[0].desk.batch([w.item for w in works]), None)

    def _runner(self, desk: Desk, version: str) -> Runner:
        def make(model: Model, pool: ThreadPoolExecutor | None) -> Runner:
            desk.learn(version, tuple(model.names))
            return Runner(
                model, clock=self._clock, pool=pool, gather=desk.batch, finish=self._finish,
                budget_ns=int(desk.spec.serve.latency * 1e9),
            )  # fmt: skip

        return self._fleet.runner(version, make)

    def _unloaded(self, work: Work) -> None:
        work.prediction = Failed(f"version {work.lane.version} is not loaded")
        work.status = Status.FAILED
        self._settle(work.lane, [work], work.desk.batch([work.item]), None)

    # Back from a model

    def _finish(self, runner: Runner, batch: Batch) -> None:
        job = batch.jobs[0]
        if type(job) is Block:
            self._block_answered(batch)
        elif type(job) is Shadow:
            self.shadows.done(job, batch)
        elif type(job) is PreviewJob:
            job.end(batch)
        else:
            self._answered(batch)

    def _answered(self, batch: Batch) -> None:
        works: Sequence[Work] = batch.jobs
        predictions, times = outcome(batch)
        for work in works:
            work.queue_us = (batch.taken_ns - work.start_ns) // 1000
        if type(predictions) is Scores:
            for work, spent in zip(works, times, strict=True):
                work.stage_us, work.status = spent, Status.OK
            self._settle_lanes(works, batch.items, predictions)
            return
        items = batch.items or works[0].desk.batch([w.item for w in works])
        for work, said_, spent in zip(works, predictions, times, strict=True):
            if work.gone:
                continue
            work.stage_us, work.prediction = spent, as_logged(said_)
            work.status = Status.OK
            if isinstance(said_, Failed):
                work.status = Status.EXPIRED if said_.late else Status.FAILED
        self._settle_lanes(works, items, None)

    def _settle_lanes(self, works: Sequence[Work], items: Sequence[Input], scores: Scores | None) -> None:
        """Settle those that are still there: nearly always all of one lane, but segments share a version."""
        lane = works[0].lane
        for work in works:
            if work.gone or work.lane is not lane:
                break
        else:
            self._settle(lane, works, items, scores)
            return
        lanes: dict[int, list[int]] = {}
        for i, work in enumerate(works):
            if not work.gone:
                lanes.setdefault(id(work.lane), []).append(i)
        for group in lanes.values():
            of_lane, part = [works[i] for i in group], None if scores is None else scores.select(group)
            self._settle(of_lane[0].lane, of_lane, select(items, group), part)

    # Rule, log, reply

    def _settle(self, lane: Lane, works: Sequence[Work], items: Sequence[Input], scores: Scores | None) -> None:
        """Decide, write one frame, and reply once it is safe. Without `scores` each work has its prediction."""
        desk = works[0].desk
        now_ns = self._clock.monotonic_ns()
        for work in works:
            work.settled = True
            work.latency_us = (now_ns - work.start_ns) // 1000
        if scores is not None and lane.level >= Level.PARTIAL:
            rule_scores(lane, works, scores, run=self._journal.run)
        else:
            if scores is not None:
                for work, prediction in zip(works, scores, strict=True):
                    work.prediction = prediction
            for work in works:
                rule(lane, work, run=self._journal.run)
            scores = None
        try:
            if desk.spec.input in ("image", "audio"):
                self._keep(works, items)
            desk.log(lane, works, items, scores)
        except StoreError as error:
            if desk.spec.log.on_full == "refuse":
                self._reject(works, full(error))
                return
            self._slot.add("unlogged", len(works))
        except Exception as error:  # noqa: BLE001  # a fault of ours must not leave anybody waiting
            _log.exception("cannot log an answer of %s", desk.name)
            self._reject(works, error)
            return
        else:
            for work in works:
                work.logged = True
        self._journal.when_safe(lambda error: self._reply(lane, works, items, scores, error))

    def _keep(self, works: Sequence[Work], items: Sequence[Input]) -> None:
        """Keep the inputs' bytes where the policy says so; what a person must see is always kept."""
        desk = works[0].desk
        policy = desk.spec.log.payloads
        for work, item in zip(works, items, strict=True):
            if not isinstance(item, Image | Audio):
                continue
            needed = work.route == Route.PENDING or bool(work.flags & Flag.AUDITED)
            draw = request_draw("payload", self._journal.run, work.seq)
            sampled = "sampled" in policy.keep and draw < policy.sample
            if not (needed or sampled or "all" in policy.keep):
                continue
            named = work.media_type.partition(";")[0].strip() or f"{desk.spec.input}/*"
            try:
                self._journal.keep_payload(desk.name, work.seq, item.media_type or named, work.body or item.data)
            except StoreError:
                if needed and desk.spec.log.on_full == "refuse":
                    raise
                self._slot.add("payloads_dropped")
                continue
            work.flags |= Flag.PAYLOAD

    def refuse(self, work: Work, error: TenureError) -> None:
        """Log a request that cannot be answered, and give it its error: a refusal is a record too."""
        work.route, work.status, work.deadline_ns = Route.REFUSED, Status.REFUSED, 0
        work.latency_us = (self._clock.monotonic_ns() - work.start_ns) // 1000
        work.reason, work.error = f"{error.code}: {error.message}", error
        work.lane = lane = Lane()
        try:
            work.desk.log(lane, [work], None, None)
        except StoreError as cause:
            if work.desk.spec.log.on_full == "refuse":
                self._reject([work], full(cause))
                return
            self._slot.add("unlogged")
        else:
            work.logged = True
        self._journal.when_safe(lambda failed: self._reply(lane, [work], None, None, failed))

    def _reject(self, works: Sequence[Work], error: Exception) -> None:
        """Give requests an error; nothing about them is in the log."""
        for work in works:
            if not work.gone:
                work.error = error
                _tell(work)

    def _reply(
        self, lane: Lane, works: Sequence[Work], items: Sequence[Input] | None, scores: Scores | None,
        failed: BaseException | None,
    ) -> None:  # fmt: skip
        if failed is not None:
            cause = failed if isinstance(failed, StoreError) else StoreError(str(failed), code="log_failed")
            self._reject(works, full(cause))
            return
        if scores is not None:
            self._write_scores(lane, works, scores)
        else:
            if failures := sum(work.status == Status.FAILED for work in works):
                self._slot.add("failed", failures)
            for work in works:
                if work.error is None:
                    work.answer = self._answer(lane, work)
        for work in works:
            if work.error is None:
                self._remember(work)
                if work.deadline_ns and work.route == Route.PENDING:
                    self._pend(work)
            _tell(work)
        if items is not None and self.shadows.has_any(lane):
            spare = [work.route != Route.PENDING and not work.flags & AUDITED for work in works]
            self.shadows.start(lane, works[0].desk, [work.seq for work in works], items, spare=spare)

    def _write_scores(self, lane: Lane, works: Sequence[Work], scores: Scores) -> None:
        reply = self._auto_reply(lane, scores.labels)
        best, chances = scores.best.tolist(), scores.probabilities.tolist()
        for i, work in enumerate(works):
            if work.route == Route.AUTO:
                work.json = reply.write(self.public_id(work), best[i], chances[i])
            else:
                work.prediction = scores[i]
                work.answer = self._answer(lane, work)

    def _auto_reply(self, lane: Lane, labels: tuple[str, ...]) -> AutoReply:
        key = (lane.version, lane.policy.id, labels)
        found = self._replies.get(key)
        if found is None:
            if len(self._replies) > 256:
                self._replies.clear()
            found = self._replies[key] = AutoReply(lane.version or "", lane.policy.id, labels)
        return found

    def public_id(self, work: Work) -> str:
        return encode_id(self._journal.run, work.seq, self._secret)

    def _answer(self, lane: Lane, work: Work) -> Answer:
        public_id = self.public_id(work)
        prediction = as_shown(work.prediction) if isinstance(work.prediction, Prediction) else None
        if work.route == Route.AUTO and prediction is not None:
            decision = Decision(
                value=prediction.value, by="model", version=lane.version, confidence=prediction.confidence,
                regions=prediction.regions, policy=lane.policy.id,
            )  # fmt: skip
            return Answer(id=public_id, status="decided", decision=decision, prediction=prediction)
        if work.route == Route.FALLBACK:
            return Answer(id=public_id, status="decided", decision=work.desk.fallback())
        # What the reviewer must not see is not told to the client either: it may stand beside the reviewer.
        return Answer(
            id=public_id,
            status="pending",
            prediction=None if work.flags & Flag.BLIND else prediction,
            deadline=iso(work.deadline_ns) if work.deadline_ns else None,
            degraded=bool(work.flags & Flag.DEGRADED),
        )

    # Blocks

    def _start_blocks(self, kicked: dict[str, Runner]) -> list[Work]:
        """Queue the blocks that one version answers alone; the rows of the others come back as works."""
        blocks, self._blocks = self._blocks, []
        rest: list[Work] = []
        for block in blocks:
            few = len(blocks) > 1 and len(block) <= _FEW
            lane = None if few or block.gone else self._lanes.of_block(block)
            if lane is None or lane.version is None or not self._fleet.has(lane.version):
                rest += self._apart(block)
                continue
            block.lane = lane
            runner = kicked[lane.version] = self._runner(block.desk, lane.version)
            runner.put(block)
        return rest

    def _apart(self, block: Block) -> list[Work]:
        """Return the rows of a block as works that answer to it together."""
        answers: list[Answer | Exception | None] = [None] * len(block)
        left = len(block)

        def one(work: Work) -> None:
            nonlocal left
            left -= 1
            answers[work.seq - block.first] = work.error or work.said()
            if not left:
                block.answers = answers  # type: ignore[assignment]
                block.done(block)

        works = []
        for i, values in enumerate(block.item.values.tolist()):
            work = Work(block.desk, block.first + i, t_ns=block.t_ns, start_ns=block.start_ns)
            work.unit, work.unit_hash, work.expires_ns = block.unit, block.unit_hash, block.expires_ns
            work.deadline_ns = block.desk.deadline_ns(block.t_ns)
            work.item, work.done = _packed(values), one
            works.append(work)
        return works

    def _block_answered(self, batch: Batch) -> None:
        block: Block = batch.jobs[0]
        if block.gone:
            return
        block.settled = True
        lane, (predictions, times) = block.lane, outcome(batch)
        if type(predictions) is Scores and lane.level >= Level.PARTIAL:
            automated, reasons = decide_scores(
                predictions, version=lane.version, level=lane.level, policy=lane.policy
            )
            if automated is None or all(automated):
                self._settle_block(block, predictions, times[0], reasons, taken_ns=batch.taken_ns)
                return
        works = self._apart(block)
        run, salt, share = self._journal.run, lane.policy.salt, lane.policy.audit
        drawn = request_draws(f"audit:{salt}", run, block.first, len(block)) < share
        for work, audited in zip(works, drawn.tolist(), strict=True):
            work.lane, work.audited = lane, audited
        many = len(predictions) == len(works)
        if not many:  # the batch expired or fell as a whole
            predictions, times = [predictions[0]] * len(works), [()] * len(works)
        self._answered(batch._replace(jobs=works, items=block.item, results=Results(predictions, times)))

    def _settle_block(
        self, block: Block, scores: Scores, stage_us: tuple[int, ...], reasons: list[str] | None, *, taken_ns: int
    ) -> None:
        """Log and answer a block that the model decides as a whole."""
        lane, desk, n = block.lane, block.desk, len(block)
        latency_us = (self._clock.monotonic_ns() - block.start_ns) // 1000
        base = Flag.BLIND | (0 if lane.watched else Flag.DEGRADED)
        if desk.is_late(latency_us):
            base |= Flag.OVER_BUDGET
        flags = np.full(n, int(base), np.uint16)
        if lane.policy.audit > 0:
            drawn = request_draws(f"audit:{lane.policy.salt}", self._journal.run, block.first, n)
            flags[drawn < lane.policy.audit] |= AUDIT
        try:
            desk.log_block(
                block, scores, flags, reasons, stage_us=stage_us, latency_us=latency_us,
                queue_us=(taken_ns - block.start_ns) // 1000,
            )  # fmt: skip
        except StoreError as error:
            if desk.spec.log.on_full == "refuse":
                block.error = full(error)
                _tell(block)
                return
            self._slot.add("unlogged", n)
        except Exception as error:  # noqa: BLE001  # as for a single request: nobody is left waiting
            _log.exception("cannot log a block of %s", desk.name)
            block.error = error
            _tell(block)
            return
        block.scores, block.flags = scores, flags
        self._journal.when_safe(lambda failed: self._reply_block(block, failed))

    def _reply_block(self, block: Block, failed: BaseException | None) -> None:
        if failed is not None:
            block.error = full(StoreError(str(failed), code="log_failed"))
        block.done(block)
        if failed is None and self.shadows.has_any(block.lane):
            seqs = range(block.first, block.first + len(block))
            spare = [False] * len(block) if block.flags is None else ((block.flags & AUDITED) == 0).tolist()
            self.shadows.start(block.lane, block.desk, seqs, block.item, spare=spare)


def _tell(work: Work | Block) -> None:
    try:
        work.done(work)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001  # one caller's fault must not cost the others of its batch
        _log.exception("cannot reply to a request of %s", work.desk.name)


def _packed(values: list[float]) -> tuple[float | None, ...]:
    return tuple(None if v != v else v for v in values)
