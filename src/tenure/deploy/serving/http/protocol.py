"""HTTP/1.1 for the plain predict call, without the machinery of ASGI; everything else goes on to the ASGI app.

uvicorn's protocol class owns the connection, and httptools (llhttp) parses. This class looks at each request's
head: a POST of one record or text to an endpoint, or of tensors to a model, is collected, handed on, and answered
by one write. It also bounds what uvicorn leaves open: the size of a head, the time that a request may take to
arrive, and how many requests may be sent ahead on one connection.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tenure.clock import Clock
from tenure.data.decode import accepts, decode
from tenure.deploy.serving.control_page import Slot
from tenure.deploy.serving.http.accept import preferred
from tenure.deploy.serving.http.edge import number_of, token_of
from tenure.deploy.serving.http.wire import fault_body, headers_of_error
from tenure.deploy.serving.oip import exchange
from tenure.deploy.serving.oip.service import Service as Models
from tenure.deploy.serving.predict.core import Core
from tenure.deploy.serving.predict.desk import Desk
from tenure.deploy.serving.predict.tally import Tally
from tenure.deploy.serving.predict.work import Work
from tenure.errors import CaseError, TenureError
from tenure.types import Route

MAX_HEAD = 64 * 1024
"""Bytes of request line and headers; more get 431."""

MAX_AHEAD = 16
"""Requests that may be sent ahead on one connection; more close it."""

ARRIVAL_S = 20.0
"""How long a request's head, and each pause in its body, may take; slower clients get 408."""

_KEPT_HEADS, _KEPT_HEAD = 1024, 2048
"""How many raw heads are remembered in a worker, and of at most how many bytes."""

_CHECK_S = 5.0
_encode = msgspec.json.Encoder().encode
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
_END = b"\r\n\r\n"
_CLOSE = b"\r\nconnection: close\r\n\r\n"
_FAST_INPUTS = ("record", "text")


class Head:
    """What the headers of a plain predict call say; `tensors` holds them all where the body is tensors."""

    __slots__ = (
        "deadline_s",
        "desk",
        "fault",
        "length",
        "media_type",
        "takes_record",
        "tensors",
        "token",
        "unit",
    )

    def __init__(self, desk: Desk, length: int, tensors: dict[str, str] | None = None) -> None:
        self.desk, self.length, self.tensors = desk, length, tensors
        self.takes_record = tensors is None and desk.spec.input == "record"
        self.media_type = self.token = ""
        self.unit: str | None = None
        self.deadline_s = 0.0
        self.fault: CaseError | None = None


class _RefusedError(Exception):
    """Ends the parsing of what a connection sent; it is closed already."""


class _Nothing:
    def set(self) -> None:
        """Nobody waits for more of a body that is all there."""


_NOTHING = _Nothing()


class _Cycle(msgspec.Struct, eq=False):
    """Stands where uvicorn keeps the request in hand."""

    keep_alive: bool
    disconnected: bool = False
    response_complete: bool = False
    message_event: _Nothing = _NOTHING
    work: Work | None = None


class Service:
    """What all connections of one worker share."""

    def __init__(self, core: Core, slot: Slot, clock: Clock, models: Models) -> None:
        self.core, self.slot, self.clock, self.models = core, slot, clock, models
        self.tally = Tally(slot)
        self.is_open = True
        self.heads: dict[bytes, Head] = {}  # raw heads that the parser has read before
        self.targets: dict[bytes, Desk] = {
            f"/v1/{name}/predict".encode(): desk
            for name, desk in core.desks.items()
            if desk.spec.input in _FAST_INPUTS
        }
        self.infers = {f"/v2/models/{name}/infer".encode(): desk for name, desk in core.desks.items()}


def protocol_of(service: Service) -> type[HttpToolsProtocol]:
    """Return the protocol class of one worker, as uvicorn's `http=` takes it."""

    class Bound(PredictProtocol):
        shared = service

    return Bound


