"""A whole project on a manual clock, without HTTP: real controller and services, and a worker that a test drives.

The worker routes, decides and logs with the functions and the journal of `serving.answering`; only the model
and the photos are made up.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from tenure import system
from tenure.clock import ManualClock
from tenure.console.services import Services
from tenure.controller.loop import Controller
from tenure.data import tables as t
from tenure.data.keeper import Keeper
from tenure.data.records import By, Flag, Kind, Status, decode_id, encode_id
from tenure.data.state import State
from tenure.deploy.decide import decide, draws, level_in_force
from tenure.deploy.review.items import Submission
from tenure.deploy.router import Table, assign
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.predict.desk import Desk, answer_flags, as_logged
from tenure.deploy.serving.predict.journal import Journal
from tenure.deploy.serving.predict.shadows import shadowed
from tenure.deploy.serving.predict.work import Lane, Work
from tenure.scope.project import EndpointSpec, Output, Project, Scope, Server
from tenure.seeds import hash64
from tenure.settings import Settings
from tenure.types import Failed, Level, Prediction, Route

Model = Callable[["Case"], Prediction | Failed]


@dataclass(frozen=True)
class Case:
    """One photo: what is true of it, how hard it is (uniform in [0, 1)), and how bright."""

    truth: str
    hardness: float = 0.5
    light: float = 1.0
    unit: str | None = None


@dataclass(frozen=True)
class Answered:
    """What a client got for one photo."""

    id: str
    truth: str
    said: Any
    version: str | None
    automated: bool


class Worker:
    """One worker process's part, called by hand."""

    def __init__(self, world: World, index: int = 0) -> None:
        self._world, self._clock = world, world.clock
        self.journal = Journal(world.folder, f"worker-{index}", settings=Settings(), clock=world.clock)
        self.desks = {
            name: Desk(name, spec, world.project.output(name), self.journal)
            for name, spec in world.project.endpoints.items()
        }
        self.slot = world.page.slot(index)
        self.slot.begin(run=self.journal.run, pid=os.getpid())
        self.slot.state = "ready"
        self.table: Table | None = None

    def send(self, cases: Sequence[Case], endpoint: str = "phones") -> list[str]:
        """Answer and log some requests in one frame; returns their ids."""
        return asyncio.run(self._send(self.desks[endpoint], cases))

    def refuse(self, endpoint: str = "phones") -> str:
        """Log a request that could not be used."""
        work = self._work(self.desks[endpoint])
        work.route, work.status, work.reason = Route.REFUSED, Status.REFUSED, "x: y"
        work.desk.log(work.lane, [work], None, None)
        return self._id(work.seq)

    def feedback(self, id_: str, value: Any, *, kind: str = "truth", endpoint: str = "phones") -> None:
        """Log what became of a request."""
        key = decode_id(id_, self._world.secret)
        assert key is not None
        encoder = self.journal.plain_encoder(Kind.OUTCOME, endpoint)
        asyncio.run(self._log(encoder, (*key, self._clock.now_ns()), {"kind": kind, "value": value}))

    def die(self) -> None:
        """End as by SIGKILL: the segment is unlocked, the slot says so."""
        self.journal.close()
        self.slot.state = "dead"

    async def _send(self, desk: Desk, cases: Sequence[Case]) -> list[str]:
        self._follow()
        made = [self._answer(desk, case) for case in cases]
        for _, group in groupby(made, key=lambda work: (work.lane.version, work.lane.share, work.lane.policy.id)):
            works = list(group)
            desk.log(works[0].lane, works, [None] * len(works), None)
        for work, case in zip(made, cases, strict=True):
            assert work.lane.route is not None
            for v in shadowed(work.lane.route, work.lane, run=self.journal.run, seqs=[work.seq]):
                self._shadow(work, case, v)
            value = work.prediction.value if isinstance(work.prediction, Prediction) else None
            automated = work.route == Route.AUTO
            self._world.answered.append(
                Answered(self._id(work.seq), case.truth, value, work.lane.version, automated)
            )
        return [self._id(work.seq) for work in made]

    def _work(self, desk: Desk) -> Work:
        return Work(desk, self.journal.next_seq(), t_ns=self._clock.now_ns(), start_ns=self._clock.monotonic_ns())

    def _answer(self, desk: Desk, case: Case) -> Work:
        assert self.table is not None
        work, route = self._work(desk), self.table.endpoints[desk.name]
        request, fallback = (self.journal.run, work.seq), desk.spec.serve.on_timeout
        segment = desk.segments.of(case, case.unit) if desk.segments else ""
        policy = route.policy_of(segment)
        level = level_in_force(policy, now_ns=work.t_ns, watched=True)
        chosen = assign(route, request=request, unit=case.unit, now_ns=work.t_ns)
        drawn = draws(policy, request)
        runs = level >= Level.ASSIST and chosen.version is not None
        work.lane = Lane(
            chosen.version if runs else None, int(chosen.role == "candidate") if runs else 0,
            chosen.share if runs else 1.0, level, policy, self.table.version, True, route,
        )  # fmt: skip
        work.latency_us, work.metrics = 2000, self._world.metrics(desk, case)
        work.unit, work.unit_hash = case.unit, hash64("test", case.unit) if case.unit else 0
        work.deadline_ns = 0 if fallback is None else work.t_ns + int(fallback.after * 1e9)
        if work.lane.version is not None:
            self._predict(work, case)
        version = work.lane.version
        ruling = decide(work.prediction, version=version, level=level, policy=policy, drawn=drawn)
        work.route, work.reason = ruling.route, ruling.reason
        if ruling.route == Route.AUTO:
            work.deadline_ns = 0
        bits = {Flag.AUDITED: ruling.audited, Flag.BLIND: ruling.blind, Flag.LOTTERY: drawn.audited}
        work.flags = sum(int(flag) for flag, on in bits.items() if on) | answer_flags(desk, work)
        return work

    def _predict(self, work: Work, case: Case) -> None:
        assert work.lane.version is not None
        work.desk.learn(work.lane.version, ("model",))
        work.prediction = as_logged(self._world.models[work.lane.version](case))
        work.stage_us = (900,)
        work.status = Status.FAILED if isinstance(work.prediction, Failed) else Status.OK

    def _shadow(self, work: Work, case: Case, version: str) -> None:
        answer = as_logged(self._world.models[version](case))
        assert isinstance(answer, Prediction)
        work.desk.log_shadow(
            version, [work.seq], [answer], spare=[False], t_ns=self._clock.now_ns(), latency_us=900
        )

    async def _log(self, encoder: Any, values: tuple[Any, ...], variable: Mapping[str, Any]) -> None:
        await self.journal.write(encoder, values, variable)

    def _follow(self) -> None:
        version = self._world.page.routing
        if self.table is None or self.table.version != version:
            body = (self._world.folder / "routing" / f"{version}.json").read_bytes()
            self.table = msgspec.json.decode(body, type=Table)
            self.slot.set("routing", version)

    def _id(self, seq: int) -> str:
        return encode_id(self.journal.run, seq, self._world.secret)


