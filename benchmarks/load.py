"""An HTTP/1.1 load generator in a process of its own: closed loop, or open loop with Poisson arrivals. Linux.

    python load.py < job      prints one JSON object

The job is one line of JSON and then the bytes of the requests, one after the other, as `lengths` says:
`{"host", "port", "connections", "seconds", "warmup", "rate", "seed", "lengths"}`. Requests are sent in turn.

Closed loop (`rate` 0): every keep-alive connection has one request in flight. Open loop: requests are due at
random times that do not depend on the answers, and latency counts from when a request was due, so that a server
that stands still is charged for everybody who waits (no coordinated omission). A request that was still
unanswered at the end counts with its age, and in `unanswered`. A connection that the server closes ends the run.

It is one loop over epoll without a framework: about 25 microseconds a request at full load. `cpu_us` says what it
was; `busy` near 1 means that the generator was the limit, and not the server.
"""

from __future__ import annotations

import ctypes
import gc
import json
import random
import resource
import select
import socket
import sys
import time
from array import array
from collections import deque
from typing import Any

_clock = time.perf_counter
_END = b"\r\n\r\n"
_CHUNKED = -1
_SAMPLES, _FIRST = 64, 16
_EVERY = 499  # a prime, so that samples meet every connection and every request
_PATIENCE_S = 10.0  # for answers after the end


