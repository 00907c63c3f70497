"""A worker's core with real parts in one process: page, routing files, fleet, journal, log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tenure.clock import Clock, ManualClock
from tenure.data import frames
from tenure.data.records import By, Kind, plain_schema
from tenure.data.spool import SchemaStore, SpoolWriter
from tenure.data.view import Log
from tenure.deploy.router import Endpoint, Policy, Table
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.predict.core import Ask, Core
from tenure.deploy.serving.predict.journal import Journal
from tenure.deploy.serving.predict.runner import Fleet
from tenure.errors import ModelError
from tenure.model.pipeline import Pipeline
from tenure.model.stage import adapt
from tenure.scope.project import EndpointSpec, Field, Output, Project
from tenure.settings import Settings
from tenure.types import Answer, Level, Prediction

SECRET = b"s" * 32
SETTINGS = Settings()
LABELS = Output(labels=("big", "small"))
NUMBER = EndpointSpec(input="record", fields={"a": Field(type="float")}, output=LABELS)


def size(rows: list[dict[str, Any]]) -> list[Prediction]:
    """The model of these tests: sure about far numbers, unsure near 1; 13 is poison."""
    if any(row["a"] == 13 for row in rows):
        raise ArithmeticError("13 is poison")
    return [Prediction("big" if r["a"] > 1 else "small", min(0.99, 0.5 + abs(r["a"] - 1) / 10)) for r in rows]


def pipeline(version: str) -> Pipeline:
    """Load a version; one called `broken` cannot be loaded."""
    if version.startswith("broken"):
        raise ModelError(f"{version} is broken")
    return Pipeline([("size", adapt(size))], output=LABELS)


class World:
    """One core; `publish` puts routing in force as the controller does."""

    def __init__(
        self, folder: Path, *, spec: EndpointSpec = NUMBER, clock: Clock | None = None, workers: int = 1,
        load: Callable[[str], Any] = pipeline, settings: Settings = SETTINGS,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.clock = clock or ManualClock()
        self.load, self.settings = load, settings
        self.project = Project(project="t", root=str(folder), endpoints={"e": spec})
        for name in ("spool", "schemas", "routing"):
            (folder / name).mkdir(exist_ok=True)
        self.page = ControlPage.create(folder / "control.page", workers=workers)
        self.page.controller_ns = self.clock.now_ns()
        self.tables = 0
        self.cores: list[Core] = []
        self.log = Log(folder)

    def core(self, worker: int = 0, *, archive: Callable[[int, int], Any] | None = None) -> Core:
        journal = Journal(self.folder, f"worker-{worker}", settings=self.settings, clock=self.clock)
        slot = self.page.slot(worker)
        slot.begin(run=journal.run, pid=1)
        fleet = Fleet(self.load, clock=self.clock, inline=lambda version: True)
        made = Core(
            self.project, self.folder, clock=self.clock, settings=self.settings, page=self.page, slot=slot,
            fleet=fleet, journal=journal, secret=SECRET, may=lambda token: None,
            archive=archive or self.log.find,
        )  # fmt: skip
        self.cores.append(made)
        return made

    def publish(self, route: Endpoint) -> int:
        self.tables += 1
        table = Table(self.tables, self.clock.now_ns(), {"e": route})
        (self.folder / "routing" / f"{self.tables}.json").write_bytes(msgspec.json.encode(table))
        self.page.routing = self.tables
        return self.tables

    def at(self, level: Level, **policy: Any) -> int:
        """Publish version m@1 at a level."""
        return self.publish(Endpoint("m@1", Policy(1, level, **policy)))

    async def ready(self, core: Core) -> Core:
        """Let a core take the newest table up."""
        while core.live.table is None or core.live.table.version != self.page.routing:
            core.live.check()
            await asyncio.sleep(0.001)
        return core

    def decide(self, rows: Iterable[tuple[int, int, Any]]) -> None:
        """Log decisions by people, as the controller does."""
        schema = plain_schema(Kind.DECISION, "e")
        SchemaStore(self.folder / "schemas").put(schema)
        writer = SpoolWriter(
            self.folder / "spool", "controller", 77, segment_bytes=1 << 20, segment_s=60.0,
            durability="process", clock=self.clock,
        )  # fmt: skip
        listed = list(rows)
        writer.append(
            frames.encode(
                schema, run=77, first_seq=0, t_ns=self.clock.now_ns(),
                columns={
                    "run": [r for r, _, _ in listed], "seq": [s for _, s, _ in listed],
                    "t_ns": [self.clock.now_ns()] * len(listed), "by": [int(By.PERSON)] * len(listed),
                    "policy": [1] * len(listed),
                },
                var=[msgspec.msgpack.encode({"value": v, "reader": "ann"}) for _, _, v in listed],
            )
        )  # fmt: skip
        writer.close()

    def rows(self, what: str = "predictions", order: str = "seq") -> list[dict[str, Any]]:
        return self.log.query(f"select * from {what} order by {order}").to_pylist()

    def close(self) -> None:
        for core in self.cores:
            core.close()
        self.log.close()


def ask(a: Any = 3.0, **options: Any) -> Ask:
    body = options.pop("body", None) or msgspec.json.encode({"a": a})
    return Ask(endpoint="e", body=body, media_type="application/json", **options)


def values(answers: Sequence[Answer]) -> list[Any]:
    return [answer.decision.value if answer.decision else None for answer in answers]
