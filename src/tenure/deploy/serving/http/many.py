"""Answer many records or texts in one request: in order, each for itself, in small parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import msgspec
from starlette.responses import Response, StreamingResponse

from tenure.clock import Clock
from tenure.deploy.serving.control_page import Slot
from tenure.deploy.serving.http.many_in import ARROW, LINES, LIST, Row, Rows, form_of, read_rows
from tenure.deploy.serving.http.many_out import Outcome, as_arrow, as_lines, as_list
from tenure.deploy.serving.predict.core import Ask, Core
from tenure.deploy.serving.predict.desk import Desk
from tenure.errors import BusyError, CaseError, TenureError
from tenure.seeds import fresh_u64
from tenure.types import Answer

PART = 32
"""Rows that are answered together; between two parts other requests have their turn."""

_PATIENCE = 100  # times that a part waits for room before its rows are refused
_PAUSE_S = 0.1
_log = logging.getLogger("tenure.serving")


class Many:
    """The door for many rows.

    The first part is answered before the status goes out, so that overload is 503 with nothing answered. What
    fails later fails for its rows alone.
    """

    def __init__(self, core: Core, slot: Slot, clock: Clock) -> None:
        self._core, self._slot, self._clock = core, slot, clock

    async def reply(self, desk: Desk, ask: Ask, *, unit_field: str | None) -> Response:
        """Answer all rows in the form in which they came; `unit_field` names the field with each row's unit.

        Raises:
            CaseError: the body as a whole cannot be read; it is one refused request in the log.
            AccessError, BusyError: nothing was answered.
        """
        try:
            rows = await read_rows(desk, ask, unit_field)
        except CaseError as error:
            await self._core.predict(msgspec.structs.replace(ask, body=b"", key=None, fault=error))
            raise
        self._slot.add("requests", max(0, len(rows.raw) - 1))  # the call itself is counted
        parts = self._parts(desk, ask, rows)
        first: list[Outcome] = await anext(parts, [])
        form = form_of(ask.media_type)
        if form in LINES:
            return StreamingResponse(as_lines(first, parts), media_type=form)
        if form == ARROW:
            outcomes = first + [outcome async for part in parts for outcome in part]
            packed = await asyncio.get_running_loop().run_in_executor(None, as_arrow, desk, outcomes)
            return Response(packed, media_type=ARROW)
        return Response(await as_list(first, parts), media_type=LIST)

    async def _parts(self, desk: Desk, ask: Ask, rows: Rows) -> AsyncIterator[list[Outcome]]:
        start_ns = self._clock.monotonic_ns()
        for at in range(0, len(rows.raw), PART):
            part = [rows.read(raw) for raw in rows.raw[at : at + PART]]
            left_s = 0.0
            if ask.deadline_s:
                left_s = max(1e-9, ask.deadline_s - (self._clock.monotonic_ns() - start_ns) / 1e9)
            outcomes = await (self._predict if at == 0 else self._surely)(desk, ask, part, left_s)
            self._count(outcomes)
            yield outcomes
            await asyncio.sleep(0)

    async def _predict(self, desk: Desk, ask: Ask, part: Sequence[Row], deadline_s: float) -> list[Outcome]:
        return await self._core.predict_many(
            ask.token, desk.name, [row.item for row in part], units=[row.unit for row in part],
            deadline_s=deadline_s,
        )  # fmt: skip

    async def _surely(self, desk: Desk, ask: Ask, part: Sequence[Row], deadline_s: float) -> list[Outcome]:
        """Answer a later part: wait for room, and give what goes wrong to each of its rows."""
        for _ in range(_PATIENCE):
            try:
                return await self._predict(desk, ask, part, deadline_s)
            except BusyError as error:
                refusal: TenureError = error
                await asyncio.sleep(min(_PAUSE_S, error.retry_after))
            except TenureError as error:
                refusal = error
                break
            except Exception:  # noqa: BLE001  # the status is out: a bug must not cut the answer off
                refusal = self._fault()
                break
        return [refusal] * len(part)

    def _fault(self) -> TenureError:
        fault = f"{fresh_u64():016x}"
        _log.exception("fault %s while answering many rows", fault)
        self._slot.add("faults")
        return TenureError(f"a fault of the server; its log has it as {fault}", at=fault)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        decided = sum(answer.status == "decided" for answer in answers)
        for counter, n in (
            ("auto", decided), ("pending", len(answers) - decided), ("refused", len(outcomes) - len(answers))
        ):  # fmt: skip
            if n:
                self._slot.add(counter, n)
