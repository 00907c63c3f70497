"""The answers to many rows, in the form in which the rows came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from tenure.deploy.serving.predict.desk import Desk
from tenure.errors import TenureError
from tenure.types import Answer

Outcome = Answer | TenureError
_encode = msgspec.json.Encoder().encode


async def as_list(first: list[Outcome], rest: AsyncIterator[list[Outcome]]) -> bytes:
    """Return a JSON list: an answer, or an error with its `index`, for each row."""
    texts: list[bytes] = []
    part = first
    while part:  # each part is written as it comes, so that no long pause gathers at the end
        texts += [_wire(outcome, len(texts) + n) for n, outcome in enumerate(part)]
        part = await anext(rest, [])
    return b"[" + b",\n".join(texts) + b"]"


def _wire(outcome: Outcome, index: int) -> bytes:
    return _encode(outcome if isinstance(outcome, Answer) else {**outcome.body(), "index": index})


async def as_lines(first: list[Outcome], rest: AsyncIterator[list[Outcome]]) -> AsyncIterator[bytes]:
    """Yield JSON lines, part by part as they are answered."""
    at, part = 0, first
    while part:
        yield b"".join(_wire(outcome, at + n) + b"\n" for n, outcome in enumerate(part))
        at += len(part)
        part = await anext(rest, [])


def as_arrow(desk: Desk, outcomes: Sequence[Outcome]) -> bytes:
    """Return columns id, status, value, confidence, decided_by, error; null is what a row does not have."""
    from tenure.data.arrow_rows import write_columns

    answers = [outcome if isinstance(outcome, Answer) else None for outcome in outcomes]
    decisions = [answer.decision if answer else None for answer in answers]
    errors = [
        None if isinstance(outcome, Answer) else f"{outcome.code}: {outcome.message}" for outcome in outcomes
    ]
    number = desk.output.kind == "number"
    return write_columns({
        "id": ("string", [answer.id if answer else None for answer in answers]),
        "status": ("string", [answer.status if answer else "failed" for answer in answers]),
        "value": (
            "double" if number else "string",
            [_cell(d.value, number=number) if d else None for d in decisions],
        ),
        "confidence": ("double", [d.confidence if d else None for d in decisions]),
        "decided_by": ("string", [d.by if d else None for d in decisions]),
        "error": ("string", errors),
    })  # fmt: skip


def _cell(value: Any, *, number: bool) -> Any:
    if value is None or isinstance(value, str):
        return None if number else value
    return float(value) if number else _encode(value).decode()
