"""What became of a request: its decision, now or when it comes, and what its client later says of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from tenure.clock import Clock
from tenure.data.records import By, Kind, decode_id
from tenure.data.spool_index import DecisionTail, SpoolIndex
from tenure.deploy.serving.control_page import Slot
from tenure.deploy.serving.predict.book import Book, Key, boxes_of, decision_of
from tenure.deploy.serving.predict.desk import Desk, shown
from tenure.deploy.serving.predict.journal import Journal, full
from tenure.deploy.serving.predict.replies import iso
from tenure.deploy.serving.predict.work import Work
from tenure.errors import CaseError, MissingError, StoreError
from tenure.types import Answer, Decision, Prediction

_log = logging.getLogger("tenure.serving")
MAX_WAIT_S = 60.0
Archive = Callable[[int, int], dict[str, Any] | None]


class Pending:
    """The requests whose decision is open, and the way back to those that are decided.

    Args:
        desks: the endpoints of this worker.
        archive: finds a sealed request by (run, seq) as `SpoolIndex.find` does; may be slow.
        is_watched: says whether the controller is alive for an endpoint.
    """

    def __init__(
        self, desks: dict[str, Desk], folder: Path, *, clock: Clock, slot: Slot, journal: Journal, secret: bytes,
        archive: Archive, is_watched: Callable[[Desk], bool],
    ) -> None:  # fmt: skip
        self._desks, self._clock, self._slot, self._journal = desks, clock, slot, journal
        self._secret, self._archive, self._is_watched = secret, archive, is_watched
        self.book = Book()
        self._tail = DecisionTail(folder)
        self._index = SpoolIndex(folder)
        self._looking = ThreadPoolExecutor(max_workers=1, thread_name_prefix="look")

    def poll(self) -> None:
        """Take in what was decided since the last look."""
        self.book.take(self._tail.poll())

    def close(self) -> None:
        self._tail.close()
        self._looking.shutdown(wait=False)

    def remember(self, work: Work) -> None:
        """Take in an answer of this worker."""
        key = (self._journal.run, work.seq)
        self.book.answered(key, work.desk.name, work.answer or work.json, deadline_ns=work.deadline_ns)

    def pend(self, work: Work) -> None:
        """Let the project's fallback decide at the deadline, unless a person did."""
        key = (self._journal.run, work.seq)
        delay = max(0.0, (work.deadline_ns - self._clock.now_ns()) / 1e9)
        asyncio.get_running_loop().call_later(delay, self._fall_back, work.desk, key, work.lane.policy.id)

    async def held(self, key: Key, answer: Answer, wait_s: float) -> Answer:
        """Return the answer, with its decision if that comes within the time."""
        if answer.status == "decided" or wait_s <= 0:
            return answer
        decision = await self.book.wait(key, min(wait_s, MAX_WAIT_S))
        return answer if decision is None else _decided(answer, decision)

    async def decision(self, public_id: str, wait_s: float) -> Answer:
        """Return the state of a request, waiting at most so long for its decision.

        Raises:
            MissingError: there is no such request.
            CaseError: it was refused.
        """
        key, (endpoint, answer, deadline_ns) = await self.find(public_id, at=public_id)
        if self.book.is_full and self.book.decision(key) is None:  # its decision may have been forgotten
            endpoint, answer, deadline_ns = await self.logged(key, public_id) or (endpoint, answer, deadline_ns)
        if answer.status == "decided":
            return answer
        if deadline_ns:
            wait_s = min(wait_s, max(0.0, (deadline_ns - self._clock.now_ns()) / 1e9) + 0.2)
        decision = await self.book.wait(key, min(wait_s, MAX_WAIT_S))
        if decision is None and 0 < deadline_ns < self._clock.now_ns():
            self.poll()  # a person's decision may have come since the last look
            decision = self.book.decision(key) or self._desks[endpoint].fallback()
        if decision is None:
            return msgspec.structs.replace(answer, degraded=not self._is_watched(self._desks[endpoint]))
        return _decided(answer, decision)

    async def feedback(self, public_id: str, kind: str, value: Any) -> None:
        """Log what became of a request: its truth, or a user's reaction.

        Raises:
            MissingError: there is no such request.
            BusyError: the log cannot be written.
        """
        key, (endpoint, _, _) = await self.find(public_id, at="id")
        try:
            encoder = self._journal.plain_encoder(Kind.OUTCOME, endpoint)
            outcome = {"kind": kind, "value": value, "source": "client"}
            await self._journal.write(encoder, (*key, self._clock.now_ns()), outcome)
        except StoreError as error:
            raise full(error) from error

    async def find(self, public_id: str, *, at: str) -> tuple[Key, tuple[str, Answer, int]]:
        """Return the key of a request and (endpoint, answer as first given, deadline or 0)."""
        key = decode_id(public_id, self._secret)
        if key is None:
            raise MissingError("this is no id of a request of this project", code="unknown_id", at=at)
        known = self.book.answer(key) or await self.logged(key, public_id)
        if known is None:
            raise MissingError("no such request in the log", code="unknown_id", at=at)
        return key, known

    async def logged(
        self, key: Key, public_id: str, *, sealed: bool = True
    ) -> tuple[str, Answer, int] | None:  # fmt: skip
        """Find a request of another worker, or an old one, in the log; what is sealed is slower to search."""

        def look() -> dict[str, Any] | None:
            return self._index.find(*key) or (self._archive(*key) if sealed else None)

        row = await asyncio.get_running_loop().run_in_executor(self._looking, look)
        if row is None or row["endpoint"] not in self._desks:
            return None
        decision = row.get("decision")
        if decision is not None:
            self.book.decided(key, decision_of(decision, by=decision["by"], policy=decision.get("policy") or 0))
        answer = answer_of(row, public_id)
        if row["route"] == "fallback":
            answer = _decided(answer, self._desks[row["endpoint"]].fallback())
        return row["endpoint"], answer, int(row.get("deadline_ns") or 0)

    def _fall_back(self, desk: Desk, key: Key, policy: int) -> None:
        self.poll()
        if self.book.decision(key) is not None:
            return
        decision = desk.fallback()
        self.book.decided(key, decision)  # the deadline has passed: nobody else may decide, logged or not
        self._slot.add("fallback")
        encoder = self._journal.plain_encoder(Kind.DECISION, desk.name)
        values = (*key, self._clock.now_ns(), int(By.FALLBACK), policy)
        written = self._journal.write(encoder, values, {"value": decision.value, "reason": "deadline"})
        written.add_done_callback(lambda done: self._again(done, desk, key, policy))

    def _again(self, done: asyncio.Future[None], desk: Desk, key: Key, policy: int) -> None:
        """Write a fallback's decision again until the log has room for it."""
        error = None if done.cancelled() else done.exception()
        if error is None:
            return
        _log.error("a fallback decision is not in the log yet: %s", error)

        def write() -> None:
            encoder = self._journal.plain_encoder(Kind.DECISION, desk.name)
            values = (*key, self._clock.now_ns(), int(By.FALLBACK), policy)
            said = {"value": desk.fallback().value, "reason": "deadline"}
            again = self._journal.write(encoder, values, said)
            again.add_done_callback(lambda done: self._again(done, desk, key, policy))

        asyncio.get_running_loop().call_later(_RETRY_S, write)


