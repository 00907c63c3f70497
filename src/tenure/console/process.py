"""The controller's process: the loop in a thread, the management API on the event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading

from tenure.console.api import management_app
from tenure.console.services import Services
from tenure.controller.loop import Controller
from tenure.deploy.serving.processes.worker import QuietServer, config


async def serve(
    controller: Controller, services: Services, sock: socket.socket, *, open_loopback: bool, parent: int | None
) -> None:
    """Run a controller that has started until SIGTERM, SIGINT or the end of the parent."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    if parent is not None:
        loop.add_reader(parent, lambda: _at_end(parent, stop))
    thread = threading.Thread(target=controller.run, name="controller")
    thread.start()
    app = management_app(services, open_loopback=open_loopback)
    server = QuietServer(config(app))
    serving = loop.create_task(server.serve(sockets=[sock]))
    stopping = loop.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    controller.stop()
    app.state.stream.end()
    server.should_exit = True
    await serving
    await loop.run_in_executor(None, thread.join)


def _at_end(fd: int, stop: asyncio.Event) -> None:
    if not os.read(fd, 1):
        asyncio.get_running_loop().remove_reader(fd)
        stop.set()
