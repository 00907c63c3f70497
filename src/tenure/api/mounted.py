"""The data plane as an ASGI app for a server that is there already: worker and controller in its process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from tenure import dataplane, system
from tenure.api import adhoc
from tenure.clock import SystemClock
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.http.app import data_app
from tenure.deploy.serving.processes import supervisor
from tenure.errors import AccessError, BusyError
from tenure.model.code import end_of_script
from tenure.scope.project import Project
from tenure.settings import Settings

if TYPE_CHECKING:
    from tenure.controller.loop import Controller
    from tenure.deploy.serving.predict.core import Core

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_READY_S = 60.0
_UNSTARTED = BusyError(
    "tenure is not started: hand the outer app its lifespan, as in FastAPI(lifespan=app.lifespan)",
    code="not_ready",
)
_log = logging.getLogger("tenure")


def asgi(project: Project | str | Path | None = None, *, open_loopback: bool = False) -> Mounted:
    """Return the data plane of a project as an ASGI app; for one process of one server.

    Run by itself (`uvicorn my:app`) it starts and ends with the server. Mounted into another app it needs that
    app's lifespan: `FastAPI(lifespan=app.lifespan)`. The console is not part of it; `tenure` commands work.

    With `open_loopback` no token is asked for: only for a server that listens on loopback.

    Raises:
        ProjectError: there is no project, or it has faults.
    """
    end_of_script()
    return Mounted(adhoc.find(project), open_loopback=open_loopback)


class Mounted:
    """An ASGI app that answers between the start and the end of its `lifespan`."""

    def __init__(
        self, project: Project, *, open_loopback: bool = False, settings: Settings | None = None
    ) -> None:
        self.project = project
        self.folder = project.folder()
        self._open = open_loopback
        self._settings = settings or Settings()
        self._app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._as_server(receive, send)
        elif self._app is None:
            await JSONResponse(_UNSTARTED.body(), 503)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Any = None) -> AsyncIterator[None]:
        """Start the controller and the worker, and end them; for the outer app's lifespan.

        Raises:
            ConflictError: another server runs on the data folder.
            BusyError: the versions are not loaded within a minute.
        """
        system.prepare(self.folder)
        lock = supervisor.claim(self.folder)
        try:
            async with self._controller() as page, self._worker(page):
                yield
        finally:
            self._app = None
            os.close(lock)

    @contextlib.asynccontextmanager
    async def _controller(self) -> AsyncIterator[ControlPage]:
        page = ControlPage.create(self.folder / "control.page", workers=1)
        loop = asyncio.get_running_loop()
        controller = await loop.run_in_executor(None, self._make_controller)
        thread = threading.Thread(target=controller.run, name="controller")
        thread.start()
        try:
            yield page
        finally:
            controller.stop()
            await loop.run_in_executor(None, thread.join)

    def _make_controller(self) -> Controller:
        controller, services = system.control(
            self.project, self.folder, clock=SystemClock(), settings=self._settings
        )
        if not self._open and all(a.revoked_us is not None for a in services.access.list()):
            raise AccessError(
                "nobody could call this app: it has no tokens; run `tenure token create NAME --role client`",
                at="tokens",
            )
        controller.start()
        return controller

    @contextlib.asynccontextmanager
    async def _worker(self, page: ControlPage) -> AsyncIterator[None]:
        clock = SystemClock()
        core = dataplane.core(
            self.project, self.folder, 0, page=page, clock=clock, settings=self._settings, name="worker-0",
            open_loopback=self._open,
        )  # fmt: skip
        slot = page.slot(0)
        ready = asyncio.Event()
        polling = asyncio.create_task(self._poll(core, slot, ready))
        try:
            async with asyncio.timeout(_READY_S):
                await ready.wait()
            self._app = data_app(core, page=page, slot=slot, clock=clock)
            yield
        except TimeoutError as error:
            raise BusyError("the versions are not loaded; see the log above", code="not_ready") from error
        finally:
            self._app = None
            polling.cancel()
            core.close()
            slot.state = "empty"

    async def _poll(self, core: Core, slot: Slot, ready: asyncio.Event) -> None:
        while True:
            try:
                core.poll()
            except Exception:  # noqa: BLE001  # one bad poll must not blind the worker for ever
                _log.exception("a worker's poll failed")
            if slot.state == "ready":
                ready.set()
            await asyncio.sleep(self._settings.page_poll_s)

    async def _as_server(self, receive: Receive, send: Send) -> None:
        """Speak the lifespan protocol of ASGI."""
        await receive()
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})
