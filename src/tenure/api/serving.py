"""Serve a project from Python: processes of its own, or an ASGI app for a server that is there already."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from tenure import system
from tenure.api import adhoc
from tenure.clock import SystemClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.errors import ConflictError
from tenure.model.code import end_of_script
from tenure.scope.project import Project
from tenure.system import Server

_log = logging.getLogger("tenure")


def serve(
    what: str | Path | Project | None = None,
    *,
    automation: str | None = None,
    errors: float | None = None,
    workers: int | None = None,
    port: int = 0,
    console_port: int = 0,
    open_loopback: bool = True,
    data: str | Path = adhoc.DATA,
) -> Server:
    """Make a server of workers and a controller; `with` starts and ends it.

    Example:
        `with tenure.serve("phones") as server: print(server.url, server.console_url)`

    Args:
        what: the name of an endpoint, a project file or a project; None = the project that is here.
        automation: where an endpoint without a project file starts: human_only, shadow or assist. Once it has a
            level, that stands: evidence and `tenure level` move it.
        errors: bound on errors among automated answers, in (0, 1), for an endpoint without a project file;
            without one it goes up to `assist` only.
        workers: processes that answer; by default the project's.
        port: of the data plane; 0 picks a free one.
        console_port: of the console and the management API; 0 picks a free one.
        open_loopback: callers from this machine need no token.
        data: the folder of a project without a project file.

    Raises:
        ProjectError, MissingError, ConflictError: there is no such project or endpoint, or its folder is in use.
        AccessError: nobody could call the server.
    """
    end_of_script()
    project = _project(what, data, automation=automation, errors=errors)
    options = project.server
    changed = msgspec.structs.replace(
        options, workers=workers or options.workers, port=port, console_port=console_port
    )
    return Server(msgspec.structs.replace(project, server=changed), open_loopback=open_loopback)


def _project(
    what: str | Path | Project | None, data: str | Path, *, automation: str | None, errors: float | None
) -> Project:
    endpoint = what if isinstance(what, str) and _is_name(what) else None
    project = adhoc.find(None if endpoint else what, data=data)
    if endpoint is not None:
        adhoc.endpoint_of(project, endpoint)
    if automation is None and errors is None:
        return project
    if endpoint is None or not _is_adhoc(project):
        raise ConflictError(
            "the project file says how an endpoint is automated: set endpoints.….automation there",
            code="project_file",
            at="automation",
        )
    with adhoc.changing(project.folder()) as known:
        project = adhoc.automated(known, endpoint, start=automation, errors=errors)
        adhoc.write(project)
    _say_level(project, endpoint, automation)
    return system.resolved(project)


def _is_name(what: str) -> bool:
    return not what.endswith((".yaml", ".yml", ".json")) and "/" not in what


def _is_adhoc(project: Project) -> bool:
    return adhoc.exists(project.folder()) and not Path(project.root, adhoc.YAML).is_file()


def _say_level(project: Project, endpoint: str, wanted: str | None) -> None:
    """Say so when an endpoint has moved on from where it would start."""
    state = State.open(system.state_url(project), SystemClock())
    try:
        with state.read() as conn:
            c = t.levels.c
            query = (
                t.levels.select().where(c.endpoint == endpoint, c.segment == "").order_by(c.id.desc()).limit(1)
            )
            row = conn.execute(query).mappings().first()
    finally:
        state.close()
    if wanted is not None and row is not None and row["to_level"] != wanted:
        _log.warning("%s is at %s already; `tenure level` moves it", endpoint, row["to_level"])
