"""The wire, byte by byte: what is answered, what is refused, and what can never be smuggled in."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_world import NUMBER, World, ask

from tenure.deploy.serving.http import protocol
from tenure.deploy.serving.http.app import data_app
from tenure.deploy.serving.http.protocol import MAX_HEAD, Service, protocol_of
from tenure.deploy.serving.oip.service import Service as Models
from tenure.deploy.serving.predict.core import Core, guard
from tenure.deploy.serving.processes.worker import QuietServer, config
from tenure.scope.project import Serve
from tenure.types import Answer, Level

HEAD = b"POST /v1/e/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> Reply:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)).decode("latin-1")
        lines = head.split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(lines[0].split(" ")[1]), headers, body)

    async def rest(self) -> bytes:
        """Return what comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), 60)


class Site(NamedTuple):
    world: World
    core: Core
    service: Service
    port: int

    async def connect(self) -> Wire:
        return Wire(*await asyncio.open_connection("127.0.0.1", self.port))

    async def once(self, data: bytes) -> Reply:
        wire = await self.connect()
        try:
            await wire.send(data)
            return await wire.reply()
        finally:
            wire.writer.close()


@asynccontextmanager
async def serving(world: World, *, may: Callable[[str], None] | None = None) -> AsyncIterator[Site]:
    core = await world.ready(world.core())
    if may is not None:
        core._may = may
    slot = world.page.slot(0)
    models = Models(core, page=world.page, slot=slot, clock=world.clock)
    service = Service(core, slot, world.clock, models)
    app = data_app(core, page=world.page, slot=slot, clock=world.clock, tally=service.tally, models=models)
    server = QuietServer(config(app, http=protocol_of(service)))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(64)
        running = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        try:
            yield Site(world, core, service, sock.getsockname()[1])
        finally:
            server.should_exit = True
            await running


def on(world: World, work: Callable[[Site], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def whole() -> Any:
        async with serving(world, **options) as site:
            return await work(site)

    try:
        return asyncio.run(whole())
    finally:
        world.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.at(Level.FULL, audit=0.5)
    return made


def post(value: Any, *headers: bytes) -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    extra = b"".join(h + b"\r\n" for h in headers)
    return HEAD + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


# What is answered


def test_the_fast_path_answers_and_logs_as_the_core_does(world: World) -> None:
    async def work(site: Site) -> tuple[list[Reply], list[Answer]]:
        wire = await site.connect()
        replies = []
        for a in (3.0, 1.1, 13.0):
            await wire.send(post({"a": a}))
            replies.append(await wire.reply())
        answers = [await site.core.predict(ask(a)) for a in (3.0, 1.1, 13.0)]
        again = [await site.core.decision("", r.json()["id"], 0) for r in replies[:2]]
        assert [json.loads(msgspec.json.encode(a)) for a in again] == [r.json() for r in replies[:2]]
        return replies, answers

    replies, answers = on(world, work)
    assert [r.status for r in replies] == [200, 200, 202]
    for reply, answer in zip(replies, answers, strict=True):
        expected = json.loads(msgspec.json.encode(answer))
        assert reply.json() | {"id": ""} == expected | {"id": ""}
    assert replies[2].headers["location"] == f"/v1/decisions/{replies[2].json()['id']}"


def test_many_connections_share_frames_and_each_gets_its_own_answer(world: World) -> None:
    wanted = [a for a in range(-50, 50) if a != 13]

    async def work(site: Site) -> None:
        wires = [await site.connect() for _ in range(11)]
        for i in range(0, len(wanted), 11):
            for wire, a in zip(wires, wanted[i:], strict=False):
                wire.writer.write(post({"a": float(a)}))
            for wire, a in zip(wires, wanted[i : i + 11], strict=False):
                assert (await wire.reply()).json()["decision"]["value"] == ("big" if a > 1 else "small")

    on(world, work)


def test_bodies_in_pieces_and_other_lengths_on_one_connection(world: World) -> None:
    async def work(site: Site) -> None:
        wire = await site.connect()
        for a in (5.0, 123456.789, 2.0):
            for byte in post({"a": a}):
                wire.writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await wire.reply()).json()["decision"]["value"] == "big"
        for text in (b'{"a": 7}', b'  {"a":\n 7.25}', b'{"a": 1e2}'):
            await wire.send(post(text))
            assert (await wire.reply()).status == 200

    on(world, work)


def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    async def work(site: Site) -> None:
        wire = await site.connect()
        await wire.send(b"".join(post({"a": a}) for a in (5.0, -5.0, 6.0, -6.0)))
        said = [(await wire.reply()).json()["decision"]["value"] for _ in range(4)]
        assert said == ["big", "small", "big", "small"]
        await wire.send(post({"a": 5.0}) + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" + post({"a": -5.0}))
        kinds = [(await wire.reply()).json() for _ in range(3)]
        assert [("status" in k and k["status"]) for k in kinds] == ["decided", "alive", "decided"]

    on(world, work)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (post(b'{"a": "x"}'), 422, "wrong_type"),
        (post(b"{}"), 422, "missing_field"),
        (post(b'{"a": 1'), 422, "invalid_json"),
        (post(b'{"a": 1, "b": 2}'), 422, "unknown_field"),
        (post({"a": 1}, b"Tenure-Deadline-Ms: soon"), 400, "invalid_number"),
        (post({"a": 1}).replace(b"application/json", b"image/png"), 415, "unsupported_media_type"),
        (post({"a": 1}).replace(b"/e/", b"/nobody/"), 404, "unknown_endpoint"),
        (post(b"x" * 200), 413, "too_large"),
        (post({"a": 1}).replace(b"/predict", b"/else"), 404, "not_found"),
        (post({"a": 1}).replace(b"POST", b"PUT"), 405, "method_not_allowed"),
    ],
)
def test_errors_have_one_form_whoever_writes_them(tmp_path: Path, data: bytes, status: int, code: str) -> None:
    world = World(tmp_path, spec=msgspec.structs.replace(NUMBER, serve=Serve(max_body=100)))
    world.at(Level.FULL)
    reply = on(world, lambda site: site.once(data))
    assert (reply.status, reply.json()["code"]) == (status, code)
    assert set(reply.json()) == {"error", "code", "at"}