class Connection:
    """One keep-alive connection with at most one request in flight."""

    __slots__ = ("buffer", "number", "since", "sock")

    def __init__(self, host: str, port: int) -> None:
        self.sock = socket.create_connection((host, port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.buffer = b""
        self.number = 0
        self.since = 0.0


class Load:
    """What is sent, what came back, and the counts."""

    def __init__(self, job: dict[str, Any], requests: list[bytes]) -> None:
        self.requests = requests
        self.poll = select.epoll()
        self.connections: dict[int, Connection] = {}
        for _ in range(int(job["connections"])):
            made = Connection(job["host"], int(job["port"]))
            self.connections[made.sock.fileno()] = made
            self.poll.register(made.sock.fileno(), select.EPOLLIN)
        self.lengths: dict[bytes, int] = {}
        self.start = _clock() + float(job["warmup"])
        self.end = self.start + float(job["seconds"])
        self.latencies, self.late = array("d"), array("d")
        self.by_due = bool(job["rate"])  # whether the window holds what was due in it, or what was answered in it
        self.sent = self.answered = self.in_time = self.bad = self.closed = 0
        self.samples: list[tuple[int, int, str, str]] = []

    # One connection

    def send(self, at: Connection, since: float) -> None:
        """Send the next request; `since` is where its latency counts from."""
        at.number = self.sent % len(self.requests)
        self.sent += 1
        at.since = since
        at.sock.sendall(self.requests[at.number])

    def receive(self, at: Connection) -> bool:
        """Take what came; True when the answer is complete."""
        try:
            data = at.sock.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self._lose(at)
            return False
        if at.buffer:
            data = at.buffer + data
        cut = data.find(_END)
        if cut < 0:
            at.buffer = data
            return False
        head = data[:cut]
        length = self.lengths.get(head)
        if length is None:
            length = self._learn(head)
        done = data.endswith(b"0\r\n\r\n") if length == _CHUNKED else len(data) >= cut + 4 + length
        if not done:
            at.buffer = data
            return False
        at.buffer = b""
        self._count(at, head, data[cut + 4 :])
        return True

    def _learn(self, head: bytes) -> int:
        """Return the body's length that a head names; heads repeat, so it is remembered."""
        if len(self.lengths) > 4096:
            self.lengths.clear()
        lines = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
        named = {name.strip(): value.strip() for name, _, value in lines}
        chunked = named.get(b"transfer-encoding", b"").endswith(b"chunked")
        length = _CHUNKED if chunked else int(named.get(b"content-length", b"0"))
        self.lengths[head] = length
        return length

    def _count(self, at: Connection, head: bytes, body: bytes) -> None:
        now = _clock()
        self.answered += 1
        self.in_time += self.start <= now <= self.end
        if self.start <= (at.since if self.by_due else now) <= self.end:
            self.latencies.append(now - at.since)
        if not head.startswith(b"HTTP/1.1 200"):
            self.bad += 1
        if (self.answered <= _FIRST or self.answered % _EVERY == 0) and len(self.samples) < _SAMPLES:
            status = int(head[9:12])
            self.samples.append((at.number, status, head.decode("latin-1"), body.decode("latin-1")))

    def _lose(self, at: Connection) -> None:
        self.poll.unregister(at.sock.fileno())
        del self.connections[at.sock.fileno()]
        at.sock.close()
        self.closed += 1
        self.bad += 1

    # The loops

    def closed_loop(self) -> int:
        """Send again whenever an answer is complete; return how many stay unanswered."""
        connections, receive, send = self.connections, self.receive, self.send
        for one in connections.values():
            send(one, _clock())
        open_, give_up = len(connections), self.end + _PATIENCE_S
        while open_ > 0 and not self.closed and _clock() < give_up:
            for fd, _ in self.poll.poll(0.2):
                one = connections[fd]
                if receive(one):
                    now = _clock()
                    if now < self.end:
                        send(one, now)
                    else:
                        open_ -= 1
        return open_

    def open_loop(self, due: deque[float]) -> int:
        """Send at the times in `due`; return how many stay unanswered."""
        timer = Timer()
        self.poll.register(timer.fd, select.EPOLLIN)
        free, waiting = deque(self.connections.values()), deque[float]()
        timer.set(due[0])
        count, give_up = len(free), self.end + _PATIENCE_S
        while (due or waiting or len(free) < count) and not self.closed and _clock() < give_up:
            for fd, _ in self.poll.poll(0.2):
                if fd == timer.fd:
                    waiting.extend(timer.passed(due))
                elif self.receive(self.connections[fd]):
                    free.append(self.connections[fd])
                while waiting and free:
                    since = waiting.popleft()
                    self._note_late(since, was_free=fd == timer.fd)
                    self.send(free.popleft(), since)
        waiting.extend(due)
        now = _clock()
        busy = set(self.connections.values()) - set(free)
        left = [*waiting, *(one.since for one in busy)]
        self.latencies.extend(now - since for since in left if since >= self.start)
        return len(left)

    def _note_late(self, since: float, *, was_free: bool) -> None:
        if was_free:  # a request that had to wait for a connection is late by the server's fault
            self.late.append(_clock() - since)


class Timer:
    """Wakes epoll at an exact time: its own time-outs are whole milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, 0o4000)  # TFD_NONBLOCK

    def set(self, at: float) -> None:
        """Ring at this time of `time.perf_counter`, which is CLOCK_MONOTONIC."""
        seconds, nanoseconds = int(at), int((at % 1) * 1e9)
        when = (ctypes.c_long * 4)(0, 0, seconds, max(1, nanoseconds))
        self._libc.timerfd_settime(self.fd, 1, when, None)  # TFD_TIMER_ABSTIME; also clears that it rang

    def passed(self, due: deque[float]) -> list[float]:
        """Take the times that have come, and wait for the next."""
        now, found = _clock(), []
        while due and due[0] <= now:
            found.append(due.popleft())
        self.set(due[0] if due else now + 3600)
        return found


def poisson(rate: float, *, start: float, end: float, seed: int) -> deque[float]:
    """Return times of independent arrivals at `rate` a second."""
    draw, at, out = random.Random(seed), start, deque[float]()
    while (at := at + draw.expovariate(rate)) < end:
        out.append(at)
    return out


def percentiles(values: array[float]) -> dict[str, float]:
    """Return milliseconds."""
    kept = sorted(values)
    if not kept:
        return {}
    spots = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(kept[int(q * (len(kept) - 1))] * 1e3, 4) for name, q in spots.items()}


def run(job: dict[str, Any], requests: list[bytes]) -> dict[str, Any]:
    load, began, used = Load(job, requests), _clock(), _cpu_s()
    if job["rate"]:
        due = poisson(float(job["rate"]), start=_clock(), end=load.end, seed=int(job["seed"]))
        unanswered = load.open_loop(due)
    else:
        unanswered = load.closed_loop()
    cpu_s, took = _cpu_s() - used, min(_clock(), load.end) - began
    return {
        "answers": len(load.latencies),
        "in_time": load.in_time,
        "all": load.answered,
        "seconds": float(job["seconds"]),
        "bad": load.bad,
        "closed": load.closed,
        "unanswered": unanswered,
        "ms": percentiles(load.latencies),
        "late_ms": percentiles(load.late),
        "cpu_us": round(cpu_s / max(1, load.answered) * 1e6, 2),
        "busy": round(cpu_s / took, 3),
        "samples": load.samples,
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    source = sys.stdin.buffer
    job = json.loads(source.readline())
    requests = [source.read(length) for length in job["lengths"]]
    gc.disable()  # nothing here makes cycles; a collection would be a pause on the server's account
    print(json.dumps(run(job, requests)))


if __name__ == "__main__":
    main()
