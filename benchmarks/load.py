"""A closed-loop HTTP/1.1 load generator of its own process: N keep-alive connections, one request each in flight.

Raw protocol callbacks on uvloop, so that it costs little beside what it measures.
`python load.py HOST PORT CONNECTIONS SECONDS WARMUP < request` prints {"answers", "all", "seconds", "bad", "ms"}.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

_clock = time.perf_counter


class Connection(asyncio.Protocol):
    """Sends the request again whenever its answer is complete."""

    def __init__(self, request: bytes, times: list[tuple[float, float]], bad: list[int], until: float) -> None:
        self.request, self.times, self.bad, self.until = request, times, bad, until
        self.done = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.sent = _clock()
        self.transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.buffer.lower().find(b"content-length: ", 0, head + 2) + 16
        length = int(self.buffer[at : self.buffer.index(b"\r", at)])
        if len(self.buffer) < head + 4 + length:
            return
        now = _clock()
        self.times.append((now, now - self.sent))
        if not self.buffer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 202")):
            self.bad[0] += 1
        self.buffer = b""
        if now < self.until:
            self._send()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def run(host: str, port: int, *, connections: int, seconds: float, warmup: float, request: bytes) -> dict:
    loop = asyncio.get_running_loop()
    times: list[tuple[float, float]] = []
    bad, start = [0], _clock() + warmup
    made = [
        await loop.create_connection(lambda: Connection(request, times, bad, start + seconds), host, port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))  # type: ignore[attr-defined]
    kept = sorted(took for at, took in times if start <= at <= start + seconds)
    spots = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    ms = {name: round(kept[int(q * (len(kept) - 1))] * 1e3, 3) for name, q in spots.items()} if kept else {}
    return {"answers": len(kept), "all": len(times), "seconds": seconds, "bad": bad[0], "ms": ms}


def main() -> None:
    host, port, connections, seconds, warmup = sys.argv[1], *map(float, sys.argv[2:6])
    request = sys.stdin.buffer.read()
    work = run(host, int(port), connections=int(connections), seconds=seconds, warmup=warmup, request=request)
    print(json.dumps(uvloop.run(work)))


if __name__ == "__main__":
    main()
