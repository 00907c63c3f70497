"""From decoded input to reply, many requests at a time: route, run, rule, log, reply, shadow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import msgspec
import numpy as np

from tenure.clock import Clock
from tenure.data.records import Flag, Status, encode_id
from tenure.deploy.decide import Draws, decide, decide_scores, draws, level_in_force
from tenure.deploy.router import Assignment, Endpoint, assign
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.desk import Desk, answer_flags, as_logged, as_shown
from tenure.deploy.serving.journal import Journal
from tenure.deploy.serving.live import Live
from tenure.deploy.serving.replies import AutoReply, iso
from tenure.deploy.serving.runner import Batch, Fleet, Model, Runner
from tenure.deploy.serving.work import Block, Lane, Work
from tenure.errors import BusyError, CaseError, StoreError, TenureError
from tenure.model.answer import Scores
from tenure.model.pipeline import Results
from tenure.seeds import request_draw, request_draws
from tenure.settings import Settings
from tenure.types import Answer, Audio, Decision, Failed, Image, Input, Level, Prediction, Route

_log = logging.getLogger("tenure.serving")
_SKEW_NS = 5_000_000_000
_read_answer = msgspec.json.Decoder(Answer).decode
_AUDIT = int(Flag.AUDITED | Flag.LOTTERY)


class Shadow:
    """Requests that a version answers after their replies, as one job of its runner."""

    __slots__ = ("desk", "expires_ns", "gone", "item", "seqs", "settled", "start_ns", "version")
    alone: ClassVar[bool] = True

    def __init__(
        self, desk: Desk, version: str, *, seqs: Sequence[int], item: Sequence[Input], start_ns: int
    ) -> None:
        self.desk, self.version, self.seqs, self.item = desk, version, seqs, item
        self.start_ns, self.expires_ns, self.gone, self.settled = start_ns, 0, False, False


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
        self._clock, self._settings = clock, settings
        self._page, self._slot, self._fleet, self._journal = page, slot, fleet, journal
        self._live, self._secret = live, secret
        self._remember, self._pend = remember, pend
        self._arrived: list[Work] = []
        self._blocks: list[Block] = []
        self._replies: dict[tuple[Any, ...], AutoReply] = {}
        self._lanes = _Lanes(self, live)
        self.shadows = 0  # waiting or running

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

    def is_watched(self, desk: Desk, now_ns: int) -> bool:
        """Say whether the controller is alive, or was within the time that the project allows."""
        hold_ns = int(desk.spec.serve.on_controller_lost.hold * 1e9)
        # A clock that stepped back makes a dead controller look alive for as long as the step.
        return -_SKEW_NS <= now_ns - self._page.controller_ns <= hold_ns

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
                runner = kicked.get(lane.version) or self._runner(work.desk, lane.version)
            except BusyError as error:
                if work.lane.version is not None and self._live.table is not None:
                    self._unloaded(work)
                else:
                    self._reject([work], error)
                continue
            kicked[lane.version] = runner
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
            self._shadowed(job, batch)
        else:
            self._answered(batch)

    def _answered(self, batch: Batch) -> None:
        works: Sequence[Work] = batch.jobs
        predictions, times = _outcome(batch)
        for work in works:
            work.queue_us = (batch.taken_ns - work.start_ns) // 1000
        if type(predictions) is Scores and all(w.lane is works[0].lane and not w.gone for w in works):
            for work, spent in zip(works, times, strict=True):
                work.stage_us, work.status = spent, Status.OK
            self._settle(works[0].lane, works, batch.items, predictions)
            return
        items = batch.items or works[0].desk.batch([w.item for w in works])
        lanes: dict[int, list[int]] = {}
        for i, (work, said_, spent) in enumerate(zip(works, predictions, times, strict=True)):
            if work.gone:
                continue
            work.stage_us, work.prediction = spent, as_logged(said_)
            work.status = Status.OK
            if isinstance(said_, Failed):
                work.status = Status.EXPIRED if said_.late else Status.FAILED
            lanes.setdefault(id(work.lane), []).append(i)
        for group in lanes.values():
            of_lane = [works[i] for i in group]
            inputs = items if len(group) == len(works) else _select(items, group)
            self._settle(of_lane[0].lane, of_lane, inputs, None)

    # Rule, log, reply

    def _settle(self, lane: Lane, works: Sequence[Work], items: Sequence[Input], scores: Scores | None) -> None:
        """Decide, write one frame, and reply once it is safe. Without `scores` each work has its prediction."""
        desk = works[0].desk
        now_ns = self._clock.monotonic_ns()
        for work in works:
            work.settled = True
            work.latency_us = (now_ns - work.start_ns) // 1000
        if scores is not None and lane.level >= Level.PARTIAL:
            self._rule_scores(lane, works, scores)
        else:
            if scores is not None:
                for work, prediction in zip(works, scores, strict=True):
                    work.prediction = prediction
            for work in works:
                self._rule(lane, work)
            scores = None
        try:
            kept = self._keep(works, items)
            if kept:
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

    def _rule_scores(self, lane: Lane, works: Sequence[Work], scores: Scores) -> None:
        """Rule on a classifier's answers at `partial` and `full`, without an object per answer."""
        policy, desk = lane.policy, works[0].desk
        automated, reasons = decide_scores(scores, version=lane.version, level=lane.level, policy=policy)
        base = 0 if lane.watched else int(Flag.DEGRADED)
        for i, work in enumerate(works):
            flags = base
            if desk.is_late(work.latency_us):
                flags |= Flag.OVER_BUDGET
            if automated is None or automated[i]:
                work.route, work.deadline_ns = Route.AUTO, 0
                flags |= Flag.BLIND
                if work.audited:
                    flags |= _AUDIT
            else:
                work.route = Route.PENDING
                if work.audited:
                    flags |= Flag.LOTTERY
                if work.audited or draws(policy, (self._journal.run, work.seq)).blind:
                    flags |= Flag.BLIND
            work.flags = int(flags)
            if reasons is not None:
                work.reason = reasons[i]

    def _rule(self, lane: Lane, work: Work) -> None:
        drawn = draws(lane.policy, (self._journal.run, work.seq)) if lane.version else Draws(work.audited, True)
        ruling = decide(work.prediction, version=lane.version, level=lane.level, policy=lane.policy, drawn=drawn)
        work.route, work.reason = ruling.route, ruling.reason
        flags = 0 if lane.watched else int(Flag.DEGRADED)
        if ruling.audited:
            flags |= Flag.AUDITED
        if ruling.blind:
            flags |= Flag.BLIND
        if work.audited:
            flags |= Flag.LOTTERY
        if ruling.route == Route.AUTO:
            work.deadline_ns = 0
        elif work.status == Status.EXPIRED:
            self._overrun(work)
        work.flags = int(flags) | answer_flags(work.desk, work)

    def _overrun(self, work: Work) -> None:
        """Apply what the project wants of a request whose model was too late."""
        how = work.desk.spec.serve.on_overrun
        if how == "refuse":
            work.route = Route.REFUSED
            work.error = CaseError(
                "the model did not answer in time", code="deadline_exceeded", at=work.desk.name, status=504
            )
            work.deadline_ns, work.reason = 0, f"{work.error.code}: {work.error.message}"
        elif how == "fallback" and work.desk.spec.serve.on_timeout is not None:
            work.route, work.deadline_ns = Route.FALLBACK, 0

    def _keep(self, works: Sequence[Work], items: Sequence[Input]) -> bool:
        """Keep the inputs' bytes where the policy says so; what a person must see is always kept."""
        desk = works[0].desk
        if desk.spec.input not in ("image", "audio"):
            return True
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
        return True

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
        failures = sum(work.status == Status.FAILED for work in works)
        if failures:
            self._slot.add("failed", failures)
        if scores is not None:
            self._write_scores(lane, works, scores)
        else:
            for work in works:
                if work.error is None:
                    work.answer = self._answer(lane, work)
        for work in works:
            if work.error is None:
                self._remember(work)
                if work.deadline_ns and work.route == Route.PENDING:
                    self._pend(work)
            _tell(work)
        if items is not None:
            self._start_shadows(lane, works[0].desk, [work.seq for work in works], items)

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
            return Answer(id=public_id, status="decided", decision=fallback(work.desk))
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
        """Queue the blocks that one version answers; the rows of the others come back as works."""
        blocks, self._blocks = self._blocks, []
        rest: list[Work] = []
        for block in blocks:
            lane = None if block.gone else self._lanes.of_block(block)
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
            answers[work.seq - block.first] = work.error or work.answer or _read_answer(work.json)
            if not left:
                block.answers = answers  # type: ignore[assignment]
                block.done(block)

        works = []
        for i, values in enumerate(block.item.values.tolist()):
            work = Work(block.desk, block.first + i, t_ns=block.t_ns, start_ns=block.start_ns)
            work.unit, work.unit_hash, work.expires_ns = block.unit, block.unit_hash, block.expires_ns
            told = block.desk.spec.serve.on_timeout
            work.deadline_ns = 0 if told is None else block.t_ns + int(told.after * 1e9)
            work.item, work.done = _packed(values), one
            works.append(work)
        return works

    def _block_answered(self, batch: Batch) -> None:
        block: Block = batch.jobs[0]
        if block.gone:
            return
        block.settled = True
        lane, (predictions, times) = block.lane, _outcome(batch)
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
            flags[drawn < lane.policy.audit] |= _AUDIT
        try:
            desk.log_block(
                block, scores, flags, reasons, stage_us=stage_us, latency_us=latency_us,
                queue_us=(taken_ns - block.start_ns) // 1000,
            )  # fmt: skip
        except StoreError as error:
            if desk.spec.log.on_full == "refuse":
                block.error = full(error)
                block.done(block)
                return
            self._slot.add("unlogged", n)
        block.scores = scores
        self._journal.when_safe(lambda failed: self._reply_block(block, failed))

    def _reply_block(self, block: Block, failed: BaseException | None) -> None:
        if failed is not None:
            block.error = full(StoreError(str(failed), code="log_failed"))
        block.done(block)
        if failed is None:
            seqs = range(block.first, block.first + len(block))
            self._start_shadows(block.lane, block.desk, seqs, block.item)

    # Shadows

    def _start_shadows(self, lane: Lane, desk: Desk, seqs: Sequence[int], items: Sequence[Input]) -> None:
        """Let shadow versions answer after the replies; beyond the bound they are shed, and counted."""
        route = lane.route
        if route is None or lane.level == Level.HUMAN_ONLY or not (route.shadows or lane.level == Level.SHADOW):
            return
        for version, chosen in shadowed(route, lane, run=self._journal.run, seqs=seqs).items():
            if not self._fleet.has(version):
                continue
            room = max(0, self._settings.shadow_queue - self.shadows)
            if len(chosen) > room:
                self._slot.add("shadows_shed", len(chosen) - room)
                chosen = chosen[:room]
            if not chosen:
                continue
            whole = len(chosen) == len(seqs)
            shadow = Shadow(
                desk, version, seqs=seqs if whole else [seqs[i] for i in chosen],
                item=items if whole else _select(items, chosen), start_ns=self._clock.monotonic_ns(),
            )  # fmt: skip
            self.shadows += len(chosen)
            runner = self._runner(desk, version)
            runner.put(shadow, last=True)
            asyncio.get_running_loop().call_soon(runner.kick)

    def _shadowed(self, job: Shadow, batch: Batch) -> None:
        n = len(job.seqs)
        self.shadows -= n
        predictions, _ = _outcome(batch)
        if len(predictions) != n:  # the batch fell as a whole
            predictions = [predictions[0]] * n
        self._slot.add("shadows", n)
        if type(predictions) is not Scores:
            predictions = [as_logged(p) for p in predictions]
            self._slot.add("failed", sum(isinstance(p, Failed) for p in predictions))
        try:
            job.desk.log_shadow(
                job.version, job.seqs, predictions, t_ns=self._clock.now_ns(),
                latency_us=(self._clock.monotonic_ns() - job.start_ns) // 1000,
            )  # fmt: skip
        except Exception:  # noqa: BLE001  # a shadow must never harm serving
            _log.exception("what shadow %s said is not in the log", job.version)