_RETRY_S = 2.0


def answer_of(row: dict[str, Any], public_id: str) -> Answer:
    """Return the answer that a logged prediction row was, as its client got it.

    Raises:
        CaseError: the request was refused; the error says as then why.
    """
    if row["route"] == "refused":
        code, _, reason = str(row.get("reason") or "").partition(": ")
        raise CaseError(reason or "the request was refused", code=code or "refused", at=row.get("at"))
    if row["route"] == "none":
        raise CaseError(
            "this row was scored without anybody deciding; its prediction is in the log and the output",
            code="no_decision", at=public_id, status=404,
        )  # fmt: skip
    regions, confidence = boxes_of(row.get("regions")), shown(row["confidence"])
    prediction = None
    if row["status"] == "ok":
        chances = row.get("probabilities")
        told = None if chances is None else {label: float(f"{p:.7g}") for label, p in chances.items()}
        prediction = Prediction(row["value"], confidence, told, regions)
    if row["route"] == "auto":
        decision = Decision(row["value"], "model", row["version"], confidence, regions, row["policy"])
        return Answer(id=public_id, status="decided", decision=decision, prediction=prediction)
    deadline = row.get("deadline_ns")
    return Answer(
        id=public_id,
        status="pending",
        prediction=None if row.get("blind") else prediction,
        deadline=iso(int(deadline)) if deadline else None,
    )


def _decided(answer: Answer, decision: Decision) -> Answer:
    return msgspec.structs.replace(answer, status="decided", decision=decision)
