"""A real server for the serving journeys: tiny models, tokens, two workers, free ports, HTTP clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import serving_models as models

from tenure import system
from tenure.clock import SystemClock
from tenure.data.access import Access
from tenure.data.records import decode_id
from tenure.data.state import State
from tenure.data.view import Log
from tenure.deploy.rollout.ledger import Rollouts
from tenure.model.registry import Registry
from tenure.scope.project import (
    Automation,
    EndpointSpec,
    Fallback,
    Field,
    Output,
    Project,
    RolloutSpec,
    Scope,
    Serve,
    Server,
    Step,
)
from tenure.settings import Settings

LABELS = Output(labels=("big", "small"))
JSON = {"Content-Type": "application/json"}
IDLE_S = 2.0  # the server closes a connection after 5 s without a request: maybe just when the next one comes
PATIENT = Serve(max_queue=60.0)  # one that sheds load, as a busy machine must, is not what the journeys are about
SIZES = EndpointSpec(
    input="record",
    fields={"a": Field(type="float")},
    automation=Automation(start="full", max="full"),
    rollout=RolloutSpec(steps=(Step(share=0.25, min=10**9), Step(share=1.0))),
    serve=PATIENT,
)
PHOTOS = EndpointSpec(
    input="image", automation=Automation(start="human_only"), serve=Serve(max_body=200_000, max_queue=60.0)
)
NOTES = EndpointSpec(
    input="text",
    automation=Automation(start="full", max="full"),
    serve=Serve(on_timeout=Fallback(decide="small", after=0.5), max_body=10_000, max_queue=60.0),
)
SAMPLES: dict[str, Any] = {"sizes": {"a": 2.0}, "notes": "a note"}


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One keep-alive connection."""

    def __init__(self, url: str, token: str = "", *, timeout: float = 90) -> None:
        self.host, self.token, self.timeout = url.removeprefix("http://"), token, timeout
        self.connection = http.client.HTTPConnection(self.host, timeout=timeout)
        self._last = time.monotonic()

    def refresh(self) -> None:
        """Let go of a connection that was idle for a while; the next call opens another."""
        if time.monotonic() - self._last > IDLE_S:
            self.close()

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """Send one request; a value that is not bytes is sent as JSON."""
        self.refresh()
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body, sent = json.dumps(body).encode(), JSON | sent
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        self.connection.request(method, path, body, sent)
        reply = self.connection.getresponse()
        got = Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        self._last = time.monotonic()
        return got

    def close(self) -> None:
        self.connection.close()


class World:
    """A project folder with registered versions, and the server on it."""

    def __init__(
        self,
        root: Path,
        endpoints: dict[str, EndpointSpec],
        *,
        workers: int = 2,
        settings: Settings | None = None,
    ) -> None:
        self.project = system.resolved(
            Project(
                project="journey", root=str(root), scope=Scope(case="new", y=LABELS), endpoints=endpoints,
                server=Server(port=0, console_port=0, workers=workers),
            )
        )  # fmt: skip
        self.folder = self.project.folder()
        system.prepare(self.folder)
        self.state = State.open(system.state_url(self.project), SystemClock())
        self.registry = Registry(self.state, self.folder)
        self.tokens = {role: Access(self.state).create(role, role) for role in ("client", "reviewer", "operator")}
        self.server: system.Server | None = None
        self.clients: list[Client] = []

    def register(self, endpoint: str, stage: Any, *, sample: Any = None, stable: bool = True) -> str:
        spec = self.project.endpoints[endpoint]
        version = self.registry.register(
            endpoint, stage, spec=spec, output=LABELS, sample=SAMPLES[endpoint] if sample is None else sample
        )
        if stable:
            with self.state.begin() as conn:
                Rollouts(self.state, self.project.endpoints).set_stable(conn, endpoint, version, "test")
        return version

    @contextlib.contextmanager
    def running(self) -> Iterator[World]:
        with system.Server(self.project) as self.server:
            try:
                yield self
            finally:
                for client in self.clients:
                    client.close()

    @property
    def up(self) -> system.Server:
        assert self.server is not None
        return self.server

    def client(self, role: str = "client") -> Client:
        """Return a connection to the data port, or for other roles to the management port."""
        made = Client(self.up.url if role in ("client", "") else self.up.console_url, self.tokens.get(role, ""))
        self.clients.append(made)
        return made

    def rows(self, what: str = "predictions", where: str = "true") -> list[dict[str, Any]]:
        log = Log(self.folder)
        try:
            return log.query(f"select * from {what} where {where} order by t_ns, seq").to_pylist()
        finally:
            log.close()

    def key(self, public_id: str) -> tuple[int, int]:
        found = decode_id(public_id, system.secret(self.folder))
        assert found is not None
        return found


def sizes_world(root: Path, **options: Any) -> World:
    """One record endpoint whose model decides everything."""
    spec = options.pop("spec", SIZES)
    world = World(root, {"sizes": spec}, **options)
    world.register("sizes", models.Size())
    return world


def with_serve(spec: EndpointSpec, **options: Any) -> EndpointSpec:
    return msgspec.structs.replace(spec, serve=msgspec.structs.replace(spec.serve, **options))