def test_tokens_are_asked_for_before_the_body_is_looked_at(world: World) -> None:
    class Client:
        name, role = "ann", "client"

        def may(self, action: str) -> bool:
            return action == "predict"

    may = guard(lambda token: Client() if token == "t" else None, open_loopback=False)

    async def work(site: Site) -> None:
        refused = await site.once(post(b"no json"))
        assert (refused.status, refused.json()["code"]) == (401, "unauthenticated")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert (await site.once(post({"a": 5}, b"Authorization: Bearer t"))).status == 200

    on(world, work, may=may)


@pytest.mark.parametrize("path", [b"/v1/e/predict", b"/v1/e/predict?x=1"], ids=["plain", "app"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((b"Host: localhost:8700",), 200),
        ((b"Host: [::1]:8700", b"Origin: http://127.0.0.1:8701"), 200),
        ((b"Host: evil.example:8700",), 401),
        ((b"Host: 127.0.0.1", b"Origin: https://evil.example"), 401),
        ((b"Host: 127.0.0.1", b"Origin: null"), 401),
        ((b"Host: 127.0.0.1.evil.example", b"Authorization: Basic eA=="), 401),
        ((b"Host: evil.example", b"Authorization: Bearer t"), 200),
    ],
)
def test_a_page_of_another_site_cannot_use_an_open_server(
    world: World, path: bytes, headers: tuple[bytes, ...], status: int
) -> None:
    class Client:
        name, role = "ann", "client"

        def may(self, action: str) -> bool:
            return action == "predict"

    may = guard(lambda token: Client() if token == "t" else None, open_loopback=True)

    async def work(site: Site) -> None:
        body = b'{"a": 5}'
        head = b"".join(line + b"\r\n" for line in (b"POST " + path + b" HTTP/1.1", *headers))
        about = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert (await site.once(head + about + body)).status == status

    on(world, work, may=may)


def test_overload_is_told_at_once_with_a_time_to_come_back(world: World) -> None:
    async def work(site: Site) -> Reply:
        site.core._fleet.queued_us = lambda: 2_500_000.0  # type: ignore[method-assign]
        return await site.once(post({"a": 1}))

    reply = on(world, work)
    assert (reply.status, reply.headers["retry-after"], reply.json()["code"]) == (503, "3", "overloaded")


