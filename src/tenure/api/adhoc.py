"""Projects without a project file: kept in `<data>/project.json`, made and extended by `register`."""

from __future__ import annotations

import fcntl
import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tenure import system
from tenure.errors import ConflictError, MissingError, ProjectError, StoreError
from tenure.scope import rules
from tenure.scope.project import Automation, EndpointSpec, Project, Scope, Server
from tenure.scope.reader import load_project

FILE = "project.json"
YAML = "tenure.yaml"
DATA = "tenure-data"
FORMAT = 1
Place = Project | str | Path | None
"""A project, its file, a data folder with a `project.json`; None = whatever is in the working directory."""


class _Kept(msgspec.Struct, frozen=True):
    format: int
    project: Project


def find(place: Place = None, *, data: str | Path = DATA) -> Project:
    """Return the project at `place`, its endpoints' outputs filled in.

    None looks for `tenure.yaml` in the working directory, then for `<data>/project.json`.

    Raises:
        ProjectError: there is none, or it has faults.
    """
    if isinstance(place, Project):
        return system.resolved(place)
    if place is None:
        place = Path(YAML) if Path(YAML).is_file() else Path(data)
    path = Path(place)
    if path.is_dir() and (path / YAML).is_file():
        path = path / YAML
    if path.name == FILE:
        return read(path.parent)
    return system.resolved(load_project(path)) if path.suffix in (".yaml", ".yml") else read(path)


def exists(data: Path) -> bool:
    """Say whether a data folder holds a project of its own."""
    return (data / FILE).is_file()


def read(data: Path) -> Project:
    """Return the project that a data folder holds; the folder may have been moved since.

    Raises:
        ProjectError: it holds none.
        StoreError: it cannot be read.
    """
    try:
        kept = msgspec.json.decode((data / FILE).read_bytes(), type=_Kept)
    except FileNotFoundError:
        raise ProjectError(
            [
                f"no project here: neither {YAML} nor {data / FILE}; "
                "`tenure init` writes a project file, `tenure.register(…)` makes a project without one"
            ]
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise StoreError(f"cannot read the project: {error}", at=str(data / FILE)) from error
    if kept.format != FORMAT:
        raise StoreError(f"format {kept.format}; this version reads {FORMAT}", at=str(data / FILE))
    return _placed(kept.project, data)


def empty(data: Path) -> Project:
    """Return a project without endpoints whose data is in `data`; ports are picked when it is served."""
    return _placed(Project(project="local", scope=Scope(x="whatever is sent")), data)


def write(project: Project) -> None:
    """Keep a project in its data folder, by rename.

    Raises:
        ProjectError: it breaks a rule.
    """
    rules.check(project)
    folder = project.folder()
    plain = msgspec.structs.replace(project, root=".")
    body = msgspec.json.format(msgspec.json.encode(_Kept(FORMAT, plain)), indent=2)
    temporary = folder / f".{FILE}.{os.getpid()}"
    temporary.write_bytes(body)
    temporary.replace(folder / FILE)


@contextmanager
def changing(data: Path) -> Iterator[Project]:
    """Lock a data folder's project for a change and give what it is now; the caller writes the new one."""
    system.prepare(data)
    with (data / "project.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield read(data) if exists(data) else empty(data)


def with_endpoint(project: Project, name: str, spec: EndpointSpec) -> Project:
    """Return the project with one endpoint added or replaced."""
    return msgspec.structs.replace(project, endpoints={**project.endpoints, name: spec})


def automated(project: Project, endpoint: str, *, start: str | None, errors: float | None) -> Project:
    """Return the project with another start and bound of an endpoint's automation.

    Without a bound on errors nothing can be certified, so the endpoint goes up to `assist` only.

    Raises:
        MissingError: no such endpoint.
        ConflictError: `start` is no level to start from.
    """
    spec = endpoint_of(project, endpoint)
    if start is not None and start not in ("human_only", "shadow", "assist"):
        raise ConflictError(
            f"an endpoint starts at human_only, shadow or assist, not at {start!r}: "
            "more than that is earned by a certificate, see `tenure level`",
            code="invalid_start",
            at="automation",
        )
    old = spec.automation
    bound = old.errors if errors is None else errors
    new = Automation(start=start or old.start, errors=bound, max="partial" if bound else "assist")  # type: ignore[arg-type]
    return with_endpoint(project, endpoint, msgspec.structs.replace(spec, automation=new))


def endpoint_of(project: Project, name: str) -> EndpointSpec:
    """Return one endpoint; raises MissingError that names the others."""
    try:
        return project.endpoints[name]
    except KeyError:
        known = ", ".join(project.endpoints) or "none yet"
        raise MissingError(f"no endpoint {name!r}; there is: {known}", code="unknown_endpoint", at=name) from None


def user() -> str:
    """Return who works here, for the audit trail."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "local"


def _placed(project: Project, data: Path) -> Project:
    place = data.resolve()
    server = msgspec.structs.replace(project.server, data=place.name)
    if not project.endpoints and project.server == Server():
        server = Server(port=0, console_port=0, workers=1, data=place.name)
    return msgspec.structs.replace(project, root=str(place.parent), server=server)
