"""Workers without a controller: the test itself publishes routing tables, as fast as it likes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from serving_server import LABELS, SIZES, Client

from tenure import system
from tenure.clock import SystemClock
from tenure.data.state import State
from tenure.deploy.router import Endpoint, Policy, Table
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.processes import supervisor
from tenure.deploy.serving.processes.supervisor import Limits, Role, Supervisor
from tenure.model.registry import Registry
from tenure.scope.project import EndpointSpec, Project, Scope, Server
from tenure.types import Level

FULL = Policy(1, Level.FULL, audit=0.0)


class Plant:
    """A data folder, its versions and its workers under a real supervisor."""

    def __init__(
        self, root: Path, *, workers: int = 1, spec: EndpointSpec = SIZES, limits: Limits | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        server = Server(port=0, console_port=0, workers=workers, **options)
        self.project = system.resolved(
            Project(
                project="plant", root=str(root), scope=Scope(case="new", y=LABELS), endpoints={"sizes": spec},
                server=server,
            )
        )  # fmt: skip
        self.folder = self.project.folder()
        system.prepare(self.folder)
        self.state = State.open(system.state_url(self.project), SystemClock())
        self.registry = Registry(self.state, self.folder)
        self.page = ControlPage.create(self.folder / "control.page", workers=workers)
        (self.folder / "launch.json").write_bytes(msgspec.json.encode(system.Launch(self.project, True)))
        self.sock = supervisor.bind("127.0.0.1", 0)
        roles = [Role(f"worker {i}", ("worker", str(self.folder), str(i)), self.sock, i) for i in range(workers)]
        self.supervisor = Supervisor(roles, page=self.page, clock=SystemClock(), limits=limits)
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"

    def register(self, stage: Any) -> str:
        spec = self.project.endpoints["sizes"]
        return self.registry.register("sizes", stage, spec=spec, output=LABELS, sample={"a": 2.0})

    def publish(self, version: str, **route: Any) -> int:
        """Put a version in force; returns the number of the table."""
        number = self.page.routing + 1
        table = Table(number, time.time_ns(), {"sizes": Endpoint(version, FULL, **route)})
        (self.folder / "routing" / f"{number}.json").write_bytes(msgspec.json.encode(table))
        self.page.controller_ns = time.time_ns()
        self.page.routing = number
        return number

    def swap(self, version: str, **route: Any) -> None:
        """Publish and wait until every worker serves with it."""
        number = self.publish(version, **route)
        wait(lambda: self.page.acknowledged() >= number, f"table {number} to be in force")

    @contextlib.contextmanager
    def running(self) -> Iterator[Plant]:
        try:
            self.supervisor.start()
            self.supervisor.wait_ready(60)
            yield self
        finally:
            self.supervisor.stop()
            self.state.close()

    def client(self) -> Client:
        return Client(self.url)

    def pid(self, worker: int = 0) -> int:
        return self.supervisor.pids()[f"worker {worker}"]


def wait(is_so: Any, what: str, seconds: float = 100.0) -> None:
    """Wait until it is so; an upper bound only, for a broken build."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.002)
