"""A copy of a project for a test: the same versions, routing and levels, and nothing of the real data.

What a load test sends must not become evidence, reviews or drift. So the test's server runs on a data folder of
its own with a state of its own; when the test is over, both are removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from tenure.clock import SystemClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.rollout.advance import ACTIVE
from tenure.deploy.rollout.ledger import Rollouts
from tenure.errors import ConflictError, MissingError
from tenure.model import bundle
from tenure.model.bundle import Sample
from tenure.model.manifest import StageRef
from tenure.model.registry import Registry
from tenure.scope.project import Automation, EndpointSpec, Monitor, Project, Retrain
from tenure.types import Prediction

_STABLE = "stable:"
"""How `meta` names the version in force of each endpoint; see `rollout.store`."""
StartLevel = Literal["human_only", "shadow", "assist", "full"]
_ALWAYS = (t.versions, t.meta)
_LEVELLED = (t.levels, t.lineages, t.certificates, t.policies)
_ROUTED = (t.rollouts, t.evidence, t.verdicts)


@contextmanager
def copied(
    project: Project, state: State, *, workers: int | None = None, level: StartLevel | None = None
) -> Iterator[Project]:
    """Give the project on a temporary copy of its data folder, with ports of its own; removed at the end.

    Versions, rollouts, levels and certificates are as they are now. Retraining and webhooks are switched off,
    alarms only note. With `level` every endpoint is at that level instead and no rollout runs.

    Raises:
        ConflictError: no version is in force anywhere.
    """
    with TemporaryDirectory(prefix="tenure-load-") as place:
        made = trial_project(project, Path(place), workers=workers, level=level)
        with _fresh(made) as copy:
            tables = _ALWAYS if level else (*_ALWAYS, *_ROUTED, *_LEVELLED)
            _copy_rows(state, copy, tables)
        _copy_bundles(project.folder(), made.folder(), _needed(state))
        yield made


@contextmanager
def with_constant(project: Project, state: State, endpoint: str, *, scores: bool = False) -> Iterator[Project]:
    """Give a project of one endpoint, one worker, level `full`, whose model answers at once and always the same.

    What such a server costs is what tenure itself costs: reading, deciding, logging, replying. `scores` says
    that the version answers in columns.

    Raises:
        MissingError: no version is registered.
    """
    found = live_bundle(project, state, endpoint)
    with TemporaryDirectory(prefix="tenure-plan-") as place:
        made = trial_project(project, Path(place), workers=1, level="full")
        made = msgspec.structs.replace(made, endpoints={endpoint: made.endpoints[endpoint]})
        with _fresh(made) as copy:
            _register_constant(copy, made, endpoint, found, scores=scores)
        yield made


def trial_project(project: Project, folder: Path, *, workers: int | None, level: StartLevel | None) -> Project:
    """Return the project on another folder: free loopback ports, SQLite, and nothing that acts on the world."""
    server = msgspec.structs.replace(
        project.server, host="127.0.0.1", port=0, console_port=0, state=None, data=str(folder),
        workers=workers or project.server.workers,
    )  # fmt: skip
    endpoints = {name: _harmless(spec, level) for name, spec in project.endpoints.items()}
    scope = msgspec.structs.replace(project.scope, case="new") if level == "full" else project.scope
    return msgspec.structs.replace(project, server=server, endpoints=endpoints, scope=scope)


def live_version(state: State, endpoint: str) -> str:
    """Return the version in force, else the newest that is registered.

    Raises:
        MissingError: there is none.
    """
    v = t.versions.c
    query = sa.select(v.id).where(v.endpoint == endpoint, v.state.in_(("live", "registered")))
    with state.read() as conn:
        found = conn.execute(query.order_by(v.state, v.created_us.desc())).scalars().first()
    if found is None:
        raise MissingError(f"{endpoint} has no version; `tenure register` makes one", at=endpoint)
    return str(found)


def live_bundle(project: Project, state: State, endpoint: str) -> bundle.Bundle:
    """Return the bundle of `live_version`."""
    return Registry(state, project.folder()).get(live_version(state, endpoint))


def _harmless(spec: EndpointSpec, level: StartLevel | None) -> EndpointSpec:
    watch = spec.monitor
    monitor: Monitor = msgspec.structs.replace(
        watch, webhook=None,
        alarms=tuple(msgspec.structs.replace(a, do=("notify",)) for a in watch.alarms),
        thresholds=tuple(msgspec.structs.replace(x, do=("notify",)) for x in watch.thresholds),
    )  # fmt: skip
    changed = msgspec.structs.replace(spec, monitor=monitor, retrain=Retrain())
    if level is None:
        return changed
    top: Any = "full" if level == "full" else "assist"
    automation: Automation = msgspec.structs.replace(spec.automation, start=level, max=top, segments=None)
    return msgspec.structs.replace(changed, automation=automation)


@contextmanager
def _fresh(project: Project) -> Iterator[State]:
    """Open the empty state of a trial's folder."""
    folder = project.folder()
    for name in ("spool", "schemas", "routing", bundle.FOLDER):
        (folder / name).mkdir(parents=True, exist_ok=True)
    state = State.open(folder / "state.db", SystemClock())
    try:
        yield state
    finally:
        state.close()


