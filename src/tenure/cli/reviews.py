"""reviews: how full the review queue is."""

from __future__ import annotations

from typing import Any

import msgspec
import typer

from tenure.cli import show
from tenure.cli.options import EndpointOption, JsonOption, ProjectOption


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("reviews")(reviews)


def reviews(project: ProjectOption = None, endpoint: EndpointOption = None, json: JsonOption = False) -> None:
    """Say how many items wait for people, how long, and what each reader did. Judging is done at the console.

    Example: `tenure reviews --json`
    """
    from tenure.cli.office import office

    with office(project) as desk:
        names = [desk.endpoint(endpoint)] if endpoint else list(desk.project.endpoints)
        found: dict[str, Any] = {name: msgspec.to_builtins(desk.queue.counts(name)) for name in names}
    if json:
        show.as_json(found)
        return
    for name, counts in found.items():
        print(
            f"{name}: {counts['open']} wait ({counts['pending']} hold a client up, {counts['conflicts']} need "
            f"adjudication, {counts['leased']} are being read), the oldest for {counts['oldest_s']:.0f} s; "
            f"{counts['resolved']} resolved"
        )
        for reader in counts["readers"]:
            print("  " + ", ".join(f"{k} {v}" for k, v in reader.items() if v is not None))
