"""Answer a request: admit, decode, route, run, decide, log, reply. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.clock import Clock
from tenure.data.decode import decode
from tenure.data.extract import extract
from tenure.data.records import By, Flag, Kind, Status, decode_id, encode_id
from tenure.data.spool_index import DecisionTail, SpoolIndex
from tenure.deploy.decide import Draws, Ruling, decide, draws, level_in_force
from tenure.deploy.router import Assignment, Endpoint, assign
from tenure.deploy.serving.book import Book, Key, boxes_of, decision_of
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.desk import Desk, Row, as_logged, said, shown
from tenure.deploy.serving.idempotency import Claim, Claims
from tenure.deploy.serving.journal import Journal
from tenure.deploy.serving.live import Live
from tenure.deploy.serving.runner import Fleet
from tenure.errors import AccessError, BusyError, CaseError, ConflictError, MissingError, StoreError, TenureError
from tenure.scope.project import Project
from tenure.seeds import draw, hash64
from tenure.settings import Settings
from tenure.types import Answer, Audio, Decision, Failed, Image, Input, Level, Prediction, Route

_log = logging.getLogger("tenure.serving")
MAX_WAIT_S = 60.0
_SKEW_NS = 5_000_000_000


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One predict request, as a door hands it over; `fault` is what the door found wrong with it."""

    endpoint: str
    body: bytes
    media_type: str
    token: str = ""
    unit: str | None = None
    key: str | None = None
    deadline_s: float = 0.0
    wait_s: float = 0.0
    fault: CaseError | None = None


