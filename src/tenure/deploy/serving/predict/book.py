"""What this worker knows of decisions: its own answers, and what the decision log says of pending requests."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec

from tenure.data.frames import Frame
from tenure.data.records import By
from tenure.types import Answer, Box, Decision

Key = tuple[int, int]
_read = msgspec.json.Decoder(Answer).decode
_BY = {By.MODEL: "model", By.PERSON: "person", By.FALLBACK: "fallback"}


class Book:
    """The newest answers and decisions, bounded; the log has them all.

    Answers are asked for again within moments (a retry, a click) or much later, from the log: few are kept, at
    least `answers` of them.
    """

    def __init__(self, size: int = 10_000, answers: int = 2_000) -> None:
        self._size, self._answers_kept = size, min(size, answers)
        self._answers: dict[Key, tuple[str, Answer | bytes, int]] = {}
        self._decisions: OrderedDict[Key, Decision] = OrderedDict()
        self._waiting: dict[Key, list[asyncio.Future[Decision | None]]] = {}
        self._open = True

    def answered(self, key: Key, endpoint: str, answer: Answer | bytes, *, deadline_ns: int) -> None:
        """Remember an answer of this worker, as a value or as its JSON."""
        answers = self._answers
        answers[key] = (endpoint, answer, deadline_ns)
        if len(answers) >= 2 * self._answers_kept:  # many at once: one by one costs more than the answer
            for old in list(islice(answers, self._answers_kept)):
                del answers[old]

    def answer(self, key: Key) -> tuple[str, Answer, int] | None:
        """Return (endpoint, answer as first given, deadline or 0)."""
        found = self._answers.get(key)
        if found is None:
            return None
        endpoint, answer, deadline_ns = found
        return endpoint, _read(answer) if isinstance(answer, bytes) else answer, deadline_ns

    def decision(self, key: Key) -> Decision | None:
        return self._decisions.get(key)

    @property
    def is_full(self) -> bool:
        """Say whether old decisions are forgotten; then only the log knows."""
        return len(self._decisions) >= self._size

    def decided(self, key: Key, decision: Decision) -> None:
        """Take a decision in; the first one stands (there is exactly one)."""
        if key in self._decisions:
            return
        self._decisions[key] = decision
        _trim(self._decisions, self._size)
        for future in self._waiting.pop(key, ()):
            if not future.done():
                future.set_result(decision)

    def take(self, frames: Iterable[Frame]) -> None:
        """Take in decision frames of any process."""
        for frame in frames:
            columns = frame.columns()
            for i in range(frame.rows):
                key = (int(columns["run"][i]), int(columns["seq"][i]))
                if key not in self._decisions:
                    by, policy = By(int(columns["by"][i])), int(columns["policy"][i])
                    self.decided(key, decision_of(frame.var(i), by=_BY.get(by, "person"), policy=policy))

    def release(self) -> None:
        """Wait for nothing any more: who waits now gets None, and so does who comes later."""
        self._open = False
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_result(None)

    async def wait(self, key: Key, seconds: float) -> Decision | None:
        """Wait for a decision at most so long."""
        known = self._decisions.get(key)
        if known is not None or seconds <= 0 or not self._open:
            return known
        future: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return None
        finally:
            left = [f for f in self._waiting.get(key, ()) if f is not future]
            if left:
                self._waiting[key] = left
            else:
                self._waiting.pop(key, None)


def decision_of(var: dict[str, object], *, by: str, policy: int) -> Decision:
    """Return a decision from the variable part of its record."""
    return Decision(
        value=var.get("value"),  # type: ignore[arg-type]
        by=by,  # type: ignore[arg-type]
        regions=boxes_of(var.get("regions")),
        policy=policy,
    )


def boxes_of(regions: object) -> tuple[Box, ...]:
    """Return boxes from their logged form."""
    if not isinstance(regions, list):
        return ()
    return tuple(Box(**{k: v for k, v in region.items() if k in Box.__struct_fields__}) for region in regions)


def _trim(entries: OrderedDict[Key, Any], size: int) -> None:
    while len(entries) > size:
        entries.popitem(last=False)
