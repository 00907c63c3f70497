"""reviews, review: how full the review queue is, how its readers do, and gold items."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from tenure.cli import show
from tenure.cli.options import EndpointOption, JsonOption, ProjectOption

group = typer.Typer(help="How readers do, and the gold items that they are measured with.", no_args_is_help=True)
gold = typer.Typer(help="Items of known truth, given out among the others.", no_args_is_help=True)
group.add_typer(gold, name="gold")


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("reviews")(reviews)
    app.add_typer(group, name="review")


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


@group.command("stats")
def stats(
    reader: Annotated[str | None, typer.Option(help="Only of this one.")] = None,
    days: Annotated[int, typer.Option(min=1, help="How far back.")] = 30,
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
    json: JsonOption = False,
) -> None:
    """Say how fast and how right each reader is, who has fallen, and which labels people mix up.

    Example: `tenure review stats --reader anna`
    """
    from tenure.cli.office import office
    from tenure.deploy.review import caps, conventions, readers

    with office(project) as desk, desk.state.read() as conn:
        since = desk.state.now_us() - days * caps.DAY_US
        found = readers.readings(conn, desk.endpoint(endpoint), since_us=since)
    rows = [row for row in readers.table(found) if reader in (None, row.reader)]
    habits = conventions.compare(found)
    if json:
        show.as_json({"readers": msgspec.to_builtins(rows), "conventions": msgspec.to_builtins(habits)})
        return
    for row in rows:
        print(_line(row))
    print(f"conventions: {habits.clarify}")


def _line(row: Any) -> str:
    speed = "no times" if row.median_s is None else f"median {row.median_s:.1f} s, p90 {row.p90_s:.1f} s"
    shares = (("gold", row.gold), ("double reads", row.double), ("overrides", row.overrides))
    told = "; ".join(f"{name} {_share(share)}" for name, share in shares)
    fallen = row.decline.fallen_at
    drift = "no fall shown" if fallen is None else f"agreement HAS FALLEN (shown at checked reading {fallen})"
    return f"{row.reader}: {row.judgements} judgements, {row.skips} skips, {speed}; {told}; {drift}"


def _share(share: Any) -> str:
    if not share.n:
        return "none"
    few = ", too few to say" if share.few else ""
    return f"{share.k} of {share.n} (95 % interval {share.low:.0%} to {share.high:.0%}{few})"


@gold.command("add")
def add(
    item: Annotated[str, typer.Argument(help="Id of a review item.")],
    truth: Annotated[
        str | None, typer.Option(help="Its truth as JSON or a label; else what it resolved to.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Measure readers with this item from now on; who judged it never gets it.

    Example: `tenure review gold add 01a2… --truth defect`
    """
    from tenure.cli.office import office

    with office(project) as desk:
        desk.queue.add_gold(item, by=desk.by, truth=None if truth is None else _value(truth))


@gold.command("retire")
def retire(
    item: Annotated[str, typer.Argument(help="Id of a gold item.")], project: ProjectOption = None
) -> None:
    """Give an item out as gold no more; what was read stays counted."""
    from tenure.cli.office import office

    with office(project) as desk:
        desk.queue.retire_gold(item, by=desk.by)


@gold.command("list")
def listed(project: ProjectOption = None, endpoint: EndpointOption = None) -> None:
    """Print the ids of the gold items in use."""
    from tenure.cli.office import office

    with office(project) as desk:
        for item in desk.queue.gold_ids(desk.endpoint(endpoint)):
            print(item)


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
