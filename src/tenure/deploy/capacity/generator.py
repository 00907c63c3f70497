"""An open-loop HTTP/1.1 load generator, a process of its own: requests leave when they are due, answered or not.

A closed loop, which sends when the last answer came, goes slower exactly when the server does and so hides its
worst moments (coordinated omission). Here the times are drawn beforehand and latency counts from them. What is
the generator's own fault, being late, is kept apart and told.

`python -m tenure.deploy.capacity.generator` reads a `Load` from stdin and writes a `Raw` to stdout, in msgpack.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import ssl
import sys
from collections import deque
from typing import Any

import httptools
import msgspec
import numpy as np

from tenure.clock import Clock, SystemClock
from tenure.deploy.capacity.alarm import Alarm
from tenure.deploy.capacity.arrivals import MOST, Pattern, arrivals, rate_at

UNANSWERED, BROKEN, NOT_SENT = 0, 1, 2
"""Statuses that no server sends: no answer in time; the connection failed; given up before it was sent."""
_STALE_NS = 2_000_000_000
"""An idle connection this old is not used again: the server may be about to close it."""
_SWEEP_S = 0.1


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send.

    Attributes:
        host: address of the server.
        port: of the server.
        requests: whole HTTP/1.1 requests, sent in rotation.
        rate: requests a second.
        seconds: length of the measured part.
        warmup: seconds before it at the same rate, which are not counted.
        pattern: how arrivals are spread.
        seed: of their draw.
        ramp: whether the rate climbs to `rate`.
        connections: most connections; a request that finds all of them busy waits, and its latency grows.
        timeout: seconds after which a request counts as unanswered.
        budget: seconds within which an answer is good; for `give_up`.
        give_up: end early after so many late or failed requests; 0 = never.
        closed: send on each connection when its last answer came, as fast as it goes, instead of by the clock.
        tls: whether the server speaks TLS.
    """

    host: str
    port: int
    requests: tuple[bytes, ...]
    rate: float = 1.0
    seconds: float = 10.0
    warmup: float = 0.0
    pattern: Pattern = "poisson"
    seed: int = 0
    ramp: bool = False
    connections: int = 512
    timeout: float = 10.0
    budget: float = 0.0
    give_up: int = 0
    closed: bool = False
    tls: bool = False


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """What happened: one element a request in each array, little endian; times are seconds from the start.

    `due` is when it should have been sent, `taken` when the generator came to it, `done` when its answer was
    complete (NaN without one). `status` is that of HTTP, or one of this file's.
    """

    due: bytes  # <f8
    taken: bytes  # <f8
    done: bytes  # <f8
    status: bytes  # <u2
    cpu_s: float
    wall_s: float
    connections: int
    gave_up: bool = False
    error: str = ""

    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """Return due, taken, done, status."""
        due, taken, done = (np.frombuffer(data, "<f8") for data in (self.due, self.taken, self.done))
        return due, taken, done, np.frombuffer(self.status, "<u2")


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._parser = httptools.HttpResponseParser(self)
        self.transport: Any = None
        self.current = -1
        self.idle_ns = self.sent_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._engine.joined(self)

    def send(self, number: int, request: bytes, now_ns: int) -> None:
        self.current, self.sent_ns = number, now_ns
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:  # what it sends is no HTTP: the request counts as broken
            self.transport.abort()

    def on_message_complete(self) -> None:
        number, self.current = self.current, -1
        keep = self._parser.should_keep_alive() and number >= 0
        if number >= 0:
            self._engine.answered(number, self._parser.get_status_code())
        if keep:
            self._engine.free(self)
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._engine.left(self)


