"""A real server with an endpoint of each kind, for clients that we did not write."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import foreign_models as models
from PIL import Image as Pillow

from tenure import system
from tenure.clock import SystemClock
from tenure.data.access import Access
from tenure.data.state import State
from tenure.deploy.rollout.ledger import Rollouts
from tenure.model.registry import Registry
from tenure.scope.project import Automation, EndpointSpec, Field, Output, Project, Scope, Server

LABELS = Output(labels=("big", "small"))
FULL = Automation(start="full", max="full")
PEOPLE = Automation(start="human_only")
NUMBERS = {"a": Field(type="float"), "b": Field(type="float")}
ENDPOINTS = {
    "simple": EndpointSpec(input="record", fields=NUMBERS, automation=FULL),
    "people": EndpointSpec(input="record", fields=NUMBERS, automation=PEOPLE),
    "price": EndpointSpec(
        input="record",
        fields={
            "amount": Field(type="float", nullable=True),
            "count": Field(type="int"),
            "urgent": Field(type="bool"),
            "colour": Field(type="category", values=("red", "blue")),
        },
        output=Output(kind="number"),
        automation=FULL,
    ),
    "notes": EndpointSpec(input="text", automation=FULL),
    "photos": EndpointSpec(input="image", automation=FULL),
}
STAGES: dict[str, tuple[Any, Any]] = {
    "simple": (models.total, {"a": 1.0, "b": 2.0}),
    "people": (models.total, {"a": 1.0, "b": 2.0}),
    "price": (models.price, {"amount": 1.0, "count": 2, "urgent": True, "colour": "red"}),
    "notes": (models.length, "a note"),
    "photos": (models.bright, None),
}


@contextlib.contextmanager
def running(root: Path, **options: Any) -> Iterator[tuple[system.Server, str]]:
    """Run a server called `triton` with two workers; yields it and a client's token."""
    project = system.resolved(
        Project(
            project="foreign", root=str(root), scope=Scope(case="new", y=LABELS), endpoints=ENDPOINTS,
            server=Server(name="triton", port=0, console_port=0, workers=2, **options),
        )
    )  # fmt: skip
    folder = project.folder()
    system.prepare(folder)
    state = State.open(system.state_url(project), SystemClock())
    registry, rollouts = Registry(state, folder), Rollouts(state, project.endpoints)
    for name, (stage, sample) in STAGES.items():
        version = registry.register(
            name, stage, spec=project.endpoints[name], output=project.output(name),
            sample=_photo(root) if sample is None else sample,
        )  # fmt: skip
        with state.begin() as conn:
            rollouts.set_stable(conn, name, version, "test")
    token = Access(state).create("client", "client")
    state.close()
    with system.Server(project) as server:
        yield server, token


def _photo(root: Path) -> Path:
    out = io.BytesIO()
    Pillow.new("RGB", (8, 8), "white").save(out, "PNG")
    (root / "photo.png").write_bytes(out.getvalue())
    return root / "photo.png"