class _Lanes:
    """The lanes of one tick: what holds for all requests that arrived in it. Made again only when it changes."""

    def __init__(self, answering: Answering, live: Live) -> None:
        self._answering, self._live = answering, live
        self._run = answering._journal.run
        self._fresh: set[str] = set()
        self._of: dict[str, tuple[Endpoint, Level, bool, dict[tuple[str | None, str, float], Lane]]] = {}
        self._version = 0

    def begin(self) -> None:
        """Begin a tick: levels and the controller's life are looked at again."""
        self._fresh.clear()

    def of(self, work: Work) -> Lane:
        """Return the lane of a request and draw its audit; raises BusyError before the first routing table."""
        name = work.desk.name
        if name not in self._fresh:
            self._refresh(work.desk)
        route, level, watched, lanes = self._of[name]
        key = (self._run, work.seq)
        chosen = assign(route, request=key, unit=work.unit, now_ns=work.t_ns)
        work.audited = draws_audit(route, key)
        found = lanes.get((chosen.version, chosen.role, chosen.share))
        if found is None:
            found = self._make(route, chosen, level=level, watched=watched)
            lanes[chosen.version, chosen.role, chosen.share] = found
        return found

    def of_block(self, block: Block) -> Lane | None:
        """Return the lane of a block; None where its rows go separate ways, or where there is no table yet."""
        try:
            if block.desk.name not in self._fresh:
                self._refresh(block.desk)
        except BusyError:
            return None
        route, level, watched, lanes = self._of[block.desk.name]
        splits = route.candidate is not None and 0.0 < route.share < 1.0
        if level < Level.PARTIAL or (splits and (route.assign == "request" or not block.unit)):
            return None
        chosen = assign(route, request=(self._run, block.first), unit=block.unit, now_ns=block.t_ns)
        found = lanes.get((chosen.version, chosen.role, chosen.share))
        if found is None:
            found = self._make(route, chosen, level=level, watched=watched)
            lanes[chosen.version, chosen.role, chosen.share] = found
        return found

    def _refresh(self, desk: Desk) -> None:
        route, now_ns = self._live.endpoint(desk.name), self._answering._clock.now_ns()
        watched = self._answering.is_watched(desk, now_ns)
        level = level_in_force(route.policy, now_ns=now_ns, watched=watched)
        known = self._of.get(desk.name)
        same = known is not None and known[0] is route and known[1:3] == (level, watched)
        if not same or self._version != self._live.version:
            if self._version != self._live.version:
                self._of.clear()
                self._version = self._live.version
            self._of[desk.name] = (route, level, watched, {})
        self._fresh.add(desk.name)

    def _make(self, route: Endpoint, chosen: Assignment, *, level: Level, watched: bool) -> Lane:
        lane = Lane(level=level, policy=route.policy, routing=self._live.version, watched=watched, route=route)
        if level < Level.ASSIST or chosen.version is None:
            return lane
        role = int(chosen.role == "candidate")
        return msgspec.structs.replace(lane, version=chosen.version, role=role, share=chosen.share)


