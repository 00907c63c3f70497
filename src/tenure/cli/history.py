"""history, audit: what was live at a time, and who did what."""

from __future__ import annotations

import json as json_
from typing import Annotated, Any

import typer

from tenure.cli import show
from tenure.cli.options import JsonOption, ProjectOption

audit = typer.Typer(help="The audit trail: every command with its author.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("history")(history)
    app.add_typer(audit, name="audit")


def history(
    at: Annotated[
        str, typer.Argument(help="Time with its zone, such as 2026-05-01T12:00:00Z; default: now.")
    ] = "",
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Say which versions and which level were in force at a time.

    Example: `tenure history 2026-05-01T12:00:00Z`
    """
    from tenure.cli.office import office
    from tenure.console.history import live_at, moment

    with office(project) as desk:
        at_us = moment(at, desk.state.now_us())
        found = live_at(desk.state, list(desk.project.endpoints), at_us)
    if json:
        show.as_json(found)
        return
    print(f"at {show.when(at_us)}")
    if found["routing"] is None:
        print("  nothing was served yet")
        return
    print(f"  routing table {found['routing']['version']}, made {show.when(found['routing']['made_us'])}")
    for name, route in found["routing"]["body"]["endpoints"].items():
        level = found["levels"].get(name)
        word = level["to_level"] if level else route["policy"]["level"]
        print(f"  {name}: {route.get('stable') or 'no version'}{_candidate(route)}, level {word}")


def _candidate(route: dict[str, Any]) -> str:
    name = route.get("candidate")
    return f", candidate {name} at {show.percent(route['share'])}" if name else ""


@audit.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 50,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """List the newest commands, newest first.

    Example: `tenure audit list --limit 20`
    """
    import sqlalchemy as sa

    from tenure.cli.office import office
    from tenure.data import tables as t

    with office(project) as desk, desk.state.read() as conn:
        query = sa.select(t.audit).order_by(t.audit.c.id.desc()).limit(limit)
        found: list[dict[str, Any]] = [dict(row) for row in conn.execute(query).mappings()]
    if json:
        found = [{**row, "detail": json_.loads(row["detail"])} for row in found]
    columns = ("id", "at_us", "actor", "action", "subject", "detail")
    show.rows(found, columns, json=json, empty="nothing has happened yet")


@audit.command("verify")
def verify(project: ProjectOption = None) -> None:
    """Check the hash chain of the audit trail; exit 1 when a row was altered or removed.

    A chain proves that nothing in its middle was changed. Keep the printed last hash elsewhere to prove, later,
    that its end was not cut off.

    Example: `tenure audit verify`
    """
    import sqlalchemy as sa

    from tenure.cli.office import office
    from tenure.data import tables as t
    from tenure.data.state import verify_audit

    with office(project) as desk, desk.state.read() as conn:
        broken = verify_audit(conn)
        last = conn.execute(
            sa.select(t.audit.c.id, t.audit.c.hash).order_by(t.audit.c.id.desc()).limit(1)
        ).first()
    if broken is not None:
        print(f"the chain breaks at row {broken}: it, or what stood before it, was altered")
        raise typer.Exit(1)
    print(f"whole: {last.id} rows, last hash {last.hash}" if last else "whole: 0 rows")