class Core:
    """The worker's heart. Every door calls the same methods, so every door has the same gate.

    Args:
        project: the project; its endpoints are served.
        folder: the data folder.
        may: says whether a token may do `predict`; raises AccessError.
        archive: finds a sealed request by (run, seq) as `SpoolIndex.find` does; may be slow.
    """

    def __init__(
        self, project: Project, folder: Path, *, clock: Clock, settings: Settings, page: ControlPage, slot: Slot,
        fleet: Fleet, journal: Journal, secret: bytes, may: Callable[[str], None],
        archive: Callable[[int, int], dict[str, Any] | None],
    ) -> None:  # fmt: skip
        self._clock, self._settings = clock, settings
        self._page, self._slot, self._fleet, self._journal = page, slot, fleet, journal
        self._secret, self._may, self._archive = secret, may, archive
        self.server = project.server
        self.live = Live(folder, page, slot, fleet)
        self.desks: Mapping[str, Desk] = {
            name: Desk(name, spec, project.output(name), journal) for name, spec in project.endpoints.items()
        }
        self.book = Book()
        self._tail = DecisionTail(folder)
        self._index = SpoolIndex(folder)
        self._claims = Claims(folder)
        self._decoding = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")
        self._looking = ThreadPoolExecutor(max_workers=1, thread_name_prefix="look")
        self._inflight: dict[Key, asyncio.Future[Answer]] = {}
        self._shadows: set[asyncio.Task[None]] = set()

    # The three calls of a client

    async def predict(self, ask: Ask) -> Answer:
        """Answer one request.

        Raises:
            MissingError, AccessError, CaseError, BusyError, ConflictError: as `{"error", "code", "at"}` says.
        """
        start_ns, now_ns = self._clock.monotonic_ns(), self._clock.now_ns()
        desk = self.gate(ask.token, ask.endpoint)
        self._shed(desk)
        key = (self._journal.run, self._journal.next_seq())
        fault = ask.fault or _fault(desk, ask)
        if fault is not None:
            await self._refuse(desk, ask, self._row(desk, ask, key, now_ns=now_ns), fault, start_ns)
            raise fault
        claim = self._claim(ask, key)
        if claim is not None and not claim.mine:
            return await self._repeat(desk, ask, claim)
        return await self._first(desk, ask, self._row(desk, ask, key, now_ns=now_ns), start_ns=start_ns)

    async def predict_many(
        self, token: str, endpoint: str, items: Sequence[Input | CaseError], *,
        units: Sequence[str | None] = (), deadline_s: float = 0.0,
    ) -> list[Answer | TenureError]:  # fmt: skip
        """Answer inputs that a door has decoded and checked, in order; each is a request with an id of its own.

        Args:
            token: as `predict` takes it.
            endpoint: name of the endpoint.
            items: inputs as `data.decode` and `InputSchema.check_record` return them; a CaseError stands for an
                item that cannot be read: it is logged as refused, and given back.
            units: unit key of each item; empty = none has one.
            deadline_s: seconds in which the model must begin to answer; 0 = no limit.

        Raises:
            MissingError, AccessError, BusyError: nothing was answered or logged.
        """
        start_ns = self._clock.monotonic_ns()
        desk = self.gate(token, endpoint)
        self._shed(desk)
        keyed = units or (None,) * len(items)
        found = await asyncio.gather(
            *(self._one(desk, item, unit, deadline_s, start_ns) for item, unit in zip(items, keyed, strict=True)),
            return_exceptions=True,
        )
        for answer in found:
            if isinstance(answer, BaseException) and not isinstance(answer, TenureError):
                raise answer
        return found  # type: ignore[return-value]

    async def _one(
        self, desk: Desk, item: Input | CaseError, unit: str | None, deadline_s: float, start_ns: int
    ) -> Answer:
        ask = Ask(endpoint=desk.name, body=b"", media_type="", unit=unit, deadline_s=deadline_s)
        key = (self._journal.run, self._journal.next_seq())
        row = self._row(desk, ask, key, now_ns=self._clock.now_ns())
        if isinstance(item, CaseError):
            await self._refuse(desk, ask, row, item, start_ns)
            raise item
        row.metrics = extract(desk.spec.input, item, desk.spec.fields)
        return await self._answer_item(desk, ask, row, item, start_ns=start_ns)

    async def decision(self, token: str, public_id: str, wait_s: float) -> Answer:
        """Return the state of a request, waiting at most so long for its decision."""
        self._may(token)
        key = decode_id(public_id, self._secret)
        if key is None:
            raise MissingError("this is no id of a request of this project", code="unknown_id", at=public_id)
        known = self.book.answer(key) or await self._logged(key, public_id)
        if known is None:
            raise MissingError("no such request in the log", code="unknown_id", at=public_id)
        if self.book.is_full and self.book.decision(key) is None:  # its decision may have been forgotten
            known = await self._logged(key, public_id) or known
        endpoint, answer, deadline_ns = known
        if answer.status == "decided":
            return answer
        if deadline_ns:
            wait_s = min(wait_s, max(0.0, (deadline_ns - self._clock.now_ns()) / 1e9) + 0.2)
        decision = await self.book.wait(key, min(wait_s, MAX_WAIT_S))
        if decision is None and 0 < deadline_ns < self._clock.now_ns():
            self.book.take(self._tail.poll())  # a person's decision may have come since the last look
            decision = self.book.decision(key) or self._fallback(self.desks[endpoint])
        if decision is None:
            return msgspec.structs.replace(answer, degraded=not self._is_watched(self.desks[endpoint]))
        return msgspec.structs.replace(answer, status="decided", decision=decision)

    async def feedback(self, token: str, public_id: str, kind: str, value: Any) -> None:
        """Log what became of a request: its truth, or a user's reaction."""
        self._may(token)
        key = decode_id(public_id, self._secret)
        if key is None:
            raise MissingError("this is no id of a request of this project", code="unknown_id", at="id")
        known = self.book.answer(key) or await self._logged(key, public_id)
        if known is None:
            raise MissingError("no such request in the log", code="unknown_id", at="id")
        said = {"kind": kind, "value": value, "source": "client"}
        try:
            encoder = self._journal.plain_encoder(Kind.OUTCOME, known[0])
            await self._journal.write(encoder, (*key, self._clock.now_ns()), said)
        except StoreError as error:
            raise _full(error) from error

    # The worker's clock work

    def poll(self) -> None:
        """Look at the control page and at the decision log; called every 50 ms."""
        self.live.check()
        self._slot.set("heartbeat_ns", self._clock.now_ns())
        self._slot.set("queued_us", int(self._fleet.queued_us()))
        self.book.take(self._tail.poll())
        self._journal.tick()

    def release_waiting(self) -> None:
        """Let every held request and long-poll go with the state as it is; the worker is about to end."""
        self.book.release()

    def close(self) -> None:
        for task in self._shadows:
            task.cancel()
        self._journal.close()
        self._tail.close()
        self._fleet.close()
        self._decoding.shutdown(wait=False)
        self._looking.shutdown(wait=False)

    # Admission

    def gate(self, token: str, endpoint: str) -> Desk:
        """Let a caller in, or not; a door asks before it reads a body, so that a stranger costs a head only.

        Raises:
            AccessError: the token may not predict.
            MissingError: no such endpoint.
        """
        self._may(token)
        return self._desk(endpoint)

    def _desk(self, endpoint: str) -> Desk:
        try:
            return self.desks[endpoint]
        except KeyError:
            known = ", ".join(self.desks)
            raise MissingError(
                f"no endpoint {endpoint!r}; there is: {known}", code="unknown_endpoint", at=endpoint
            ) from None

    def _shed(self, desk: Desk) -> None:
        """Refuse work that would wait too long: at once and unlogged, so that refusing stays cheap."""
        queued_s = self._fleet.queued_us() / 1e6
        if queued_s > desk.spec.serve.max_queue:
            raise BusyError(f"{queued_s:.1f} s of work wait already", retry_after=queued_s)

    # An Idempotency-Key: the first request, its retries, and who answers for the dead

    def _claim(self, ask: Ask, key: Key) -> Claim | None:
        if ask.key is None:
            return None
        try:
            return self._claims.claim(ask.endpoint, ask.key, ask.body, run=key[0], seq=key[1])
        except StoreError as error:
            raise _full(error) from error

    async def _first(self, desk: Desk, ask: Ask, row: Row, *, start_ns: int) -> Answer:
        """Answer a request that is ours; give its key up again unless an answer is in the log."""
        key = (self._journal.run, row.seq)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._inflight[key] = future
        try:
            answer = await self._answer(desk, ask, row, start_ns=start_ns)
        except BaseException as error:
            if ask.key and not (row.logged and row.route != Route.REFUSED):
                self._claims.release(ask.endpoint, ask.key)
            future.set_exception(error if isinstance(error, Exception) else BusyError("interrupted"))
            future.exception()  # nobody may be waiting for it
            raise
        finally:
            self._inflight.pop(key, None)
        future.set_result(answer)
        return await self._held(key, answer, ask.wait_s)

    async def _repeat(self, desk: Desk, ask: Ask, claim: Claim) -> Answer:
        """Answer a retry as its first request was answered."""
        key = (claim.run, claim.seq)
        public_id = encode_id(*key, self._secret)
        for attempt in range(20):
            running = self._inflight.get(key)
            if running is not None:
                return await self._held(key, await asyncio.shield(running), ask.wait_s)
            gone = not self._is_answering(claim.run)  # asked first: what a dead process wrote is then seen below
            known = self.book.answer(key) or await self._logged(key, public_id, sealed=gone or attempt == 2)
            if known is not None:
                self.book.answered(key, known[0], known[1], deadline_ns=known[2])
                return await self.decision(ask.token, public_id, ask.wait_s)
            if gone:
                return await self._take_over(desk, ask, claim)
            await asyncio.sleep(0.05)
        raise ConflictError(
            "the first request with this key is still being answered; try again", code="in_progress", at=ask.key
        )

    def _is_answering(self, run: int) -> bool:
        """Say whether another process may still log an answer; of our own we know what is in flight."""
        if run == self._journal.run:
            return False
        return any(slot.run == run and slot.is_alive() for slot in self._page.slots())

    async def _take_over(self, desk: Desk, ask: Ask, claim: Claim) -> Answer:
        """Answer for a worker that died between the claim and the log."""
        start_ns, now_ns = self._clock.monotonic_ns(), self._clock.now_ns()
        key = (self._journal.run, self._journal.next_seq())
        standing = self._claims.take_over(ask.endpoint, ask.key or "", claim, run=key[0], seq=key[1])
        if not standing.mine:
            return await self._repeat(desk, ask, standing)
        return await self._first(desk, ask, self._row(desk, ask, key, now_ns=now_ns), start_ns=start_ns)

    async def _held(self, key: Key, answer: Answer, wait_s: float) -> Answer:
        if answer.status == "decided" or wait_s <= 0:
            return answer
        decision = await self.book.wait(key, min(wait_s, MAX_WAIT_S))
        return (
            answer if decision is None else msgspec.structs.replace(answer, status="decided", decision=decision)
        )

    # One answer

    async def _answer(self, desk: Desk, ask: Ask, row: Row, *, start_ns: int) -> Answer:
        try:
            item, row.metrics = await self._decode(desk, ask)
        except CaseError as error:
            await self._refuse(desk, ask, row, error, start_ns)
            raise
        return await self._answer_item(desk, ask, row, item, start_ns=start_ns)

    async def _answer_item(self, desk: Desk, ask: Ask, row: Row, item: Input, *, start_ns: int) -> Answer:
        key, now_ns = (self._journal.run, row.seq), row.t_ns
        public_id = encode_id(*key, self._secret)
        self.live.check()
        route = self.live.endpoint(desk.name)
        row.routing = self.live.version  # of this very route: the table may be swapped while the model runs
        chosen = assign(route, request=public_id, unit=ask.unit, now_ns=now_ns)
        drawn = draws(route.policy, public_id)
        watched = self._is_watched(desk)
        row.flags |= 0 if watched else Flag.DEGRADED
        level = level_in_force(route.policy, now_ns=now_ns, watched=watched)
        await self._run(row, item, chosen, level, deadline_ns=_deadline(start_ns, ask.deadline_s))
        ruling = decide(row.prediction, version=row.version, level=level, policy=route.policy, drawn=drawn)
        self._fill(row, route, ruling=ruling, drawn=drawn, level=level)
        row.latency_us = (self._clock.monotonic_ns() - start_ns) // 1000
        row.flags |= desk.flags(row.prediction, row.latency_us)
        self._keep(desk, ask, row, public_id, item)
        await self._write(desk, row, desk.variable(row, item=item, reason=ruling.reason, unit=ask.unit))
        answer = self._reply(desk, row, ruling, public_id)
        self._after(desk, key, row, route, item, level, answer)
        return answer

    def _row(self, desk: Desk, ask: Ask, key: Key, *, now_ns: int) -> Row:
        fallback = desk.spec.serve.on_timeout
        deadline = 0 if fallback is None else now_ns + int(fallback.after * 1e9)
        salt = self._secret.hex()[:32]
        return Row(
            seq=key[1],
            t_ns=now_ns,
            deadline_ns=deadline,
            unit=hash64(salt, ask.unit) if ask.unit else 0,
            key=hash64(salt, ask.key) if ask.key else 0,
        )

    async def _decode(self, desk: Desk, ask: Ask) -> tuple[Input, npt.NDArray[np.float32]]:
        def work() -> tuple[Input, npt.NDArray[np.float32]]:
            item = decode(desk.schema, ask.body, ask.media_type)
            return item, extract(desk.spec.input, item, desk.spec.fields)

        if desk.spec.input in ("text", "record"):
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._decoding, work)

    async def _run(self, row: Row, item: Input, chosen: Assignment, level: Level, *, deadline_ns: int) -> None:
        if level < Level.ASSIST or chosen.version is None:
            return
        row.version, row.role, row.share = chosen.version, int(chosen.role == "candidate"), chosen.share
        if not self._fleet.has(chosen.version):
            row.prediction, row.status = Failed(f"version {chosen.version} is not loaded"), Status.FAILED
            return
        runner = self._fleet.runner(chosen.version)
        result, row.queue_us = await runner.run(item, deadline_ns=deadline_ns)
        row.prediction, row.stages, row.stage_us = (
            as_logged(result.prediction),
            runner.model.names,
            result.stage_us,
        )
        row.status = Status.OK
        if isinstance(result.prediction, Failed):
            row.status = Status.EXPIRED if result.prediction.reason == "expired" else Status.FAILED

    def _fill(self, row: Row, route: Endpoint, *, ruling: Ruling, drawn: Draws, level: Level) -> None:
        row.route, row.level = ruling.route, level
        row.by = By.MODEL if ruling.route == Route.AUTO else By.NOBODY
        row.policy = route.policy.id
        row.audit_prob = route.policy.audit
        if ruling.route == Route.AUTO:
            row.deadline_ns = 0
        if ruling.audited:
            row.flags |= Flag.AUDITED
        if ruling.blind:
            row.flags |= Flag.BLIND
        if drawn.audited:
            row.flags |= Flag.LOTTERY

    def _keep(self, desk: Desk, ask: Ask, row: Row, public_id: str, item: Input) -> None:
        """Keep the input's bytes where the policy says so; what a person must see is always kept."""
        if not isinstance(item, Image | Audio):
            return
        policy = desk.spec.log.payloads
        needed = row.route == Route.PENDING or bool(row.flags & Flag.AUDITED)
        sampled = "sampled" in policy.keep and draw("payload", public_id) < policy.sample
        if not (needed or sampled or "all" in policy.keep):
            return
        media_type = ask.media_type.partition(";")[0].strip() or f"{desk.spec.input}/*"
        try:
            self._journal.keep_payload(desk.name, row.seq, item.media_type or media_type, ask.body)
        except StoreError as error:
            if needed and desk.spec.log.on_full == "refuse":
                raise _full(error) from error
            self._slot.add("payloads_dropped")
            return
        row.flags |= Flag.PAYLOAD

    async def _write(self, desk: Desk, row: Row, variable: dict[str, Any]) -> None:
        try:
            encoder, values = desk.pack(row)
            row.logged = True  # from here on it is in the log unless the write fails, even if we are cancelled
            await self._journal.write(encoder, values, variable)
        except StoreError as error:
            row.logged = False
            if desk.spec.log.on_full == "refuse":
                raise _full(error) from error
            self._slot.add("unlogged")

    async def _refuse(self, desk: Desk, ask: Ask, row: Row, error: TenureError, start_ns: int) -> None:
        """Log a refused request: it is a record too."""
        row.route, row.status, row.deadline_ns = Route.REFUSED, Status.REFUSED, 0
        row.latency_us = (self._clock.monotonic_ns() - start_ns) // 1000
        variable = desk.variable(
            row, item=None, reason=f"{error.code}: {error.message}", unit=ask.unit, at=error.at
        )
        await self._write(desk, row, variable)

    def _reply(self, desk: Desk, row: Row, ruling: Ruling, public_id: str) -> Answer:
        prediction = None
        if isinstance(row.prediction, Prediction):
            prediction = msgspec.structs.replace(row.prediction, confidence=shown(row.prediction.confidence))
        if ruling.route == Route.AUTO and prediction is not None:
            decision = Decision(
                value=prediction.value, by="model", version=row.version, confidence=prediction.confidence,
                regions=prediction.regions, policy=row.policy,
            )  # fmt: skip
            return Answer(id=public_id, status="decided", decision=decision, prediction=prediction)
        # What the reviewer must not see is not told to the client either: it may stand beside the reviewer.
        visible = None if ruling.blind else prediction
        return Answer(
            id=public_id,
            status="pending",
            prediction=visible,
            deadline=_iso(row.deadline_ns) if row.deadline_ns else None,
            degraded=bool(row.flags & Flag.DEGRADED),
        )

    # After the reply

    def _after(
        self, desk: Desk, key: Key, row: Row, route: Endpoint, item: Input, level: Level, answer: Answer
    ) -> None:  # fmt: skip
        self.book.answered(key, desk.name, answer, deadline_ns=row.deadline_ns)
        loop = asyncio.get_running_loop()
        if answer.status == "pending" and row.deadline_ns:
            delay = max(0.0, (row.deadline_ns - self._clock.now_ns()) / 1e9)
            loop.call_later(delay, self._fall_back, desk, key, row.policy)
        for version in shadow_versions(route, level, row.version, request=answer.id):
            if len(self._shadows) >= self._settings.shadow_queue:
                self._slot.add("shadows_shed")
                continue
            if self._fleet.has(version):
                task = loop.create_task(self._shadow(desk, key, version, item))
                self._shadows.add(task)
                task.add_done_callback(self._shadows.discard)

    async def _shadow(self, desk: Desk, key: Key, version: str, item: Input) -> None:
        start_ns = self._clock.monotonic_ns()
        try:
            result, _ = await self._fleet.runner(version).run(item)
            prediction = result.prediction
            encoder, number = desk.shadow_encoder(version)
            failed = isinstance(prediction, Failed)
            latency_us = (self._clock.monotonic_ns() - start_ns) // 1000
            values = _shadow_values(key, self._clock.now_ns(), number, latency_us, prediction)
            await self._journal.write(encoder, values, said(prediction))
            self._slot.add("shadows")
            if failed:
                self._slot.add("failed")
        except Exception:  # noqa: BLE001  # a shadow must never harm serving
            _log.exception("shadow %s failed", version)

    def _fall_back(self, desk: Desk, key: Key, policy: int) -> None:
        """At the deadline: the project's fallback decides, unless a person did."""
        self.book.take(self._tail.poll())
        if self.book.decision(key) is not None:
            return
        decision = self._fallback(desk)
        self.book.decided(key, decision)
        self._slot.add("fallback")
        encoder = self._journal.plain_encoder(Kind.DECISION, desk.name)
        values = (*key, self._clock.now_ns(), int(By.FALLBACK), policy)
        written = self._journal.write(encoder, values, {"value": decision.value, "reason": "deadline"})
        written.add_done_callback(_report)

    def _fallback(self, desk: Desk) -> Decision:
        fallback = desk.spec.serve.on_timeout
        return Decision(value=None if fallback is None else fallback.decide, by="fallback")

    # Look-ups

    def _is_watched(self, desk: Desk) -> bool:
        hold_ns = int(desk.spec.serve.on_controller_lost.hold * 1e9)
        # A clock that stepped back makes a dead controller look alive for as long as the step.
        return -_SKEW_NS <= self._clock.now_ns() - self._page.controller_ns <= hold_ns

    async def _logged(self, key: Key, public_id: str, *, sealed: bool = True) -> tuple[str, Answer, int] | None:
        """Find a request of another worker, or an old one, in the log; what is sealed is slower to search."""

        def look() -> dict[str, Any] | None:
            return self._index.find(*key) or (self._archive(*key) if sealed else None)

        row = await asyncio.get_running_loop().run_in_executor(self._looking, look)
        if row is None or row["endpoint"] not in self.desks:
            return None
        decision = row.get("decision")
        if decision is not None:
            self.book.decided(key, decision_of(decision, by=decision["by"], policy=decision.get("policy") or 0))
        return row["endpoint"], answer_of(row, public_id), int(row.get("deadline_ns") or 0)


