"""retrain: run the project's training command and register what it made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tenure.cli import show
from tenure.cli.options import EndpointOption, JsonOption, ProjectOption

if TYPE_CHECKING:
    from tenure.cli.office import Office
    from tenure.maintain.retrain import Retrainer


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("retrain")(retrain)


def retrain(
    cause: Annotated[str, typer.Option(help="Why; kept with the run.")] = "",
    list_runs: Annotated[bool, typer.Option("--list", help="List the runs instead.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not show the command's lines.")] = False,
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
    json: JsonOption = False,
) -> None:
    """Freeze the labels, run the training command on them, compare, and register the new version.

    The new version is not put in force: `tenure rollout start` does that, or `auto_deploy`. Exit 1 when the run
    fails.

    Examples:
    - `tenure retrain --cause "dark photos since Monday"`
    - `tenure retrain --list`
    """
    import sys

    from tenure.cli.office import office

    with office(project) as desk:
        name = desk.endpoint(endpoint)
        retrainer = _retrainer(desk)
        if list_runs:
            found = [msgspec.to_builtins(run) for run in retrainer.history(name)]
            columns = ("id", "state", "started_us", "version", "cause")
            show.rows(found, columns, json=json, empty="no runs")
            return
        progress = None if quiet else lambda line: print(line, file=sys.stderr, flush=True)
        number = retrainer.run(name, cause or f"asked for by {desk.by}", desk.by, progress=progress)
        run = retrainer.get(number)
    if json:
        show.as_json(msgspec.to_builtins(run))
    else:
        print(f"{number}: {run.state}" + (f", {run.version}" if run.version else ""))
    if run.error:
        print(run.error, file=sys.stderr)
        raise typer.Exit(1)


def _retrainer(desk: Office) -> Retrainer:
    from tenure import system
    from tenure.data.records import decode_id
    from tenure.data.view import Log
    from tenure.maintain.retrain import Retrainer

    log, key = Log(desk.folder), system.secret(desk.folder)

    def payload(item: str) -> tuple[str, bytes] | None:
        found = decode_id(item, key)
        return None if found is None else log.payload(*found)

    def deploy(endpoint: str, version: str, reason: str) -> str:
        return desk.rollouts.start(endpoint, version, by=desk.by, reason=reason)

    return Retrainer(
        desk.state, desk.project.endpoints, desk.folder, registry=desk.registry, root=Path(desk.project.root),
        clock=desk.state.clock, payload=payload, deploy=deploy,
    )  # fmt: skip
