"""One worker process: uvicorn on a socket that the supervisor holds, the core behind it, an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from tenure.clock import Clock
from tenure.deploy.serving.app import data_app
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.core import Core
from tenure.settings import Settings

_log = logging.getLogger("tenure.serving")
DRAIN_S = 1.0
"""How long a stopping worker still answers on the connections that it has, telling each client to close: long
enough for one more request on every busy connection, so that none of them is cut."""


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


def config(app: Any, **options: Any) -> uvicorn.Config:
    """Return how every server of ours runs."""
    return uvicorn.Config(
        app, http="httptools", loop="uvloop", ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=5, **options,
    )  # fmt: skip


async def serve(
    core: Core, sock: socket.socket, *, page: ControlPage, slot: Slot, clock: Clock, settings: Settings,
    parent: int | None = None,
) -> None:  # fmt: skip
    """Answer requests until SIGTERM, SIGINT or the end of the parent (EOF on the pipe `parent`)."""
    loop = asyncio.get_running_loop()
    server = QuietServer(config(data_app(core, page=page, slot=slot, clock=clock)))
    stop = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    if parent is not None:
        loop.add_reader(parent, lambda: _at_end(parent, stop))
    polling = loop.create_task(_poll(core, settings.page_poll_s))
    serving = loop.create_task(server.serve(sockets=[sock]))
    stopping = loop.create_task(stop.wait())
    await asyncio.wait({stopping, serving, polling}, return_when=asyncio.FIRST_COMPLETED)
    slot.state = "draining"
    core.release_waiting()
    await server.drain(DRAIN_S)
    server.should_exit = True
    await serving
    polling.cancel()
    stopping.cancel()
    core.close()
    slot.state = "empty"


async def _poll(core: Core, period_s: float) -> None:
    while True:
        try:
            core.poll()
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