@dataclass
class World:
    """One project with its data folder, control page, controller, services and workers."""

    project: Project
    clock: ManualClock
    models: dict[str, Model] = field(default_factory=dict)
    seed: int = 7

    def __post_init__(self) -> None:
        self.project = system.resolved(self.project)
        self.folder = self.project.folder()
        system.prepare(self.folder)
        self.secret = system.secret(self.folder)
        self.page = ControlPage.create(self.folder / "control.page", workers=4)
        self.rng = np.random.default_rng(self.seed)
        self.controller: Controller
        self.services: Services
        self.restart()
        self.truths: dict[str, str] = {}
        self.answered: list[Answered] = []

    def restart(self) -> None:
        """Start a controller, as after the death of the last one."""
        self.controller, self.services = system.control(
            self.project, self.folder, clock=self.clock, settings=Settings()
        )

    @property
    def state(self) -> State:
        return self.services.state

    def register(self, version: str, model: Model, endpoint: str = "phones") -> None:
        """Make a version known; what a bundle holds matters to workers only."""
        self.models[version] = model
        row = {
            "id": version, "endpoint": endpoint, "name": version.partition("@")[0], "sha": version,
            "manifest": "{}", "provenance": "{}", "state": "registered", "created_us": self.state.now_us(),
            "created_by": "test",
        }  # fmt: skip
        with self.state.begin() as conn:
            conn.execute(t.versions.insert().values(**row))

    def put_in_force(self, version: str, endpoint: str = "phones") -> None:
        with self.state.begin() as conn:
            self.services.rollouts.set_stable(conn, endpoint, version, "test")

    def metrics(self, desk: Desk, case: Case) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return input metrics of a made-up photo: in the dark all light is less."""
        base = {"brightness": (120.0, 10.0), "contrast": (40.0, 4.0), "sharpness": (180.0, 30.0)}
        rng = self.rng
        found = [case.light * rng.normal(*base[m]) if m in base else 320.0 for m in desk.metrics]
        return np.array(found, dtype=np.float32)

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, then let the controller tick once."""
        self.clock.advance(seconds)
        self.controller.tick()

    def judge(self, readers: Sequence[str] = ("ann", "bob"), *, n: int = 200, endpoint: str | None = None) -> int:
        """Let each reader judge what is in the queue by the truth; returns how many judgements were made."""
        made = 0
        for reader in readers:
            leases = self.services.queue.lease(reader, n=n, endpoint=endpoint)
            entries = [
                Submission(
                    item=one.item, reader=reader, token=one.token, value=self.truths[one.item],
                    key=f"{reader}-{one.token}", seconds=1.0,
                )
                for one in leases
            ]  # fmt: skip
            made += len(self.services.queue.submit_many(entries)) if entries else 0
        return made

    def cases(self, n: int, *, light: float = 1.0) -> list[Case]:
        """Return photos of which a third are defective."""
        bad = self.rng.uniform(size=n) < 1 / 3
        hard = self.rng.uniform(size=n)
        return [Case("defect" if b else "good", float(h), light) for b, h in zip(bad, hard, strict=True)]

    def serve(self, worker: Worker, cases: Sequence[Case], endpoint: str = "phones") -> list[str]:
        """Send photos and remember what is true of them."""
        ids = worker.send(cases, endpoint)
        self.truths |= {id_: case.truth for id_, case in zip(ids, cases, strict=True)}
        return ids

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        """Return the rows of a table of the control state, in the order of its key."""
        query = sa.select(table).where(*where).order_by(*table.primary_key)
        with self.state.read() as conn:
            return [dict(row) for row in conn.execute(query).mappings()]

    def decisions(self) -> Iterator[tuple[str, str, Any]]:
        """Yield (request, by, value) of every decision frame that the controller wrote."""
        reader = Keeper(self.folder, self.clock)
        for read in reader.poll(1 << 30):
            if read.frame.kind == Kind.DECISION:
                c = read.frame.columns()
                for i in range(read.frame.rows):
                    id_ = encode_id(int(c["run"][i]), int(c["seq"][i]), self.secret)
                    yield id_, By(int(c["by"][i])).name.lower(), read.frame.var(i).get("value")
        reader.close()


def other(label: str) -> str:
    return "defect" if label == "good" else "good"


def model(*, wrong_above: float = 1.1, unsure_above: float = 0.7) -> Model:
    """Return a model that is unsure of hard photos and wrong about the hardest."""

    def predict(case: Case) -> Prediction:
        value = other(case.truth) if case.hardness > wrong_above else case.truth
        confidence = 0.99 - 0.4 * case.hardness if case.hardness < unsure_above else 0.6 - 0.1 * case.hardness
        return Prediction(value, confidence)

    return predict


def project(folder: Path, *specs: EndpointSpec, **more: Any) -> Project:
    """Return a project of one endpoint `phones` (and `tablets` when there are two)."""
    names = ("phones", "tablets")
    return Project(
        project="screens",
        root=str(folder),
        scope=Scope(y=Output(labels=("good", "defect"))),
        endpoints=dict(zip(names, specs, strict=False)),
        server=Server(port=0, console_port=0, **more),
    )
