"""Answer a request: admit, decode, answer. Every door calls this, and it knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.clock import Clock
from tenure.data.decode import accepts, decode, unsupported
from tenure.data.extract import extract
from tenure.data.records import encode_id
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.predict.answering import Answering
from tenure.deploy.serving.predict.book import Key
from tenure.deploy.serving.predict.desk import Desk, as_logged, as_shown
from tenure.deploy.serving.predict.idempotency import Claim, Claims
from tenure.deploy.serving.predict.journal import Journal, full
from tenure.deploy.serving.predict.live import Live
from tenure.deploy.serving.predict.pending import Archive, Pending
from tenure.deploy.serving.predict.preview import Job, Preview, password
from tenure.deploy.serving.predict.runner import Fleet
from tenure.deploy.serving.predict.work import Block, Work
from tenure.errors import (
    AccessError,
    BusyError,
    CaseError,
    ConflictError,
    MissingError,
    ModelError,
    StoreError,
    TenureError,
)
from tenure.model.columns import Rows
from tenure.scope.hosts import LOOPBACK
from tenure.scope.project import Project
from tenure.seeds import hash64
from tenure.settings import Settings
from tenure.types import Answer, Failed, Input, Route


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
        fleet: Fleet, journal: Journal, secret: bytes, may: Callable[[str], None], archive: Archive,
    ) -> None:  # fmt: skip
        self._clock, self._page, self._slot = clock, page, slot
        self._fleet, self._journal = fleet, journal
        self._secret, self._salt, self._may = secret, secret.hex()[:32], may
        self.server = project.server
        self.live = Live(folder, page, slot, fleet)
        self.desks: Mapping[str, Desk] = {
            name: Desk(name, spec, project.output(name), journal) for name, spec in project.endpoints.items()
        }
        self.pending = Pending(
            dict(self.desks), folder, clock=clock, slot=slot, journal=journal, secret=secret, archive=archive,
            is_watched=lambda desk: self.answering.is_watched(desk, clock.now_ns()),
        )  # fmt: skip
        self.answering = Answering(
            clock=clock, settings=settings, page=page, slot=slot, fleet=fleet, journal=journal, live=self.live,
            secret=secret, remember=self.pending.remember, pend=self.pending.pend,
        )  # fmt: skip
        self._claims = Claims(folder)
        self._decoding = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")
        self._inflight: dict[Key, asyncio.Future[Answer]] = {}

    # The calls of a client

    async def predict(self, ask: Ask) -> Answer:
        """Answer one request.

        Raises:
            MissingError, AccessError, CaseError, BusyError, ConflictError: as `{"error", "code", "at"}` says.
        """
        start_ns = self._clock.monotonic_ns()
        desk = self.gate(ask.token, ask.endpoint)
        self.shed(desk, ask.deadline_s)
        work = self._work(desk, ask, start_ns)
        fault = ask.fault or _fault(desk, ask)
        if fault is not None:
            return await self._settled(work, lambda: self.answering.refuse(work, fault))
        claim = self._claim(ask, (self._journal.run, work.seq))
        if claim is not None and not claim.mine:
            return await self._repeat(desk, ask, claim)
        return await self._first(ask, work)

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
            deadline_s: seconds in which the model must answer; 0 = no limit.

        Raises:
            MissingError, AccessError, BusyError: nothing was answered or logged.
        """
        start_ns = self._clock.monotonic_ns()
        desk = self.gate(token, endpoint)
        self.shed(desk, deadline_s)
        keyed = units or (None,) * len(items)
        works = []
        for item, unit in zip(items, keyed, strict=True):
            ask = Ask(endpoint=endpoint, body=b"", media_type="", unit=unit, deadline_s=deadline_s)
            work = self._work(desk, ask, start_ns)
            works.append((work, item))
        found = await asyncio.gather(*(self._one(*one) for one in works), return_exceptions=True)
        for answer in found:
            if isinstance(answer, BaseException) and not isinstance(answer, TenureError):
                raise answer
        return found  # type: ignore[return-value]

    async def predict_rows(
        self, token: str, endpoint: str, values: npt.NDArray[np.float64], *, unit: str | None = None,
        deadline_s: float = 0.0,
    ) -> Block:  # fmt: skip
        """Answer a matrix of checked records of an endpoint whose fields are all numbers, as arrays.

        Args:
            token: as `predict` takes it.
            endpoint: name of the endpoint.
            values: (n, fields) float64, NaN for null; each row is a request with an id of its own.
            unit: unit key of all rows.
            deadline_s: as `predict_many` takes it.

        Returns:
            the block with `scores`, or with an answer or error for each row.

        Raises:
            MissingError, AccessError, BusyError: nothing was answered or logged.
        """
        start_ns = self._clock.monotonic_ns()
        desk = self.gate(token, endpoint)
        self.shed(desk, deadline_s)
        rows = Rows(desk.records.names, desk.records.kinds, values)
        first = self._journal.next_seqs(len(rows))
        block = Block(desk, first, rows, t_ns=self._clock.now_ns(), start_ns=start_ns)
        block.expires_ns = desk.expires_ns(start_ns, deadline_s)
        if unit:
            block.unit, block.unit_hash = unit, hash64(self._salt, unit)
        await _settled(block, lambda: self.answering.take_block(block))
        return block

    def public_ids(self, block: Block) -> list[str]:
        """Return the id of each request of a block."""
        return [encode_id(self._journal.run, block.first + i, self._secret) for i in range(len(block))]

    async def decision(self, token: str, public_id: str, wait_s: float) -> Answer:
        """Return the state of a request, waiting at most so long for its decision; see `Pending.decision`."""
        self._may(token)
        return await self.pending.decision(public_id, wait_s)

    async def feedback(self, token: str, public_id: str, kind: str, value: Any) -> None:
        """Log what became of a request: its truth, or a user's reaction; see `Pending.feedback`."""
        self._may(token)
        await self.pending.feedback(public_id, kind, value)

    # A call of the control plane

    def preview_desk(self, word: str, endpoint: str) -> Desk:
        """Let the control plane in, or not, before a body is read.

        Raises:
            AccessError: `word` is not `preview.password`.
            MissingError: no such endpoint.
        """
        if not hmac.compare_digest(word.encode(), password(self._secret).encode()):
            raise AccessError("previews are for the control plane", code="unauthenticated", status=401)
        return self._desk(endpoint)

    async def preview(self, desk: Desk, body: bytes, media_type: str) -> Preview:
        """Return what the stable version says of an input: no request, so nothing is drawn, decided or logged.

        Raises:
            ConflictError: `no_version`, nothing is in force.
            ModelError: `model_failed`, the model could not answer.
            CaseError, BusyError: as `predict` raises them.
        """
        self.shed(desk)
        self.live.check()
        version = self.live.endpoint(desk.name).stable
        if version is None:
            raise ConflictError(f"no version is in force on {desk.name}", code="no_version", at=desk.name)
        item, _ = await self._decode(desk, Ask(endpoint=desk.name, body=body, media_type=media_type))
        job = Job(desk.batch([item]), start_ns=self._clock.monotonic_ns())
        self.answering.preview(desk, version, job)
        try:
            said = await job.future
        except asyncio.CancelledError:
            job.gone = True
            raise
        said = as_logged(said)
        if isinstance(said, Failed):
            raise ModelError(f"{version} could not answer: {said.reason}", code="model_failed", at=desk.name)
        return Preview(version, as_shown(said), getattr(item, "size", None))

    # The worker's clock work

    def poll(self) -> None:
        """Look at the control page and at the decision log; called every 50 ms."""
        self.live.check()
        self._slot.set("heartbeat_ns", self._clock.now_ns())
        self._slot.set("queued_us", int(self._fleet.queued_us()))
        self.pending.poll()
        self._journal.tick()

    def release_waiting(self) -> None:
        """Let every held request and long-poll go with the state as it is; the worker is about to end."""
        self.pending.book.release()

    def close(self) -> None:
        self._journal.close()
        self.pending.close()
        self._fleet.close()
        self._decoding.shutdown(wait=False)

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

    def allow(self, token: str) -> None:
        """Let a caller in, or not, where no endpoint is named; raises AccessError."""
        self._may(token)

    def shed(self, desk: Desk, deadline_s: float = 0.0) -> None:
        """Refuse work that would wait too long: at once and unlogged, so that refusing stays cheap.

        Raises:
            BusyError: more work waits than `serve.max_queue`, or than the caller's deadline leaves room for.
        """
        queued_s = self._fleet.queued_us() / 1e6
        if queued_s > desk.spec.serve.max_queue:
            raise BusyError(f"{queued_s:.1f} s of work wait already", retry_after=queued_s)
        if 0 < deadline_s < queued_s:
            raise BusyError(
                f"{queued_s:.3f} s of work wait already, more than the deadline of {deadline_s:.3f} s",
                retry_after=queued_s - deadline_s,
            )

    def work(self, desk: Desk, *, unit: str | None, deadline_s: float, start_ns: int) -> Work:
        """Return a new request without an input yet."""
        work = Work(desk, self._journal.next_seq(), t_ns=self._clock.now_ns(), start_ns=start_ns)
        work.deadline_ns = desk.deadline_ns(work.t_ns)
        work.expires_ns = desk.expires_ns(start_ns, deadline_s)
        if unit:
            work.unit, work.unit_hash = unit, hash64(self._salt, unit)
        return work

    def _work(self, desk: Desk, ask: Ask, start_ns: int) -> Work:
        work = self.work(desk, unit=ask.unit, deadline_s=ask.deadline_s, start_ns=start_ns)
        work.key = hash64(self._salt, ask.key) if ask.key else 0
        work.media_type = ask.media_type
        return work

    # An Idempotency-Key: the first request, its retries, and who answers for the dead

    def _claim(self, ask: Ask, key: Key) -> Claim | None:
        if ask.key is None:
            return None
        try:
            return self._claims.claim(ask.endpoint, ask.key, ask.body, run=key[0], seq=key[1])
        except StoreError as error:
            raise full(error) from error

    async def _first(self, ask: Ask, work: Work) -> Answer:
        """Answer a request that is ours; give its key up again unless an answer is in the log."""
        key = (self._journal.run, work.seq)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._inflight[key] = future
        try:
            answer = await self._decoded(ask, work)
        except BaseException as error:
            if ask.key and not (work.logged and work.route != Route.REFUSED):
                self._claims.release(ask.endpoint, ask.key)
            future.set_exception(error if isinstance(error, Exception) else BusyError("interrupted"))
            future.exception()  # nobody may be waiting for it
            raise
        finally:
            self._inflight.pop(key, None)
        future.set_result(answer)
        return await self.pending.held(key, answer, ask.wait_s)

    async def _repeat(self, desk: Desk, ask: Ask, claim: Claim) -> Answer:
        """Answer a retry as its first request was answered."""
        key, book = (claim.run, claim.seq), self.pending.book
        public_id = encode_id(*key, self._secret)
        for attempt in range(20):
            running = self._inflight.get(key)
            if running is not None:
                return await self.pending.held(key, await asyncio.shield(running), ask.wait_s)
            gone = not self._is_answering(claim.run)  # asked first: what a dead process wrote is then seen below
            known = book.answer(key) or await self.pending.logged(key, public_id, sealed=gone or attempt == 2)
            if known is not None:
                book.answered(key, known[0], known[1], deadline_ns=known[2])
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
        work = self._work(desk, ask, self._clock.monotonic_ns())
        run, seq = self._journal.run, work.seq
        standing = self._claims.take_over(ask.endpoint, ask.key or "", claim, run=run, seq=seq)
        if not standing.mine:
            return await self._repeat(desk, ask, standing)
        return await self._first(ask, work)

    # One answer

    async def _decoded(self, ask: Ask, work: Work) -> Answer:
        try:
            work.item, work.metrics = await self._decode(work.desk, ask)
        except CaseError as error:
            fault = error
            return await self._settled(work, lambda: self.answering.refuse(work, fault))
        if work.metrics is not None:
            work.body = ask.body  # an image or a clip: the log may keep it
        return await self._settled(work, lambda: self.answering.take(work))

    async def _one(self, work: Work, item: Input | CaseError) -> Answer:
        """Answer one decoded item of many."""
        if isinstance(item, CaseError):
            return await self._settled(work, lambda: self.answering.refuse(work, item))
        desk = work.desk
        work.item = desk.records.pack(item) if isinstance(item, dict) else item
        if desk.spec.input in ("image", "audio"):
            work.metrics = extract(desk.spec.input, item, desk.spec.fields)
        return await self._settled(work, lambda: self.answering.take(work))

    async def _settled(self, work: Work, begin: Callable[[], None]) -> Answer:
        await _settled(work, begin)
        return work.said()

    async def _decode(self, desk: Desk, ask: Ask) -> tuple[Any, npt.NDArray[np.float32] | None]:
        """Return the input, and the metrics of a picture or a clip; those are decoded off the loop."""
        if desk.spec.input == "record":
            essence = ask.media_type.partition(";")[0].strip().lower()
            if not accepts(desk.schema, essence):
                raise unsupported(desk.schema, essence)
            return desk.records.decode(ask.body), None
        if desk.spec.input == "text":
            return decode(desk.schema, ask.body, ask.media_type), None

        def work() -> tuple[Input, npt.NDArray[np.float32]]:
            item = decode(desk.schema, ask.body, ask.media_type)
            return item, extract(desk.spec.input, item, desk.spec.fields)

        return await asyncio.get_running_loop().run_in_executor(self._decoding, work)