def shadow_versions(route: Endpoint, level: Level, answered: str | None, *, request: str) -> list[str]:
    """Return the versions that answer after the reply; at `shadow` the stable version is one of them."""
    if level == Level.HUMAN_ONLY:
        return []
    drawn = route.shadow >= 1.0 or draw(f"shadow:{route.salt}", request) < route.shadow
    named = list(route.shadows) if drawn else []
    if level == Level.SHADOW and route.stable is not None:
        named.insert(0, route.stable)
    return [v for v in dict.fromkeys(named) if v != answered]


def answer_of(row: dict[str, Any], public_id: str) -> Answer:
    """Return the answer that a logged prediction row was, as its client got it.

    Raises:
        CaseError: the request was refused; the error says as then why.
    """
    if row["route"] == "refused":
        code, _, reason = str(row.get("reason") or "").partition(": ")
        raise CaseError(reason or "the request was refused", code=code or "refused", at=row.get("at"))
    regions, confidence = boxes_of(row.get("regions")), shown(row["confidence"])
    prediction = None
    if row["status"] == "ok":
        prediction = Prediction(row["value"], confidence, row.get("probabilities"), regions)
    if row["route"] == "auto":
        decision = Decision(row["value"], "model", row["version"], confidence, regions, row["policy"])
        return Answer(id=public_id, status="decided", decision=decision, prediction=prediction)
    deadline = row.get("deadline_ns")
    return Answer(
        id=public_id,
        status="pending",
        prediction=None if row.get("blind") else prediction,
        deadline=_iso(int(deadline)) if deadline else None,
    )


