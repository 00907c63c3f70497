"""A project with two endpoints, its services on a manual clock, and inputs to score."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from offline_models import Churn, Length

import tenure
from tenure import system
from tenure.cli.office import Office
from tenure.cli.scoring import Done, Told, score
from tenure.clock import ManualClock
from tenure.data.state import State
from tenure.data.view import Log
from tenure.deploy.serving.control_page import ControlPage
from tenure.scope.project import Automation, EndpointSpec, Field, Output, Project, Server
from tenure.types import Level

FIELDS = {
    "age": Field(type="int", min=0, max=120),
    "spend": Field(type="float", nullable=True),
    "plan": Field(type="category", values=("basic", "plus")),
}
OUTPUT = Output(labels=("stays", "leaves"))
SAMPLE = {"age": 40, "spend": 20.0, "plan": "basic"}


def project(root: Path) -> Project:
    churn = EndpointSpec(input="record", fields=FIELDS, output=OUTPUT, automation=Automation(errors=0.05))
    length = EndpointSpec(input="text", output=Output(kind="number"), automation=Automation(max="assist"))
    return Project(
        project="shop", endpoints={"churn": churn, "length": length}, server=Server(data="data"), root=str(root)
    )


def build(root: Path) -> None:
    """Register the models in a fresh project."""
    tenure.register("churn", Churn, sample=SAMPLE, project=project(root), by="test")
    tenure.register("length", Length, sample="abc", project=project(root), by="test")


def customers(n: int, *, seed: int = 1, spend: float = 60.0) -> list[dict[str, Any]]:
    """Return records that are all valid."""
    rng = np.random.default_rng(seed)
    return [
        {
            "age": int(rng.integers(18, 90)),
            "spend": None if rng.uniform() < 0.1 else round(float(rng.gamma(2, spend / 2)), 2),
            "plan": str(rng.choice(["basic", "plus"])),
            "customer": f"c{i:05d}",
        }
        for i in range(n)
    ]


def parquet(path: Path, rows: Sequence[dict[str, Any]], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, **options)
    return path


class World:
    """One project, copied from a template unless it is there; `desk` is what commands get."""

    def __init__(self, template: Path | None, root: Path) -> None:
        if template is not None:
            shutil.copytree(template, root)
        self.root, self.clock = root, ManualClock()
        self.project = system.resolved(project(root))
        self.folder = self.project.folder()
        self.state = State.open(self.folder / "state.db", self.clock)
        self.desk = Office(self.project, self.state)

    def close(self) -> None:
        self.state.close()

    def score(self, source: Path | None, output: Path | str, **told: Any) -> Done:
        given = {"endpoint": "churn", "chunk": 100, **told}
        place = None if source is None else str(source)
        return score(self.desk, Told(input=place, output=str(output), **given), lambda progress: None)

    def watch(self) -> None:
        """Let a controller be alive."""
        page = ControlPage.create(self.folder / "control.page", workers=1)
        page.controller_ns = self.clock.now_ns()

    def level(
        self, level: Level, *, thresholds: dict[str, dict[str, float]] | None = None, **policy: Any
    ) -> None:
        """Put a policy in force, as the controller would."""
        from tenure.deploy.automation import policies
        from tenure.deploy.router import Policy

        made = Policy(0, level, thresholds or {}, **policy)
        with self.state.begin() as conn:
            policies.write(conn, "churn", made, now_us=self.state.now_us(), cause="test")

    def version(self, endpoint: str = "churn") -> str:
        return self.desk.registry.list(endpoint)[0].id

    def logged(self, columns: str = "*") -> list[dict[str, Any]]:
        """Return the logged rows in order."""
        log = Log(self.folder)
        try:
            found: list[dict[str, Any]] = log.query(f"SELECT {columns} FROM predictions ORDER BY seq").to_pylist()
        finally:
            log.close()
        return found


def parts(folder: Path) -> list[dict[str, Any]]:
    """Return the output rows that the manifest names, in order."""
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
    names = [file["name"] for chunk in manifest["chunks"] for file in chunk["files"]]
    tables = [pq.read_table(folder / name) for name in names if name.startswith("part-")]
    return [row for table in tables for row in table.to_pylist()]


def quarantined(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the quarantine that the manifest names."""
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
    names = [file["name"] for chunk in manifest["chunks"] for file in chunk["files"]]
    found = [folder / name for name in names if name.startswith("quarantine/")]
    return [json.loads(line) for path in found for line in path.read_text().splitlines()]