async def _settled(job: Work | Block, begin: Callable[[], None]) -> None:
    """Begin, and wait until the job has its answer; who is cancelled abandons it, and its error is raised."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    job.done = lambda _: None if future.done() else future.set_result(None)
    begin()
    try:
        await future
    except asyncio.CancelledError:
        job.gone = True
        raise
    if job.error is not None:
        raise job.error


FOREIGN = "\0"
"""Stands for the token of a caller without one whose request may come from a page of another site."""


def guard(check: Callable[[str], Any], *, open_loopback: bool) -> Callable[[str], None]:
    """Return the gate that asks whether a token may predict.

    Args:
        check: token -> principal with `may(action)`, or None.
        open_loopback: a caller without a token is let in; only for a server on loopback.
    """

    def may(token: str) -> None:
        if not token and open_loopback:
            return
        if token == FOREIGN:
            raise AccessError(
                f"without a token, Host and Origin must name this machine ({', '.join(LOOPBACK)}); send a token",
                code="unauthenticated", at="Host", status=401,
            )  # fmt: skip
        principal = check(token) if token else None
        if principal is None:
            raise AccessError("the token is missing, unknown or revoked", code="unauthenticated", status=401)
        if not principal.may("predict"):
            raise AccessError(f"{principal.name} is a {principal.role}; predicting needs a client", at="token")

    return may


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
