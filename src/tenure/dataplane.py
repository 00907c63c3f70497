"""Build the data plane: the core of one worker, and how it loads a version."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenure.clock import Clock
from tenure.data.schema import InputSchema, pixel_breaks
from tenure.data.tokens import TokenFile
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.predict.core import Core, guard
from tenure.deploy.serving.predict.journal import Journal
from tenure.deploy.serving.predict.runner import Fleet
from tenure.errors import ModelError
from tenure.model.apart import Own, limit_of
from tenure.model.bundle import find_bundle, load, open_bundle, smoke_test
from tenure.model.manifest import Manifest
from tenure.model.pipeline import Pipeline
from tenure.scope.project import Project
from tenure.settings import Settings


def core(
    project: Project, folder: Path, worker: int, *, page: ControlPage, clock: Clock, settings: Settings,
    name: str, open_loopback: bool,
) -> Core:  # fmt: skip
    """Build the core of one worker.

    Args:
        project: with every endpoint's output.
        folder: the data folder.
        worker: its slot of the control page.
        page: the control page.
        clock: for everything.
        settings: of its loops and limits.
        name: of its spool.
        open_loopback: callers without a token are let in.
    """
    durability = "power" if any(s.log.durability == "power" for s in project.endpoints.values()) else "process"
    journal = Journal(folder, name, settings=settings, clock=clock, durability=durability)
    slot = page.slot(worker)
    slot.begin(run=journal.run, pid=os.getpid())
    inline = {spec.stage for e in project.endpoints.values() for spec in e.pipeline if spec.placement == "inline"}

    def load_version(version: str) -> Pipeline:
        bundle = open_bundle(find_bundle(folder, version))
        _same_pixels(project, version, bundle.manifest)
        pipeline = load(bundle, trusted=project.trust, clock=clock, apart=_apart(project, bundle.manifest))
        smoke_test(pipeline, bundle)
        pipeline.budgets = _budgets(project, bundle.manifest)
        return pipeline

    def is_inline(version: str) -> bool:
        manifest = open_bundle(find_bundle(folder, version), verify=False).manifest
        return all(stage.name in inline or stage.placement == "inline" for stage in manifest.stages)

    tokens = TokenFile(folder / "tokens.json", clock)
    return Core(
        project, folder, clock=clock, settings=settings, page=page, slot=slot,
        fleet=Fleet(load_version, clock=clock, inline=is_inline), journal=journal,
        secret=(folder / "secret.key").read_bytes(), archive=_archive(folder),
        may=guard(tokens.check, open_loopback=open_loopback),
    )  # fmt: skip


def _budgets(project: Project, manifest: Manifest) -> dict[str, float]:
    """Return the stages' budgets of the endpoint that a version belongs to, where an overrun has consequences."""
    spec = project.endpoints.get(manifest.endpoint)
    if spec is None or spec.serve.on_overrun == "wait":
        return {}
    return {stage.stage: stage.budget for stage in spec.pipeline if stage.budget is not None}


def _apart(project: Project, manifest: Manifest) -> dict[str, Own]:
    """Return the stages of a version that get processes of their own."""
    specs = [spec for e in project.endpoints.values() for spec in e.pipeline if spec.placement == "process"]
    asked = {spec.stage: Own(limit_of(spec.budget), spec.processes) for spec in specs}
    named = [ref.name for ref in manifest.stages if ref.placement == "process" or ref.name in asked]
    return {name: asked.get(name, Own()) for name in named}


def _same_pixels(project: Project, version: str, manifest: Manifest) -> None:
    """Refuse a version whose photos the project would decode in another way than those that it was made for."""
    spec = project.endpoints.get(manifest.endpoint)
    faults = pixel_breaks(manifest.input, InputSchema.of(spec)) if spec is not None else ()
    if faults:
        raise ModelError(
            f"version {version}: {faults[0]}; put the old value back, or register the version anew",
            code="incompatible_schema", at=f"{manifest.endpoint}.decode.min_side",
        )  # fmt: skip


def _archive(folder: Path) -> Callable[[int, int], dict[str, Any] | None]:
    """Return a finder of sealed requests; the query engine is loaded at its first use, which is rare."""
    opened: list[Any] = []

    def find(run: int, seq: int) -> dict[str, Any] | None:
        if not opened:
            from tenure.data.view import Log

            opened.append(Log(folder))
        found: dict[str, Any] | None = opened[0].find(run, seq)
        return found

    return find