def test_a_bug_of_ours_is_a_500_with_an_id_and_the_connection_lives(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(site: Site) -> None:
        wire = await site.connect()
        take = site.core.answering.take
        site.core.answering.take = lambda work: 1 / 0  # type: ignore[assignment, method-assign, return-value]
        await wire.send(post({"a": 1}))
        reply = await wire.reply()
        assert (reply.status, reply.json()["code"]) == (500, "internal")
        assert reply.json()["at"] in caplog.text
        site.core.answering.take = take  # type: ignore[method-assign]
        await wire.send(post({"a": 1}))
        assert (await wire.reply()).status == 200

    on(world, work)
    assert world.page.slot(0).get("faults") == 1


def test_what_is_counted_is_what_was_answered(world: World) -> None:
    async def work(site: Site) -> None:
        wire = await site.connect()
        for body in (b'{"a": 5}', b'{"a": 13}', b"{}", b'{"a": 6}'):
            await wire.send(post(body))
            await wire.reply()
        site.service.tally.flush()

    on(world, work)
    slot = world.page.slot(0)
    counted = {name: slot.get(name) for name in ("requests", "auto", "pending", "refused", "failed")}
    assert counted == {"requests": 4, "auto": 2, "pending": 1, "refused": 1, "failed": 1}
    assert sum(slot.buckets()) == 3


def test_who_hangs_up_before_the_model_ran_leaves_no_row(world: World) -> None:
    async def work(site: Site) -> None:
        hold: list[Any] = []
        tick = site.core.answering._tick
        site.core.answering._tick = lambda: hold.append(1)  # type: ignore[method-assign]
        wire = await site.connect()
        await wire.send(post({"a": 5}))
        while not hold:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        wire.writer.transport.abort()
        while not all(w.gone for w in site.core.answering._arrived):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        tick()

    on(world, work)
    assert world.log.query("select count(*) n from predictions").to_pylist() == [{"n": 0}]


# The end


def test_a_draining_worker_answers_and_closes(world: World) -> None:
    async def work(site: Site) -> None:
        wire = await site.connect()
        await wire.send(post({"a": 5}))
        assert "connection" not in (await wire.reply()).headers
        site.service.is_open = False
        world.page.slot(0).state = "draining"
        await wire.send(post({"a": 5}))
        reply = await wire.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await wire.rest() == b""

    on(world, work)


@pytest.mark.parametrize("line", [b"Connection: close", b"connection: Close"])
def test_a_client_that_wants_to_close_is_closed(world: World, line: bytes) -> None:
    async def work(site: Site) -> None:
        wire = await site.connect()
        await wire.send(post({"a": 5}, line))
        assert (await wire.reply()).headers["connection"] == "close"
        assert await wire.rest() == b""

    on(world, work)


def test_slow_and_idle_clients_are_let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_CHECK_S", 0.02)
    monkeypatch.setattr(protocol, "ARRIVAL_S", 0.1)

    async def work(site: Site) -> None:
        slow = [await site.connect() for _ in range(2)]
        await slow[0].send(HEAD)
        await slow[1].send(HEAD + b"Content-Length: 10\r\n\r\n{")
        for wire in slow:
            reply = await wire.reply()
            assert (reply.status, reply.json()["code"]) == (408, "timeout")
            assert await wire.rest() == b""
        monkeypatch.setattr(protocol.PredictProtocol, "idle_s", 0.05)
        silent = await site.connect()
        assert await silent.rest() == b""

    on(world, work)


# What is no request


SMUGGLED = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b'{"a": 5}'
BROKEN: dict[str, bytes] = {
    "two lengths": HEAD + b"Content-Length: 8\r\nContent-Length: 9\r\n\r\n" + BODY,
    "two equal lengths": HEAD + b"Content-Length: 8\r\nContent-Length: 8\r\n\r\n" + BODY,
    "length and chunked": HEAD + b"Content-Length: 8\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 8\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked is not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a negative length": HEAD + b"Content-Length: -8\r\n\r\n" + BODY,
    "a signed length": HEAD + b"Content-Length: +8\r\n\r\n" + BODY,
    "a hex length": HEAD + b"Content-Length: 0x8\r\n\r\n" + BODY,
    "a huge length": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n" + BODY,
    "a list of lengths": HEAD + b"Content-Length: 8, 8\r\n\r\n" + BODY,
    "obs-fold": HEAD + b"X-Folded: a\r\n b\r\nContent-Length: 8\r\n\r\n" + BODY,
    "folded length": HEAD + b"Content-Length:\r\n 8\r\n\r\n" + BODY,
    "space before colon": HEAD + b"Content-Length : 8\r\n\r\n" + BODY,
    "bare LF in the head": HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 8\n\n" + BODY,
    "bare CR in a value": HEAD + b"X-A: a\rb\r\nContent-Length: 8\r\n\r\n" + BODY,
    "a zero byte in a value": HEAD + b"X-A: a\0b\r\nContent-Length: 8\r\n\r\n" + BODY,
    "no method": b"/v1/e/predict HTTP/1.1\r\nHost: x\r\n\r\n",
    "another version": b"POST /v1/e/predict HTTP/3.7\r\nHost: x\r\nContent-Length: 8\r\n\r\n" + BODY,
    "a bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_two_parsers_could_read_differently_is_refused(world: World, what: str) -> None:
    """One refusal, then the end: nothing behind a doubtful request is ever taken for a request."""

    async def work(site: Site) -> bytes:
        wire = await site.connect()
        await wire.send(BROKEN[what] + SMUGGLED)
        return await wire.rest()

    said = on(world, work)
    statuses = re.findall(rb"HTTP/1\.1 (\d{3})", said)
    assert len(statuses) <= 1, said
    assert all(400 <= int(s) < 500 for s in statuses), said
    assert b"alive" not in said


def test_a_head_without_end_costs_a_bounded_memory(world: World) -> None:
    async def work(site: Site) -> None:
        for line in (b"X-Long: " + b"a" * 4096 + b"\r\n", b"a" * 4096):
            wire = await site.connect()
            await wire.send(HEAD if line.startswith(b"X") else b"GET /")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError, AssertionError)):  # noqa: PT012
                for _ in range(200):
                    await wire.send(line)
                    await asyncio.sleep(0)
                said = await wire.rest()
                assert b"200 OK" in said, said
        assert (await site.once(post({"a": 5}))).status == 200

    on(world, work)