def draws_audit(route: Endpoint, request: tuple[int, int]) -> bool:
    """Draw whether a person checks a request, whatever decides it."""
    audit = route.policy.audit
    return audit > 0 and request_draw(f"audit:{route.policy.salt}", *request) < audit


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


def fallback(desk: Desk) -> Decision:
    """Return what the project decides where nobody did."""
    told = desk.spec.serve.on_timeout
    return Decision(value=None if told is None else told.decide, by="fallback")


def full(error: StoreError) -> BusyError:
    """Return the 503 of a log that cannot be written."""
    return BusyError(
        f"the prediction log cannot be written, so nothing is answered: {error.message}",
        code=error.code, at="log", retry_after=5.0,
    )  # fmt: skip


def _tell(work: Work) -> None:
    try:
        work.done(work)
    except Exception:  # noqa: BLE001  # one caller's fault must not cost the others of its batch
        _log.exception("cannot reply to a request of %s", work.desk.name)


def _outcome(batch: Batch) -> tuple[Sequence[Prediction | Failed], Sequence[tuple[int, ...]]]:
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


def _packed(values: list[float]) -> tuple[float | None, ...]:
    return tuple(None if v != v else v for v in values)


def _select(items: Sequence[Input], indices: Sequence[int]) -> Sequence[Input]:
    select = getattr(items, "select", None)
    return select(indices) if select is not None else [items[i] for i in indices]
