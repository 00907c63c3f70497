"""The composition root: builds every process from a project, by plain constructor calls.

Also what the top package offers: `register`, `serve`, `ask`, `asgi`.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib.util
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from tenure.clock import Clock, SystemClock
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.processes import supervisor
from tenure.deploy.serving.processes.supervisor import Limits, Role, Supervisor
from tenure.errors import AccessError, ProjectError, StoreError
from tenure.scope.hosts import LOOPBACK
from tenure.scope.project import Project
from tenure.settings import Settings

if TYPE_CHECKING:
    from tenure.console.services import Services
    from tenure.controller.loop import Controller

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Launch(msgspec.Struct, frozen=True):
    """What the supervisor tells its children, in `<data>/launch.json`."""

    project: Project
    open_loopback: bool = False
    data_url: str = ""


# Folders


def resolved(project: Project) -> Project:
    """Return the project with every endpoint's output filled in from the scope's y."""
    endpoints = {
        name: msgspec.structs.replace(spec, output=spec.output or project.scope.y)
        for name, spec in project.endpoints.items()
    }
    return msgspec.structs.replace(project, endpoints=endpoints)


def prepare(folder: Path) -> None:
    """Make the data folder with its secret key, readable by the owner only.

    Raises:
        StoreError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("spool", "schemas", "routing", "bundles"):
            (folder / name).mkdir(exist_ok=True)
        key = folder / "secret.key"
        if not key.exists():
            _make_secret(key)
    except OSError as error:
        raise StoreError(f"cannot make the data folder: {error}", at=str(folder)) from error


def _make_secret(key: Path) -> None:
    temporary = key.with_name(f"{key.name}.{os.getpid()}")
    try:
        temporary.touch(mode=0o600)
        temporary.write_bytes(os.urandom(32))
        with contextlib.suppress(FileExistsError):  # another process made it meanwhile: that one stands
            os.link(temporary, key)
    finally:
        temporary.unlink(missing_ok=True)


def secret(folder: Path) -> bytes:
    """Return the key behind ids and hashed units."""
    return (folder / "secret.key").read_bytes()


def state_url(project: Project) -> str | Path:
    """Return where the control state is."""
    return project.server.state or project.folder() / "state.db"


# The control plane


def control(
    project: Project, folder: Path, *, clock: Clock, settings: Settings, data_url: str = ""
) -> tuple[Controller, Services]:  # fmt: skip
    """Build the controller and the services behind the management API; `data_url` is where the workers are."""
    from tenure.console.previewing import Previews
    from tenure.console.services import Services
    from tenure.controller.loop import Controller
    from tenure.data.access import Access
    from tenure.data.records import decode_id
    from tenure.data.schema import Contract, InputSchema
    from tenure.data.state import State
    from tenure.data.view import Log
    from tenure.deploy.automation.ledger import Automation
    from tenure.deploy.review.queue import ReviewQueue
    from tenure.deploy.rollout.ledger import Rollouts
    from tenure.maintain.retrain import Retrainer
    from tenure.model.registry import Registry
    from tenure.monitor.board import Monitor

    state = State.open(state_url(project), clock)
    page = ControlPage(folder / "control.page")
    key = secret(folder)
    log = Log(folder)
    endpoints = project.endpoints
    contracts = {n: Contract(InputSchema.of(spec), project.output(n)) for n, spec in endpoints.items()}
    registry = Registry(state, folder, contracts=contracts, trusted=project.trust)
    waking: list[Callable[[], None]] = []

    def wake() -> None:
        for call in waking:
            call()

    def media(item: str) -> tuple[str, bytes] | None:
        found = decode_id(item, key)
        return None if found is None else log.payload(*found)

    queue = ReviewQueue(state, endpoints, output=project.scope.y, on_decision=wake, settings=settings)
    automation = Automation(
        state, endpoints, wait_s=max((s.review.lease for s in endpoints.values()), default=30.0)
    )
    rollouts = Rollouts(state, endpoints, case=project.scope.case)
    monitor = Monitor(state, endpoints, clock=clock, outputs={n: project.output(n) for n in endpoints})

    def deploy(endpoint: str, version: str, cause: str) -> str:
        return rollouts.start(endpoint, version, by="tenure", reason=cause)

    retrainer = Retrainer(
        state,
        endpoints,
        folder,
        registry=registry,
        root=Path(project.root),
        clock=clock,
        payload=media,
        deploy=deploy,
    )
    access = Access(state)
    controller = Controller(
        project, folder, state=state, page=page, settings=settings, secret=key, queue=queue,
        automation=automation, rollouts=rollouts, monitor=monitor, retrainer=retrainer, registry=registry,
        principals=access,
    )  # fmt: skip
    waking.append(controller.wake)  # the queue was made before the controller
    services = Services(
        project=project, state=state, queue=queue, rollouts=rollouts, automation=automation, access=access,
        health=lambda: health(page, clock), media=media, retrain=retrainer.start, wake=controller.wake,
        publish=controller.react, preview=Previews(data_url, key),
    )  # fmt: skip
    return controller, services


def health(page: ControlPage, clock: Clock) -> dict[str, Any]:
    """Say how workers and controller are."""
    workers = [
        {"worker": s.index, "state": s.state, "pid": s.pid, "routing": s.routing, "requests": s.get("requests")}
        for s in page.slots()
    ]
    age = (clock.now_ns() - page.controller_ns) / 1e9
    ready = any(w["state"] == "ready" for w in workers)
    return {"ready": ready, "workers": workers, "routing": page.routing, "controller_age_s": round(age, 3)}


# A server


