"""One worker process: uvicorn on a socket that the supervisor holds, the core behind it, an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

from tenure.clock import Clock
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.http.app import data_app
from tenure.deploy.serving.http.protocol import Service, protocol_of
from tenure.deploy.serving.oip.service import Service as Models
from tenure.deploy.serving.predict.core import Core
from tenure.scope.project import Server
from tenure.settings import Settings

if TYPE_CHECKING:
    from tenure.deploy.serving.oip.rpc import RpcDoor

_log = logging.getLogger("tenure.serving")
FAREWELL_S = 1.0
"""How long a stopping worker still answers on the connections that it has, telling each client to close: long
enough for one more request on every busy connection, so that none of them is cut."""

PATIENCE_S = 5.0
"""How long a starting worker leaves callers in the socket's queue when no other worker answers; then it tells
them that it is not ready."""


class QuietServer(uvicorn.Server):
    """Uvicorn without signal handlers of its own: its host decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def drain(self, seconds: float) -> None:
        """Take no new connections and wait until those that are open have ended, at most so long."""
        for listener in getattr(self, "servers", ()):
            listener.close()
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self.server_state.connections and loop.time() < end:  # noqa: ASYNC110  # nobody tells when one ends
            await asyncio.sleep(0.01)


def config(app: Any, *, drain_s: float = 5.0, http: Any = "httptools", **options: Any) -> uvicorn.Config:
    """Return how every server of ours runs; requests in hand may take `drain_s` once it ends."""
    return uvicorn.Config(
        app, http=http, loop="uvloop", ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=max(1, round(drain_s)), **options,
    )  # fmt: skip


async def serve(
    core: Core, sock: socket.socket, *, page: ControlPage, slot: Slot, clock: Clock, settings: Settings,
    server: Server, parent: int | None = None,
) -> None:  # fmt: skip
    """Answer requests until SIGTERM, SIGINT or the end of the parent (EOF on the pipe `parent`).

    No connection is taken before the first routing table is in force: those who wait in the socket's queue go
    to a worker that is ready, or are answered a moment later instead of refused.

    The end has an order: `ready` turns false; where the whole server ends, `notice` passes, so that a load
    balancer may see it; no more connections are taken; held requests are let go; what is in hand is answered,
    each answer telling its client to close; then the process ends, after `drain` at the latest.
    """
    loop = asyncio.get_running_loop()
    models = Models(core, page=page, slot=slot, clock=clock)
    service = Service(core, slot, clock, models)
    app = data_app(core, page=page, slot=slot, clock=clock, tally=service.tally, models=models)
    http = QuietServer(config(app, drain_s=server.drain, http=protocol_of(service)))
    stop = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    if parent is not None:
        loop.add_reader(parent, lambda: _at_end(parent, stop))
    gc.collect()
    gc.freeze()  # what is imported stays: no later collection has to walk through it
    core.live.foresee()
    polling = loop.create_task(_poll(core, service, settings.page_poll_s))
    stopping = loop.create_task(stop.wait())
    rpc = _rpc(core, page=page, slot=slot, clock=clock, server=server)
    await _until_ready(page, slot, stop)
    serving = loop.create_task(http.serve(sockets=[sock]))
    if rpc is not None:
        await rpc.begin()
    await asyncio.wait({stopping, serving, polling}, return_when=asyncio.FIRST_COMPLETED)
    slot.state = "draining"
    service.is_open = False
    if page.ending and server.notice:
        await asyncio.sleep(server.notice)
    core.release_waiting()
    await asyncio.gather(http.drain(min(FAREWELL_S, server.drain)), *([rpc.end(server.drain)] if rpc else ()))
    http.should_exit = True
    await serving
    polling.cancel()
    stopping.cancel()
    service.tally.flush()
    core.close()
    slot.state = "empty"


def _rpc(core: Core, *, page: ControlPage, slot: Slot, clock: Clock, server: Server) -> RpcDoor | None:
    if server.grpc_port is None:
        return None
    from tenure.deploy.serving.oip import rpc  # an extra that others need not install

    return rpc.RpcDoor(core, page=page, slot=slot, clock=clock, server=server)


async def _until_ready(page: ControlPage, slot: Slot, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_S
    while slot.state == "starting" and not stop.is_set():
        if loop.time() > end and all(other.state != "ready" for other in page.slots()):
            return
        await asyncio.sleep(0.005)


async def _poll(core: Core, service: Service, period_s: float) -> None:
    while True:
        try:
            core.poll()
            service.tally.flush()
        except Exception:  # noqa: BLE001  # one bad poll must not blind the worker for ever
            _log.exception("a worker's poll failed")
        await asyncio.sleep(period_s)


def _at_end(fd: int, stop: asyncio.Event) -> None:
    if not os.read(fd, 1):
        asyncio.get_running_loop().remove_reader(fd)
        stop.set()


def run(make: Callable[[], Any]) -> None:
    """Run a coroutine function on uvloop."""
    import uvloop

    uvloop.run(make())


def leave() -> None:
    """End this process now: all is answered and logged, and a thread of a model that hangs must not hold it."""
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)