def guard(check: Callable[[str], Any], *, open_loopback: bool) -> Callable[[str], None]:
    """Return the gate that asks whether a token may predict.

    Args:
        check: token -> principal with `may(action)`, or None.
        open_loopback: a caller without a token is let in; only for a server on loopback.
    """

    def may(token: str) -> None:
        if not token and open_loopback:
            return
        principal = check(token) if token else None
        if principal is None:
            raise AccessError("the token is missing, unknown or revoked", code="unauthenticated", status=401)
        if not principal.may("predict"):
            raise AccessError(f"{principal.name} is a {principal.role}; predicting needs a client", at="token")

    return may


def _shadow_values(
    key: Key, now_ns: int, version: int, latency_us: int, prediction: Prediction | Failed
) -> tuple[float | int, ...]:  # fmt: skip
    status = Status.FAILED if isinstance(prediction, Failed) else Status.OK
    number, confidence, regions = np.nan, np.nan, 0
    if isinstance(prediction, Prediction):
        value = prediction.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
        confidence = np.nan if prediction.confidence is None else prediction.confidence
        regions = len(prediction.regions)
    return (*key, now_ns, version, int(status), latency_us, confidence, number, regions)


def _fault(desk: Desk, ask: Ask) -> CaseError | None:
    """Return what is wrong with a request before its body is looked at."""
    if len(ask.body) > desk.spec.serve.max_body:
        return too_large(desk.spec.serve.max_body)
    if ask.key is not None and not 1 <= len(ask.key) <= 255:
        return CaseError("an Idempotency-Key has 1 to 255 characters", at="Idempotency-Key", status=400)
    return None


def too_large(limit: int) -> CaseError:
    """Return the refusal of a body beyond the limit."""
    return CaseError(f"the body is larger than {limit} bytes", code="too_large", at="body", status=413)


def _deadline(start_ns: int, seconds: float) -> int:
    return start_ns + int(seconds * 1e9) if seconds > 0 else 0


def _iso(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _full(error: StoreError) -> BusyError:
    return BusyError(
        f"the prediction log cannot be written, so nothing is answered: {error.message}",
        code=error.code, at="log", retry_after=5.0,
    )  # fmt: skip


def _report(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and done.exception() is not None:
        _log.error("a fallback decision is not in the log: %s", done.exception())
