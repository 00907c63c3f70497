"""shadow-report: a version beside a person, on the terminal, as JSON and as a page to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenure.cli import show
from tenure.cli.options import ProjectOption

if TYPE_CHECKING:
    from tenure.cli.office import Office
    from tenure.deploy.shadow.report import Report


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command("shadow-report")(shadow_report)


def shadow_report(
    endpoint: Annotated[
        str | None, typer.Argument(help="Its name; not needed where there is only one.", show_default=False)
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version; default: the one in force.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only items from then on: 7d, or a time.", show_default=False)
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.", show_default=False)] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write JSON to this file; - prints it.", show_default=False)
    ] = None,
    segment: Annotated[str | None, typer.Option(help="Only items of that segment.", show_default=False)] = None,
    margin: Annotated[
        float, typer.Option(help="How much larger than the person's the model's error may be.")
    ] = 0.02,
    planned: Annotated[
        int | None,
        typer.Option(help="Decide by one look at so many items, fixed beforehand.", show_default=False),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(help="Overlap from which two boxes are one; default: the project's loss, or 0.5."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Difference up to which two numbers are the same; default: the project's loss, or 0."),
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Compare a version with people: agreement, who was wrong, whether the model is as good, what is missing.

    Only blind judgements count of items whose draw did not depend on a score.

    Example: `tenure shadow-report phones --html report.html`
    """
    import msgspec

    from tenure.cli.office import office
    from tenure.deploy.shadow.report import shadow_report as compare
    from tenure.deploy.shadow.settings import settings_of

    with office(project) as desk, desk.state.read() as conn:
        name = desk.endpoint(endpoint)
        settings = settings_of(desk.project, name, margin=margin, planned=planned, iou=iou, tolerance=tolerance)
        chosen = version or _in_force(desk, name)
        now_us = desk.state.now_us()
        since_us = _moment(since, now_us)
        if segment is not None:
            desk.automation.promise(name, segment)  # refuses one that is not named
        found = compare(conn, name, chosen, settings=settings, now_us=now_us, since_us=since_us, segment=segment)
    if str(json) == "-":
        show.as_json(found)
        return
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    if html is not None:
        from tenure.deploy.shadow.page import page

        html.write_text(page(found), encoding="utf-8")
    _print(found)


def _print(report: Report) -> None:
    for sentence in report.sentences:
        print(sentence)
    j = report.judges
    rows = [
        {"": name, "items": r.items, "read again": r.read, "waiting": r.waiting, "model wrong": r.model_wrong,
         "person wrong": r.person_wrong}
        for name, r in (("disagreements", j.disagreements), ("agreements", j.agreements))
    ]  # fmt: skip
    if report.items:
        show.table(rows, list(rows[0]), empty="")
        print(f"any time: {j.always.outcome}, {j.always.reason}")
        print(f"once, at {report.settings.planned}: {j.once.outcome}, {j.once.reason}")


def _in_force(desk: Office, endpoint: str) -> str:
    from tenure.errors import MissingError

    with desk.state.read() as conn:
        version = desk.rollouts.stable(conn, endpoint)
    if version is None:
        raise MissingError(f"{endpoint} has no version; `tenure register` makes one", at=endpoint)
    return version


def _moment(text: str | None, now_us: int) -> int:
    from tenure.console.history import moment
    from tenure.errors import CaseError
    from tenure.scope.units import duration

    if text is None:
        return 0
    if "T" in text:
        return moment(text, now_us)
    try:
        return now_us - int(duration(text) * 1e6)
    except ValueError as error:
        raise CaseError(f"{error}, or a time such as 2026-05-01T12:00:00Z", at="--since") from None