class _Engine:
    """Takes requests when they are due, finds or opens a connection for each, and notes what became of it."""

    def __init__(self, load: Load, due: list[float], *, clock: Clock) -> None:
        self._load, self._clock = load, clock
        self.due = due
        self.taken = [float("nan")] * len(due)
        self.done = [float("nan")] * len(due)
        self.status = [NOT_SENT] * len(due)
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gave_up, self.error = False, ""
        self.most = 0  # connections that were open at once
        self._next, self._left, self._bad = 0, len(due), 0
        self._open = 0
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._waiting: deque[int] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ssl = ssl.create_default_context() if load.tls else None
        self._end_s = load.warmup + load.seconds
        self._start_ns = 0
        self._alarm: Alarm | None = None

    def start(self) -> None:
        self._start_ns = self._clock.monotonic_ns() + (0 if self._load.closed else 20_000_000)
        asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        if self._load.closed:
            for _ in range(self._load.connections):
                self._more()
            return
        self._alarm = Alarm(self._due, clock=self._clock)
        self._alarm.set(self._ns(self.due[0]))

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.close()
        for connection in [*self._idle, *self._busy]:
            connection.transport.abort()

    # Requests

    def _due(self) -> None:
        now = self._now()
        while self._next < len(self.due) and self.due[self._next] <= now:
            self.taken[self._next] = now
            self._offer(self._next)
            self._next += 1
            now = self._now()
        if self._next < len(self.due) and self._alarm is not None:
            self._alarm.set(self._ns(self.due[self._next]))

    def _more(self) -> None:
        """Take the next request of a closed loop, which is due at once."""
        now = self._now()
        if now >= self._end_s or len(self.due) >= MOST or self.gave_up:
            return
        self.due.append(now)
        self.taken.append(now)
        self.done.append(float("nan"))
        self.status.append(NOT_SENT)
        self._left += 1
        self._offer(len(self.due) - 1)

    def _offer(self, number: int) -> None:
        now_ns = self._clock.monotonic_ns()
        while self._idle:  # the warmest first
            connection = self._idle.pop()
            if now_ns - connection.idle_ns <= _STALE_NS and not connection.transport.is_closing():
                self._send(connection, number)
                return
            connection.transport.close()
        self._waiting.append(number)
        if self._open < self._load.connections:
            self._connect()

    def _send(self, connection: _Connection, number: int) -> None:
        self._busy.add(connection)
        self.status[number] = UNANSWERED
        requests = self._load.requests
        connection.send(number, requests[number % len(requests)], self._clock.monotonic_ns())

    def answered(self, number: int, status: int) -> None:
        self.done[number] = now = self._now()
        self._settle(number, status)
        late = self._load.budget and now - self.due[number] > self._load.budget
        if late or status not in (200, 202):
            self._count_bad(number)

    def _settle(self, number: int, status: int) -> None:
        self.status[number] = status
        self._left -= 1
        if self._load.closed:
            self._more()
        if self._left == 0 and (self._next >= len(self.due) or self._load.closed):
            self._finish()

    def _count_bad(self, number: int) -> None:
        self._bad += self.due[number] >= self._load.warmup
        if 0 < self._load.give_up <= self._bad:
            self.gave_up = True
            self._finish()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    # Connections

    def _connect(self) -> None:
        self._open += 1
        self.most = max(self.most, self._open)
        task = asyncio.get_running_loop().create_task(self._connecting())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connecting(self) -> None:
        loop, load = asyncio.get_running_loop(), self._load
        try:
            async with asyncio.timeout(load.timeout):
                await loop.create_connection(lambda: _Connection(self), load.host, load.port, ssl=self._ssl)
        except (OSError, TimeoutError) as error:
            self._open -= 1
            self.error = str(error) or type(error).__name__
            if self._waiting:
                number = self._waiting.popleft()
                self._settle(number, BROKEN)
                self._count_bad(number)

    def joined(self, connection: _Connection) -> None:
        self.free(connection)

    def free(self, connection: _Connection) -> None:
        """Give a connection its next request, or let it rest."""
        self._busy.discard(connection)
        if self._waiting:
            self._send(connection, self._waiting.popleft())
            return
        connection.idle_ns = self._clock.monotonic_ns()
        self._idle.append(connection)

    def left(self, connection: _Connection) -> None:
        self._open -= 1
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.current >= 0:
            number, connection.current = connection.current, -1
            overdue = self._clock.monotonic_ns() - connection.sent_ns >= self._load.timeout * 1e9
            self._settle(number, UNANSWERED if overdue else BROKEN)
            self._count_bad(number)
        if self._waiting and self._open < self._load.connections and not self.finished.done():
            self._connect()

    # Time

    def _sweep(self) -> None:
        """Let go of what has waited too long; end when nothing can come any more."""
        if self.finished.done():
            return
        now, oldest_ns = self._now(), self._clock.monotonic_ns() - int(self._load.timeout * 1e9)
        for connection in [c for c in self._busy if c.sent_ns <= oldest_ns]:
            connection.transport.abort()
        while self._waiting and self.due[self._waiting[0]] + self._load.timeout < now:
            number = self._waiting.popleft()
            self._settle(number, UNANSWERED)
            self._count_bad(number)
        if now > self._end_s + self._load.timeout + 1.0:
            self._finish()
        asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _now(self) -> float:
        return (self._clock.monotonic_ns() - self._start_ns) / 1e9

    def _ns(self, at_s: float) -> int:
        return self._start_ns + int(at_s * 1e9)


async def run(load: Load, *, clock: Clock) -> Raw:
    """Send a load and return what became of every request."""
    due = [] if load.closed else _times(load)
    engine = _Engine(load, due, clock=clock)
    gc.collect()
    gc.disable()  # a pause of ours would look like one of the server's
    start_ns, before = clock.monotonic_ns(), _cpu_s()
    engine.start()
    await engine.finished
    wall_s, cpu_s = (clock.monotonic_ns() - start_ns) / 1e9, _cpu_s() - before
    engine.close()
    return Raw(
        due=np.array(engine.due, "<f8").tobytes(), taken=np.array(engine.taken, "<f8").tobytes(),
        done=np.array(engine.done, "<f8").tobytes(), status=np.array(engine.status, "<u2").tobytes(),
        cpu_s=cpu_s, wall_s=wall_s, connections=engine.most, gave_up=engine.gave_up, error=engine.error,
    )  # fmt: skip


def _times(load: Load) -> list[float]:
    """Return when requests are due: the warm-up's, which are not counted, before the measured ones."""
    calm, out = rate_at(load.rate, 0.0, ramp=load.ramp), []
    if calm * load.warmup >= 1:
        out += list(arrivals(calm, load.warmup, pattern=load.pattern, seed=load.seed + 1))
    measured = arrivals(load.rate, load.seconds, pattern=load.pattern, seed=load.seed, ramp=load.ramp)
    return [*map(float, out), *map(float, measured + load.warmup)]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _allow_connections(count: int) -> None:
    """Raise the limit of open files as far as this user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 64
    if soft != resource.RLIM_INFINITY and soft < wanted:
        top = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))


def main() -> None:
    """Run one load from stdin."""
    import uvloop

    load = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Load)
    _allow_connections(load.connections)
    raw = uvloop.run(run(load, clock=SystemClock()))
    with open(1, "wb", closefd=False) as out:  # an unbuffered sys.stdout may write a part and say no more
        out.write(msgspec.msgpack.encode(raw))


if __name__ == "__main__":
    main()