def _copy_rows(source: State, target: State, tables: Sequence[sa.Table]) -> None:
    with source.read() as old, target.begin() as new:
        for table in tables:
            rows = [dict(row) for row in old.execute(_wanted(table)).mappings()]
            if rows:
                new.execute(table.insert(), rows)


def _wanted(table: sa.Table) -> sa.Select[Any]:
    """Return the rows that the copy's routing needs."""
    if table is t.meta:
        return sa.select(table).where(table.c.key.startswith(_STABLE))
    if table is t.rollouts:
        return sa.select(table).where(table.c.state.in_(ACTIVE))
    if table is t.policies:
        newest = sa.select(sa.func.max(table.c.id)).group_by(table.c.endpoint, table.c.segment)
        return sa.select(table).where(table.c.id.in_(newest))
    return sa.select(table)


def _needed(state: State) -> list[str]:
    """Return the hashes of the bundles that a routing of the copy can name."""
    v, r, m = t.versions.c, t.rollouts.c, t.meta.c
    stable = sa.select(m.value).where(m.key.startswith(_STABLE))
    active = sa.select(r.candidate).where(r.state.in_(ACTIVE))
    query = sa.select(v.sha).where(sa.or_(v.id.in_(stable), v.id.in_(active)))
    with state.read() as conn:
        found = [str(sha) for sha in conn.execute(query).scalars()]
    if not found:
        raise ConflictError(
            "no version is in force; `tenure register` puts the first one in force", at="versions"
        )
    return found


def _copy_bundles(source: Path, target: Path, names: Sequence[str]) -> None:
    for name in dict.fromkeys(names):
        shutil.copytree(source / bundle.FOLDER / name, target / bundle.FOLDER / name)


def _register_constant(
    state: State, project: Project, endpoint: str, found: bundle.Bundle, *, scores: bool
) -> None:
    from tenure.deploy.capacity import constant

    expected, spec = found.manifest.expected, project.endpoints[endpoint]
    options = {"answer": as_plain(expected), "scores": scores}
    stage = StageRef("constant", "constant:Constant", placement(found, spec), options)
    ref = found.manifest.sample
    weights = project.folder() / "no-weights"
    weights.mkdir()
    version = Registry(state, project.folder()).register(
        endpoint, [stage],
        sample=Sample((found.path / ref.file).read_bytes(), ref.media_type),
        spec=msgspec.structs.replace(spec, fields=spec.fields or found.manifest.input.fields),
        output=project.output(endpoint), code=[Path(constant.__file__)], files=weights,
    )  # fmt: skip
    with state.begin() as conn:
        Rollouts(state, project.endpoints).set_stable(conn, endpoint, version, "load test")


def placement(found: bundle.Bundle, spec: EndpointSpec) -> Literal["inline", "thread"]:
    """Return where the server runs a version: on its event loop only when every stage may run there."""
    inline = {stage.stage for stage in spec.pipeline if stage.placement == "inline"}
    stages = found.manifest.stages
    return "inline" if all(s.name in inline or s.placement == "inline" for s in stages) else "thread"


def as_plain(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as options of a stage, which are plain JSON."""
    return dict(msgspec.to_builtins(prediction))