class PredictProtocol(HttpToolsProtocol):
    """One connection."""

    shared: Service
    idle_s: float | None = None
    """How long a connection may be idle; None = as uvicorn is configured."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head: Head | None = None  # of the plain call that is arriving
        self._parts: list[bytes] = []
        self._head_bytes = 0
        self._fed = 0  # bytes that the parser was last given
        self._piece = b""  # those bytes
        self._skipped = 0  # bytes of a body that the parser leaves to us
        self._in_head = False
        self._arriving = False  # a request is under way
        self._moved_s = 0.0  # loop time of the last progress
        self._timer: asyncio.TimerHandle | None = None

    # The connection

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._moved_s = self.loop.time()
        self._timer = self.loop.call_later(_CHECK_S, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        work = getattr(self.cycle, "work", None)
        if work is not None and not self.cycle.response_complete:
            work.gone = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._arriving and self._known_head(data):
            return
        self._moved_s = self.loop.time()
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._skipped:
            data = self._skip(data)
            if not data:
                return
        self._fed = len(data)
        self._piece = data
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            text = "this is no valid HTTP/1.1 request"
            self._refuse(CaseError(text, code="bad_request", at="request", status=400))
        if self._in_head and self._head_bytes > MAX_HEAD:
            self._refuse(_too_large_head())

    def _check(self) -> None:
        """Close a connection that is idle, or whose request does not arrive; looks every few seconds."""
        self._timer = self.loop.call_later(_CHECK_S, self._check)
        quiet_s = self.loop.time() - self._moved_s
        if self._arriving:
            if quiet_s > ARRIVAL_S:
                self._refuse(CaseError("the request did not arrive", code="timeout", at="request", status=408))
        elif self.cycle is None or self.cycle.response_complete:
            idle_s = self.timeout_keep_alive if self.idle_s is None else self.idle_s
            if quiet_s > idle_s:
                self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Leave idle connections to `_check`."""

    # What the parser finds

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._head = None
        self._arriving = self._in_head = True
        self._head_bytes = 0
        if len(self.pipeline) > MAX_AHEAD:
            self._refuse(CaseError("too many requests at once", code="bad_request", at="connection", status=400))
            raise _RefusedError

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._fed + self._head_bytes > MAX_HEAD and self._size_of_head() > MAX_HEAD:
            self._refuse(_too_large_head())
            raise _RefusedError
        if self.parser.should_upgrade():
            self._skipped = self._length()
        head = self._plain()
        if head is not None:
            self._head, self._parts = head, []
            self.cycle = _Cycle(keep_alive=self.parser.should_keep_alive())  # type: ignore[assignment]
            return
        self._to_app()

    def on_body(self, body: bytes) -> None:
        if self._head is not None:
            self._parts.append(body)
        elif self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._skipped:
            return  # the parser leaves the body of a request that offers an upgrade to us
        self._arriving = False
        if self._head is None:
            if self.cycle is not None:
                super().on_message_complete()
            return
        head, self._head = self._head, None
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._keep(head, body)
        if head.takes_record and body[:1] != b"{" and body.lstrip()[:1] == b"[":
            self._late_to_app(body)  # many records in one request
            return
        self._begin(head, body)

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # A request that offers another protocol, such as h2c, is answered in this one (RFC 9110, 7.8)

    def _length(self) -> int:
        named = [value for name, value in self.headers if name.lower() == b"content-length"]
        return int(named[0]) if named and len(named[0]) < 10 and named[0].isdigit() else 0

    def _stay(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 behind the head at which the parser stopped."""
        self.parser = httptools.HttpRequestParser(self)
        if rest and not self.transport.is_closing():
            self.data_received(rest)

    def _skip(self, data: bytes) -> bytes:
        """Take the part of a body that the parser did not read; return what is behind it."""
        body, rest = data[: self._skipped], data[self._skipped :]
        self._skipped -= len(body)
        self.on_body(body)
        if not self._skipped:
            self.on_message_complete()
        return rest

    # A head that was read before

    def _known_head(self, data: bytes) -> bool:
        """Take one whole request whose head is, byte by byte, one that the parser read as a plain call.

        Reading it again could only give the same. The parser is between two messages and stays there.
        """
        end = data.find(b"\r\n\r\n") + 4
        head = self.shared.heads.get(data[:end])
        if head is None or len(data) != end + head.length or not self.shared.is_open:
            return False
        cycle = self.cycle
        if (cycle is not None and not cycle.response_complete) or self.flow.write_paused:
            return False
        body = data[end:]
        if head.takes_record and body[:1] != b"{":
            return False
        self.cycle = _Cycle(keep_alive=True)  # type: ignore[assignment]
        self._begin(head, body)
        return True

    def _keep(self, head: Head, body: bytes) -> None:
        """Remember the head of a request that came in one piece."""
        piece, heads = self._piece, self.shared.heads
        end = piece.find(b"\r\n\r\n") + 4
        whole = len(piece) == end + len(body) and piece.startswith(b"POST ")
        if not whole or end > _KEPT_HEAD or not self.cycle.keep_alive:
            return
        if len(heads) >= _KEPT_HEADS:
            heads.clear()
        heads[piece[:end]] = head

    # A plain call

    def _plain(self) -> Head | None:
        """Return the head of a plain predict call, None for everything that the app answers."""
        shared = self.shared
        is_infer = self.url in shared.infers
        desk = shared.infers[self.url] if is_infer else shared.targets.get(self.url)
        if desk is None or not shared.is_open or self.parser.get_method() != b"POST":
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return None  # a request sent ahead waits for its turn
        if self.flow.write_paused or self.parser.get_http_version() != "1.1":
            return None
        return read_infer_head(desk, self.headers) if is_infer else read_head(desk, self.headers)

    def _begin(self, head: Head, body: bytes) -> None:
        cycle = self.cycle
        if head.tensors is not None:
            task = self.loop.create_task(self._infer(cycle, head, body))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            return
        try:
            self._take(cycle, head, body)
        except TenureError as error:
            self._error(cycle, error)
        except Exception as error:  # noqa: BLE001  # the edge: a bug must not look like a dead server
            self._fault(cycle, error)

    def _take(self, cycle: Any, head: Head, body: bytes) -> None:
        shared, desk = self.shared, head.desk
        core = shared.core
        core.allow(head.token)
        core.shed(desk, head.deadline_s)
        start_ns = shared.clock.monotonic_ns()
        work = cycle.work = core.work(desk, unit=head.unit, deadline_s=head.deadline_s, start_ns=start_ns)
        work.caller, work.done = cycle, self._done
        try:
            if head.fault is not None:
                raise head.fault
            if desk.spec.input == "record":
                work.item = desk.records.decode(body)
            else:
                work.item = decode(desk.schema, body, head.media_type)
        except CaseError as error:
            core.answering.refuse(work, error)
            return
        core.answering.take(work)

    async def _infer(self, cycle: Any, head: Head, body: bytes) -> None:
        """Answer tensors with tensors, and errors in the form of that protocol."""
        models = self.shared.models
        assert head.tensors is not None
        try:
            desk = models.desk(head.token, head.desk.name)
            reply = await exchange.infer(models, desk, head.tensors, body)
        except TenureError as error:
            self.shared.slot.add("refused")
            said = _status(error.status) + headers_of_error(error) + _LENGTH
            self._write(cycle, said, exchange.error_body(error))
        except Exception as error:  # noqa: BLE001  # the edge: a bug must not look like a dead server
            self._fault(cycle, error)
        else:
            lines = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
            self._write(cycle, b"HTTP/1.1 200 OK\r\n%bcontent-length: " % lines.encode("latin-1"), reply.body)

    def _done(self, work: Work) -> None:
        cycle, error = work.caller, work.error
        if error is not None:
            if isinstance(error, TenureError):
                self._error(cycle, error)
            else:
                self._fault(cycle, error)
            return
        decided = work.route != Route.PENDING
        self.shared.tally.answered(work.latency_us, decided=decided)
        body = work.json or _encode(work.answer)
        if decided:
            self._write(cycle, _OK, body)
        else:
            head = (
                b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\n"
                b"location: /v1/decisions/%b\r\ncontent-length: " % _id_of(work).encode()
            )
            self._write(cycle, head, body)

    def _write(self, cycle: Any, head: bytes, body: bytes) -> None:
        if cycle.disconnected:
            return
        stay = cycle.keep_alive and self.shared.is_open
        self.transport.write(b"%b%d%b%b" % (head, len(body), _END if stay else _CLOSE, body))
        cycle.response_complete = True
        cycle.work = None
        self._moved_s = self.loop.time()
        if not stay:
            self.transport.close()
        elif self.pipeline:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            if self.flow.read_paused:
                self.flow.resume_reading()

    def _error(self, cycle: Any, error: TenureError) -> None:
        self.shared.tally.refused()
        self._write(cycle, _status(error.status) + headers_of_error(error) + _LENGTH, _encode(error.body()))

    def _fault(self, cycle: Any, error: Exception) -> None:
        self.shared.slot.add("faults")
        self._write(cycle, _status(500) + _LENGTH, fault_body(error, f"POST {self.url.decode('latin-1')}"))

    def _refuse(self, error: CaseError) -> None:
        """Answer what is no request, and close: nothing behind it can be understood."""
        if self.transport is None or self.transport.is_closing():
            return
        self.shared.tally.refused()
        if self.cycle is None or self.cycle.response_complete or self._head is not None:
            body = _encode(error.body())
            self.transport.write(b"%b%d%b%b" % (_status(error.status) + _LENGTH, len(body), _CLOSE, body))
        self._head = None
        self._arriving = False
        self.transport.close()

    # Everything else

    def _to_app(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _late_to_app(self, body: bytes) -> None:
        """Hand over a request that looked plain until its body was there."""
        self.cycle = None  # type: ignore[assignment]
        self._to_app()
        super().on_body(body)
        super().on_message_complete()


def read_infer_head(desk: Desk, headers: list[tuple[bytes, bytes]]) -> Head | None:
    """Return what the headers of a call with tensors say; None where the app must look at them."""
    found = _by_name(headers)
    if (length := _length_of(desk, found)) is None:
        return None
    said = {name.decode("latin-1"): value.decode("latin-1") for name, value in found.items()}
    head = Head(desk, length, said)
    head.token = token_of(said)
    return head


def _by_name(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found.setdefault(name.lower(), value)  # of a name sent twice the first counts
    return found


def _length_of(desk: Desk, found: dict[bytes, bytes]) -> int | None:
    """Return the length of the body; None where the app must look at the request."""
    length = found.get(b"content-length", b"")
    plain = length.isdigit() and len(length) < 10 and not _NEEDS_APP & found.keys()
    return int(length) if plain and int(length) <= desk.spec.serve.max_body else None


def read_head(desk: Desk, headers: list[tuple[bytes, bytes]]) -> Head | None:
    """Return what the headers of a plain predict call say; None where the app must look at them."""
    found = _by_name(headers)
    if (length := _length_of(desk, found)) is None:
        return None
    accept = found.get(b"accept", b"*/*")
    if accept != b"*/*" and preferred(accept.decode("latin-1"), ("application/json",)) is None:
        return None  # the app says in which form there is an answer
    head = Head(desk, length)
    head.media_type = found.get(b"content-type", b"").decode("latin-1")
    essence = head.media_type.partition(";")[0].strip().lower()
    if not accepts(desk.schema, essence):
        return None
    head.token = token_of({name: found.get(name.encode(), b"").decode("latin-1") for name in _CALLER})
    head.unit = found.get(b"tenure-unit", b"").decode("latin-1") or None
    limit = found.get(b"tenure-deadline-ms")
    if limit is not None:
        try:
            head.deadline_s = number_of(limit.decode("latin-1"), "Tenure-Deadline-Ms") / 1000.0
        except CaseError as error:
            head.fault = error
    return head


_NEEDS_APP = frozenset(
    {b"expect", b"transfer-encoding", b"content-encoding", b"idempotency-key", b"upgrade", b"tenure-unit-field"}
)
_CALLER = ("authorization", "host", "origin")
_LENGTH = b"content-type: application/json\r\ncontent-length: "


def _status(code: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (code, HTTPStatus(code).phrase.encode())


def _too_large_head() -> CaseError:
    return CaseError(f"the head is larger than {MAX_HEAD} bytes", code="too_large", at="headers", status=431)


def _id_of(work: Work) -> str:
    return "" if work.answer is None else work.answer.id
