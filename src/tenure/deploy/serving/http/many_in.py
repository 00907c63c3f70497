"""The rows of a body: a JSON list, JSON lines or an Arrow stream, each read and checked for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tenure.data.decode import read_json
from tenure.deploy.serving.predict.core import Ask, too_large
from tenure.deploy.serving.predict.desk import Desk
from tenure.errors import CaseError
from tenure.types import Input

MAX_ROWS = 10_000
"""Rows of one request; more are 413. `tenure score` is for files."""

LIST = "application/json"
LINES = ("application/x-ndjson", "application/jsonl")
ARROW = "application/vnd.apache.arrow.stream"

_list = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class Row(msgspec.Struct, frozen=True):
    """One row, read and checked or refused, and what it shares a fate with."""

    item: Input | CaseError
    unit: str | None


class Rows(msgspec.Struct, frozen=True):
    """The rows of a request, still to be read one by one by `read`."""

    raw: Sequence[Any]
    read: Callable[[Any], Row]


def form_of(content_type: str) -> str | None:
    """Return the media type of lines or Arrow that a body has, None for any other; a list shows in the body."""
    essence = content_type.partition(";")[0].strip().lower()
    return essence if essence in (*LINES, ARROW) else None


def holds_many(desk: Desk, ask: Ask) -> bool:
    """Say whether a body holds rows: lines, Arrow, or a JSON list for an endpoint that takes records or texts."""
    if ask.fault is not None:
        return False
    if form_of(ask.media_type):
        return True
    is_json = ask.media_type.partition(";")[0].strip().lower() == LIST
    return is_json and desk.spec.input in ("record", "text") and ask.body[:64].lstrip()[:1] == b"["


async def read_rows(desk: Desk, ask: Ask, unit_field: str | None) -> Rows:
    """Return the rows of a body; what is wrong with one row is found when it is read.

    Args:
        desk: the endpoint.
        ask: the request.
        unit_field: name of the field with each row's unit; None = all have the request's.

    Raises:
        CaseError: the body as a whole cannot be read, is too large, or asks for what many rows do not have.
    """
    _check_whole(desk, ask, unit_field)
    form = form_of(ask.media_type)
    if form == ARROW:
        loop = asyncio.get_running_loop()
        values = await loop.run_in_executor(None, _arrow_values, desk, ask.body, desk.spec.serve.max_body)
        return Rows(values, lambda value: _row(desk, ask, unit_field, lambda: value))
    raw = _lines_of(ask.body) if form else _elements_of(ask.body)
    return Rows(raw, lambda text: _row(desk, ask, unit_field, lambda: read_json(text)))


def _check_whole(desk: Desk, ask: Ask, unit_field: str | None) -> None:
    if desk.spec.input not in ("record", "text"):
        raise CaseError(
            f"many in one request are for records and texts; {desk.name} takes {desk.spec.input}: send each by "
            "itself, over several connections at once",
            code="unsupported_media_type", at="content-type", status=415,
        )  # fmt: skip
    if len(ask.body) > desk.spec.serve.max_body:
        raise too_large(desk.spec.serve.max_body)
    if ask.key is not None or ask.wait_s > 0:
        name = "Idempotency-Key" if ask.key is not None else "wait"
        raise CaseError(
            f"{name} is for a single input; many have an id each, to ask for the decision by",
            code="not_for_many", at=name, status=400,
        )  # fmt: skip
    if unit_field is not None and desk.spec.input == "text":
        raise CaseError(
            "a text has no fields; send Tenure-Unit for all rows", code="not_for_many", at="Tenure-Unit-Field",
            status=400,
        )  # fmt: skip


def _elements_of(body: bytes) -> list[bytes]:
    try:
        found = _list.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise CaseError(f"the body is not a JSON list: {error}", code="invalid_json", at="body") from error
    if len(found) > MAX_ROWS:
        raise _too_many()
    return [bytes(raw) for raw in found]


def _lines_of(body: bytes) -> list[bytes]:
    lines = body.split(b"\n", 2 * MAX_ROWS)  # blank lines are passed over, but not without end
    found = [line for line in lines if line.strip()]
    if len(found) > MAX_ROWS or len(lines) > 2 * MAX_ROWS:
        raise _too_many()
    return found


def _arrow_values(desk: Desk, body: bytes, limit: int) -> list[Any]:
    from tenure.data.arrow_rows import read_rows  # pyarrow is loaded by the first who sends Arrow

    rows = read_rows(body, max_rows=MAX_ROWS, max_text=limit)
    if desk.spec.input == "record":
        return rows
    if rows and len(rows[0]) != 1:
        raise CaseError(
            f"expected one column of texts, got {len(rows[0])} columns", code="unreadable_arrow", at="body"
        )
    return [value for row in rows for value in row.values()]


def _row(desk: Desk, ask: Ask, unit_field: str | None, read: Callable[[], Any]) -> Row:
    """Read and check one row; what is wrong with it stands in for it."""
    unit = ask.unit
    try:
        value = read()
        if unit_field is not None and isinstance(value, dict):
            unit = _unit(desk, value, unit_field)
        if desk.spec.input == "record":
            return Row(desk.schema.check_record(value), unit)
        if isinstance(value, str):
            return Row(value, unit)
        raise CaseError(f"expected a text, got {_encode(value)[:40].decode(errors='replace')}", at="body")
    except CaseError as error:
        return Row(error, unit)


def _unit(desk: Desk, record: dict[str, Any], field: str) -> str | None:
    """Return a record's unit; a field that the endpoint does not declare is taken out of it."""
    declared = field in desk.schema.fields or not desk.schema.fields
    value = record.get(field) if declared else record.pop(field, None)
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise CaseError(
        f"field {field!r}: a unit is a text or an integer, got {value!r:.40}", code="wrong_type", at=field
    )


def _too_many() -> CaseError:
    return CaseError(
        f"a request has at most {MAX_ROWS} rows; send them in parts, or use `tenure score`",
        code="too_many_rows", at="body", status=413,
    )  # fmt: skip