def test_a_large_head_in_one_piece_is_refused(world: World) -> None:
    reply = on(world, lambda site: site.once(post({"a": 5}, b"X-Long: " + b"a" * MAX_HEAD)))
    assert reply.status in (400, 431)


def test_requests_sent_far_ahead_end_the_connection(world: World) -> None:
    async def work(site: Site) -> bytes:
        wire = await site.connect()
        await wire.send(SMUGGLED * 500)
        return await wire.rest()

    said = on(world, work)
    assert said.count(b"HTTP/1.1 200") < 100


def test_expect_continue_and_chunks_are_answered(world: World) -> None:
    async def work(site: Site) -> None:
        wire = await site.connect()
        await wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 8\r\n\r\n")
        assert (await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), 60)).startswith(b"HTTP/1.1 100")
        await wire.send(BODY)
        assert (await wire.reply()).status == 200
        await wire.send(HEAD + b'Transfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n5\r\n": 5}\r\n0\r\n\r\n')
        assert (await wire.reply()).json()["decision"]["value"] == "big"
        await wire.send(post({"a": 5}, b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings"))
        assert (await wire.reply()).status == 200
        await wire.send(post({"a": 5}))
        assert (await wire.reply()).status == 200, "and the connection goes on"

    on(world, work)


def test_a_client_that_reads_nothing_does_not_fill_the_memory(world: World) -> None:
    async def work(site: Site) -> None:
        wire = await site.connect()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(50):
            wire.writer.write(post({"a": 5}) * 8)
            await asyncio.sleep(0)
        assert (await site.once(post({"a": 5}))).status == 200
        wire.writer.transport.abort()

    on(world, work)


pieces = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([
        post({"a": 5}), SMUGGLED, HEAD, BODY, b"\r\n", b"\n", b"\r\n\r\n", b"Content-Length: 8\r\n",
        b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"Expect: 100-continue\r\n", *BROKEN.values(),
    ]),
)  # fmt: skip


def fuzz(many: int) -> None:
    """Throw byte streams at a server: it answers or closes, gives no 5xx, and still serves afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.at(Level.FULL)

        async def work(site: Site) -> None:
            @settings(
                max_examples=many, deadline=None, derandomize=True, database=None,
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(st.lists(pieces, min_size=1, max_size=8))
            def throw(parts: list[bytes]) -> None:
                # The protocol is driven directly: a socket would only add time.
                talk = Talk(site)
                for part in parts:
                    talk.feed(part)
                assert not re.search(rb"HTTP/1\.1 5\d\d", bytes(talk.out)), (parts, bytes(talk.out))
                talk.end()

            throw()
            assert (await site.once(post({"a": 5}))).status == 200

        on(world, work)


class Talk(asyncio.Transport):
    """A transport that keeps what is written; between two pieces the tick runs."""

    def __init__(self, site: Site) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.out, self.closed = bytearray(), False
        self._site = site
        from uvicorn.server import ServerState

        made = protocol_of(site.service)
        self.protocol = made(config=_config(site), server_state=ServerState(), app_state={})
        self.protocol.connection_made(self)

    def feed(self, data: bytes) -> None:
        if not self.closed:
            self.protocol.data_received(data)
            if self._site.core.answering._arrived:
                self._site.core.answering._tick()

    def end(self) -> None:
        for task in self.protocol.tasks:
            task.cancel()
        self.protocol.connection_lost(None)

    def write(self, data: Any) -> None:
        self.out += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


def _config(site: Site) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    made = config(app, http=protocol_of(site.service))
    made.load()
    return made


def test_no_stream_of_bytes_brings_a_5xx_or_the_server_down() -> None:
    fuzz(1500)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_stream_of_bytes_brings_a_5xx_or_the_server_down_long() -> None:
    fuzz(100_000)
