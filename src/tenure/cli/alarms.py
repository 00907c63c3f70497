"""alarms, event, metrics: what moved, and notes about what changed."""

from __future__ import annotations

from typing import Annotated

import typer

from tenure.cli import show
from tenure.cli.options import EndpointOption, JsonOption, ProjectOption

alarms = typer.Typer(help="What moved: list, acknowledge, resolve.", no_args_is_help=True)
metrics = typer.Typer(help="What is measured.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(alarms, name="alarms")
    app.command("event")(event)
    app.add_typer(metrics, name="metrics")


@alarms.command("list")
def list_(
    all: Annotated[bool, typer.Option("--all", help="Also alarms that are over.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 50,
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
    json: JsonOption = False,
) -> None:
    """List alarms, newest first; exit 0 whether or not there are any.

    Examples:
    - `tenure alarms list`
    - `tenure alarms list --all --json`
    """
    from tenure.cli.office import office
    from tenure.monitor.alarms import listing

    with office(project) as desk, desk.state.read() as conn:
        name = None if endpoint is None else desk.endpoint(endpoint)
        found = listing(conn, name, open_only=not all, limit=limit)
    empty = "no alarms" if all else "no open alarms"
    show.rows(found, ("id", "state", "endpoint", "rule", "fired_us", "message"), json=json, empty=empty)


@alarms.command("ack")
def ack(number: Annotated[int, typer.Argument(help="Id of the alarm.")], project: ProjectOption = None) -> None:
    """Say that a person knows of an alarm; its detector then starts anew.

    Example: `tenure alarms ack 3`
    """
    from tenure.cli.office import office
    from tenure.monitor.alarms import acknowledge

    with office(project) as desk:
        print(f"alarm {number}: {acknowledge(desk.state, number, desk.by).state}")


@alarms.command("resolve")
def resolve(
    number: Annotated[int, typer.Argument(help="Id of the alarm.")], project: ProjectOption = None
) -> None:
    """Close an alarm by hand.

    Example: `tenure alarms resolve 3`
    """
    from tenure.cli.office import office
    from tenure.monitor import alarms as life

    with office(project) as desk:
        print(f"alarm {number}: {life.resolve(desk.state, number, desk.by).state}")


def event(
    text: Annotated[str, typer.Argument(help="What changed, such as `new lamp`.")],
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Note on all charts that something changed; without --endpoint, for the whole project.

    Example: `tenure event "new lamp on line 3" --endpoint phones`
    """
    from tenure.cli.office import office
    from tenure.monitor.events import add_event

    with office(project) as desk:
        name = None if endpoint is None else desk.endpoint(endpoint)
        number = add_event(desk.state, name, text, desk.by)
    print(f"event {number}")


@metrics.command("list")
def list_metrics(json: JsonOption = False) -> None:
    """List the metrics that thresholds and charts may name.

    Example: `tenure metrics list`
    """
    import msgspec

    from tenure.monitor.metrics import CLASS_SHARE, KNOWN, OTHER_INPUT, STAGE_TIME

    found = [msgspec.to_builtins(m) for m in (*KNOWN, STAGE_TIME, CLASS_SHARE, OTHER_INPUT)]
    show.rows(found, ("name", "stage", "unit", "source"), json=json, empty="none")
