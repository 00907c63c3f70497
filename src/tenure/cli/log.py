"""log: SQL over everything that was answered."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tenure.cli.options import ProjectOption


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    csv = "csv"
    json = "json"


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("log")(log)


def log(
    sql: Annotated[str, typer.Argument(help="One SELECT over the views.")],
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.table,
    limit: Annotated[int, typer.Option(min=0, help="Most rows; 0 = all.")] = 1000,
    project: ProjectOption = None,
) -> None:
    """Ask the prediction log by SQL (DuckDB), live and sealed rows alike.

    Views: `predictions`, `shadows`, `outcomes`, `decisions`, `payloads`. Times are UTC in `t`.

    Examples:
    - `tenure log "SELECT t, endpoint, value, confidence, version FROM predictions ORDER BY t DESC LIMIT 20"`
    - `tenure log "SELECT version, count(*), avg(confidence) FROM predictions GROUP BY version" --format csv`
    - `tenure log "DESCRIBE SELECT * FROM predictions"` lists the columns.
    """
    from tenure.api import adhoc
    from tenure.data.view import Log, render

    view = Log(adhoc.find(project).folder())
    try:
        print(render(view.query(sql, limit=limit or None), format.value), end="")
    finally:
        view.close()
    if format is Format.json:
        print()