class Server:
    """A running server: workers, controller and the sockets that they share. Use it as a context manager."""

    def __init__(
        self, project: Project, *, open_loopback: bool = False, settings: Settings | None = None
    ) -> None:
        self.project = resolved(project)
        self.folder = project.folder()
        options = project.server
        if options.host not in LOOPBACK and open_loopback:
            raise AccessError("a server without tokens may only listen on loopback", at="server.host")
        prepare(self.folder)
        self._check_tokens(open_loopback)
        with contextlib.ExitStack() as undo:  # or the next try would find folder and address taken
            self._lock = supervisor.claim(self.folder)
            undo.callback(os.close, self._lock)
            self.page = ControlPage.create(self.folder / "control.page", workers=options.workers)
            self._data = undo.enter_context(supervisor.bind(options.host, options.port))
            self._console = undo.enter_context(supervisor.bind(options.host, options.console_port))
            self._rpc = undo.enter_context(self._reserved())
            launch = msgspec.json.encode(Launch(self.project, open_loopback, _url(self._data)))
            (self.folder / "launch.json").write_bytes(launch)
            undo.pop_all()
        roles = [
            Role(f"worker {i}", ("worker", str(self.folder), str(i)), self._data, i)
            for i in range(options.workers)
        ]
        roles.append(Role("controller", ("controller", str(self.folder)), self._console, None))
        told = settings or Settings()
        limits = Limits(told.hung_s, told.controller_hung_s, options.drain + options.notice)
        self.supervisor = Supervisor(roles, page=self.page, clock=SystemClock(), limits=limits)
        self.url = _url(self._data)
        self.console_url = _url(self._console)

    def _reserved(self) -> contextlib.AbstractContextManager[socket.socket | None]:
        """Hold the port of gRPC, which the workers share; where it is 0, the project gets the found one."""
        options = self.project.server
        if options.grpc_port is None:
            return contextlib.nullcontext()
        if importlib.util.find_spec("grpc") is None:
            raise ProjectError(["server.grpc_port: gRPC is not installed; run `pip install 'tenure[grpc]'`"])
        sock = supervisor.reserve(options.host, options.grpc_port)
        server = msgspec.structs.replace(options, grpc_port=sock.getsockname()[1])
        self.project = msgspec.structs.replace(self.project, server=server)
        return sock

    def _check_tokens(self, open_loopback: bool) -> None:
        if open_loopback:
            return
        from tenure.data.access import Access
        from tenure.data.state import State

        state = State.open(state_url(self.project), SystemClock())
        try:
            if all(listed.revoked_us is not None for listed in Access(state).list()):
                raise AccessError(
                    "nobody could call this server: it has no tokens; make one with `tenure token create`, "
                    "or allow calls without a token on loopback with --open-loopback",
                    at="tokens",
                )
        finally:
            state.close()

    def start(self, *, timeout_s: float = 60.0) -> Server:
        """Start all processes and wait until the workers take requests."""
        try:
            self.supervisor.start()
            self.supervisor.wait_ready(timeout_s)
        except BaseException:
            self.stop()
            raise
        return self

    def renew(self, *, timeout_s: float = 120.0) -> None:
        """Replace the workers by new processes, one after the other, without losing a request.

        Raises:
            BusyError: a new worker is not ready in time; those after it go on as they were.
        """
        self.supervisor.renew(timeout_s)

    def stop(self) -> None:
        """End all processes; what was answered is in the log."""
        self.supervisor.stop()
        if self._rpc is not None:
            self._rpc.close()
        os.close(self._lock)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# Children: python -m tenure.system worker FOLDER INDEX --socket FD --parent FD


def main(arguments: list[str] | None = None) -> None:
    """Run one child of the supervisor."""
    parser = argparse.ArgumentParser(prog="tenure.system")
    parser.add_argument("role", choices=("worker", "controller"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("index", type=int, nargs="?", default=0)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    told = parser.parse_args(arguments)
    logging.basicConfig(level=os.environ.get("TENURE_LOG", "WARNING"), format=_LOG_FORMAT, stream=sys.stderr)
    faulthandler.enable()  # a crash in native code, and a hang that the supervisor ends, say where
    faulthandler.register(signal.SIGUSR2)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a bad form is the caller's news, not ours
    launch = msgspec.json.decode((told.folder / "launch.json").read_bytes(), type=Launch)
    sys.path.insert(0, launch.project.root)
    sock = socket.socket(fileno=told.socket)
    child = _worker if told.role == "worker" else _controller
    child(told, launch, sock)


def _worker(told: argparse.Namespace, launch: Launch, sock: socket.socket) -> None:
    from tenure import dataplane
    from tenure.deploy.serving.processes import worker

    clock, settings = SystemClock(), Settings()
    page = ControlPage(told.folder / "control.page")

    async def serve() -> None:
        made = dataplane.core(
            launch.project, told.folder, told.index, page=page, clock=clock, settings=settings,
            name=f"worker-{told.index}", open_loopback=launch.open_loopback,
        )  # fmt: skip
        await worker.serve(
            made, sock, page=page, slot=page.slot(told.index), clock=clock, settings=settings,
            server=launch.project.server, parent=told.parent,
        )  # fmt: skip

    worker.run(serve)
    worker.leave()


def _controller(told: argparse.Namespace, launch: Launch, sock: socket.socket) -> None:
    controller, services = control(
        launch.project, told.folder, clock=SystemClock(), settings=Settings(), data_url=launch.data_url
    )
    controller.start()
    # the workers can answer now; what the console needs takes 0.2 s to load
    from tenure.console import process
    from tenure.deploy.serving.processes import worker

    async def serve() -> None:
        await process.serve(controller, services, sock, open_loopback=launch.open_loopback, parent=told.parent)

    worker.run(serve)


if __name__ == "__main__":
    main()
