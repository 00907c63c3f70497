"""A scripted HTTP server in a thread: what it does with a request is told by the request's body."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWERS = {
    b"ok": OK,
    b"pending": b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
    b"shed": b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
    b"bad": b"HTTP/1.1 422 Unprocessable\r\ncontent-length: 0\r\n\r\n",
    b"fault": b"HTTP/1.1 500 Fault\r\ncontent-length: 0\r\n\r\n",
    b"close": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    b"chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"noise": b"this is no HTTP\r\n\r\n",
}


class Script:
    """What all connections share."""

    def __init__(self, hold: int) -> None:
        self.hold = hold  # answers to `ok` wait until so many requests have come
        self.seen: list[bytes] = []
        self.heads: list[bytes] = []
        self.held: list[Any] = []

    def take(self, transport: Any, head: bytes, body: bytes) -> None:
        self.seen.append(body)
        self.heads.append(head)
        if body == b"drop":
            transport.abort()
        elif body == b"ok" and len(self.seen) < self.hold:
            self.held.append(transport)
        elif body in ANSWERS:
            transport.write(ANSWERS[body])
        if len(self.seen) >= self.hold:
            for waiting in self.held:
                waiting.write(OK)
            self.held.clear()


class Connection(asyncio.Protocol):
    def __init__(self, script: Script) -> None:
        self.script, self.buffer = script, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]) if found else 0
        if found and len(body) >= size:
            self.buffer = b""
            self.script.take(self.transport, head, body)


@contextmanager
def serving(hold: int = 0) -> Iterator[tuple[int, Script]]:
    """Give (port, what came) of a server; it ends with the block."""
    script, started = Script(hold), threading.Event()
    made: list[Any] = []

    async def run() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(lambda: Connection(script), "127.0.0.1", 0)
        made.extend((server.sockets[0].getsockname()[1], loop, stop))
        started.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert started.wait(60)
    port, loop, stop = made
    try:
        yield port, script
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)


def request(body: bytes) -> bytes:
    return b"POST /v1/x/predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
