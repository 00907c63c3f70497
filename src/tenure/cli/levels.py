"""level, report: the degree of automation and what speaks for more of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from tenure.cli import show
from tenure.cli.options import EndpointOption, JsonOption, ProjectOption

group = typer.Typer(
    help="The degree of automation: human_only, shadow, assist, partial, full.", no_args_is_help=True
)


SegmentOption = Annotated[
    str | None,
    typer.Option(
        help="Segment that is meant; default: the endpoint itself, which has all others.", show_default=False
    ),
]


class Word(StrEnum):
    """The levels, from people only to the model only."""

    human_only = "human_only"
    shadow = "shadow"
    assist = "assist"
    partial = "partial"
    full = "full"


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(group, name="level")
    app.command("report")(report)


@group.command("show")
def show_(
    project: ProjectOption = None, endpoint: EndpointOption = None, segment: SegmentOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Say which level is in force, since when, why, and what the next one waits for.

    Where an endpoint has segments, a table says the same of each; --segment shows one of them in full.

    Example: `tenure level show`
    """
    from tenure.cli.office import office

    with office(project) as desk:
        names = [desk.endpoint(endpoint)] if endpoint or segment else list(desk.project.endpoints)
        found = [desk.automation.report(name, segment or "") for name in names]
    if json:
        show.as_json(found)
        return
    for page in found:
        _print(page)


def _print(page: dict[str, Any]) -> None:
    since = f" since {show.when(page['since_us'])}" if page["since_us"] else ""
    place = f"{page['endpoint']}/{page['segment']}" if page["segment"] else page["endpoint"]
    print(f"{place}: {page['level']}{since} ({page['cause']})")
    if page["next"] and page["why_not_higher"]:
        print(f"  next, {page['next']}: {page['why_not_higher']}")
    print(f"  suggestions: {page['bias']['sentence']}")
    for row in page["certificates"]:
        if row["state"] == "valid":
            print(f"  certificate: {row['claim']}")
    if page["segments"] and not page["segment"]:
        _print_segments(page)


def _print_segments(page: dict[str, Any]) -> None:
    """Print a row for each segment; the last says what is left to the endpoint itself."""
    head = (page["by"], "level", "max", "labels", "valid", "next")
    rows = [
        (r["segment"] or "all others", r["level"], r["max"], str(r["labels"]), str(r["certificates"]), _next(r))
        for r in page["segments"]
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *sorted(rows, key=lambda row: row[0] == "all others")):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"  {page['promise']}")


def _next(row: dict[str, Any]) -> str:
    return f"{row['next']}: {row['why_not_higher']}" if row["next"] and row["why_not_higher"] else "-"


@group.command("up")
def up(
    to: Annotated[Word | None, typer.Option(help="Level; default: the next one.", show_default=False)] = None,
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
    segment: SegmentOption = None,
) -> None:
    """Approve a move up; it is refused, with what is missing, where the evidence does not allow it.

    Example: `tenure level up --endpoint phones`
    """
    _move(project, endpoint, segment, to, step=1)


@group.command("down")
def down(
    to: Annotated[Word | None, typer.Option(help="Level; default: the one below.", show_default=False)] = None,
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
    segment: SegmentOption = None,
) -> None:
    """Move down; this needs no evidence, holds at once, and only a person moves up again.

    Example: `tenure level down --to human_only`
    """
    _move(project, endpoint, segment, to, step=-1)


def _move(project: Any, endpoint: str | None, segment: str | None, to: Word | None, *, step: int) -> None:
    from tenure.cli.office import office
    from tenure.errors import ConflictError
    from tenure.types import Level

    with office(project) as desk:
        name = desk.endpoint(endpoint)
        old, place = desk.automation.level(name, segment or ""), f"{name}/{segment}" if segment else name
        wanted = old + step if to is None else Level.of(to.value)
        if not Level.HUMAN_ONLY <= wanted <= Level.FULL or (wanted - old) * step <= 0:
            way, word = ("up", "above") if step > 0 else ("down", "below")
            there = f"{to.value} is not {way} from there" if to else f"there is nothing {word}"
            raise ConflictError(f"{place} is at {old.word}; {there}")
        verdict = desk.automation.request(name, Level(wanted), desk.by, True, segment or "")
    print(f"{place}: {old.word} -> {Level(wanted).word}: {verdict.reason}")


def report(
    version: Annotated[
        str | None, typer.Argument(help="Version; default: the one in force.", show_default=False)
    ] = None,
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
    json: JsonOption = False,
) -> None:
    """Compare a version with people: agreement, both directions of disagreement, with intervals.

    Only blind judgements of randomly drawn items count.

    Example: `tenure report --endpoint phones`
    """
    from tenure.cli.office import office
    from tenure.deploy.automation.shadow_report import shadow_report
    from tenure.errors import MissingError

    with office(project) as desk, desk.state.read() as conn:
        name = desk.endpoint(endpoint)
        chosen = version or desk.rollouts.stable(conn, name)
        if chosen is None:
            raise MissingError(f"{name} has no version; `tenure register` makes one", at=name)
        found = shadow_report(conn, name, chosen)
    if json:
        show.as_json(found)
        return
    print(found["sentence"])
    for line in found["directions"]:
        print("  " + ", ".join(f"{k} {v}" for k, v in line.items()))
