"""dataset: freeze what was judged into a training set; list, show, verify and compare such snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tenure.cli import show
from tenure.cli.options import EndpointOption, JsonOption, ProjectOption, RevealOption

if TYPE_CHECKING:
    from tenure.cli.office import Office
    from tenure.maintain.snapshot import Origin, Snapshot

group = typer.Typer(help="Frozen data sets of what was judged.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Id of a snapshot, its beginning, or a folder.")]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(group, name="dataset")


@group.command("build")
def build(
    endpoint: Annotated[str, typer.Argument(help="Whose judged requests.")],
    since: Annotated[
        str | None, typer.Option(help="First request: 7d, or 2026-05-01T12:00:00Z.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Requests before then only; the same forms.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Copy it to this new folder, too.", show_default=False)] = None,
    test_share: Annotated[float, typer.Option(help="Share of the rows, the newest, kept for the test.")] = 0.2,
    reveal: RevealOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Join inputs, decisions, judgements and outcomes into a frozen, hashed data set.

    The same content has the same id, whenever it is built. Masked fields are left out.

    Example: `tenure dataset build defects --since 30d --out training-set`
    """
    from tenure.cli.office import office
    from tenure.errors import CaseError
    from tenure.maintain import dataset, shelf
    from tenure.maintain.judged import select

    if not 0 <= test_share < 1:
        raise CaseError(f"the share of the test must be in [0, 1), got {test_share}", at="--test-share")
    if out is not None and out.exists():
        raise CaseError(f"{out} is there already; name a new folder", at="--out")
    with office(project) as desk:
        name = desk.endpoint(endpoint)
        now_us = desk.state.now_us()
        since_us = 0 if since is None else moment(since, now_us, "--since")
        until_us = None if until is None else moment(until, now_us, "--until")
        with desk.state.read() as conn:
            items = select(conn, name, since_us=since_us, until_us=until_us)
        mask = desk.mask(
            name, reveal, action="dataset.reveal", detail={"items": len(items), "out": str(out or "")}
        )
        with show.bar("items", len(items)) as progress:
            made = dataset.freeze(
                items, name, desk.folder, since_us=since_us, until_us=until_us, payload=desk.media,
                now_us=now_us, test_share=test_share, min_side=desk.spec(name).decode.min_side or 0,
                origin=_origin(desk, name), mask=mask, progress=progress,
            )  # fmt: skip
        with desk.state.begin() as conn:
            dataset.record(conn, made, now_us=now_us)
        copied = None if out is None else shelf.copy(made, out)
    _tell(copied or made, json=json)


@group.command("list")
def list_(project: ProjectOption = None, endpoint: EndpointOption = None, json: JsonOption = False) -> None:
    """List the snapshots, newest first, those of training runs among them."""
    from tenure.cli.office import office
    from tenure.maintain import shelf

    with office(project) as desk, desk.state.read() as conn:
        found = [msgspec.to_builtins(one) for one in shelf.listed(conn, endpoint)]
    show.rows(found, ("id", "endpoint", "rows", "created_us", "path"), json=json, empty="no snapshots")


@group.command("show")
def show_(name: NameArgument, project: ProjectOption = None, json: JsonOption = False) -> None:
    """Say what a snapshot holds: rows, labels, provenance, and what could not be put in."""
    _tell(_opened(project, name)[0], json=json)


@group.command("verify")
def verify(name: NameArgument, project: ProjectOption = None) -> None:
    """Compare every byte of a snapshot with its manifest, and its hash with the noted one. Exit 2 if one differs.

    Example: `tenure dataset verify 3f9c`
    """
    made = _opened(project, name)[0]
    print(f"{made.id}: {made.manifest.rows} rows and {len(made.manifest.files)} files are as they were frozen")


@group.command("diff")
def diff(
    first: NameArgument, second: NameArgument, project: ProjectOption = None, json: JsonOption = False
) -> None:
    """Say which requests came, went, got another truth or changed parts between two snapshots."""
    from tenure.maintain import shelf

    found: dict[str, Any] = msgspec.to_builtins(shelf.difference(*_opened(project, first, second)))
    if json:
        show.as_json(found)
        return
    for what, ids in found.items():
        if what == "same":
            print(f"same: {ids}")
        else:
            some = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
            print(f"{what}: {len(ids)}" + (f" ({some})" if ids else ""))


def moment(text: str, now_us: int, option: str) -> int:
    """Return UTC microseconds of a time such as `2026-05-01T12:00:00Z`, or of a span before now such as `7d`.

    Raises:
        CaseError: it is neither.
    """
    from datetime import UTC, datetime

    from tenure.errors import CaseError
    from tenure.scope.units import duration

    try:
        if "T" in text or text.count("-") == 2:
            at = datetime.fromisoformat(text)
            return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)
        return now_us - int(duration(text) * 1e6)
    except ValueError as error:
        raise CaseError(f"{text!r} is no span such as 7d and no time such as 2026-05-01", at=option) from error


def _origin(desk: Office, endpoint: str) -> Origin:
    import hashlib

    from tenure import __version__
    from tenure.data.state import dumps
    from tenure.maintain.snapshot import Origin

    spec = dumps(msgspec.to_builtins(desk.spec(endpoint)))
    return Origin(__version__, desk.project.project, hashlib.sha256(spec.encode()).hexdigest())


def _opened(project: Path | None, *names: str) -> list[Snapshot]:
    from tenure.cli.office import office
    from tenure.maintain import shelf

    with office(project) as desk, desk.state.read() as conn:
        places = [shelf.path_of(conn, desk.folder, name) for name in names]
    return [shelf.verify(path, sha) for path, sha in places]


def _tell(made: Snapshot, *, json: bool) -> None:
    said: dict[str, Any] = msgspec.to_builtins(made.manifest)
    rows = list(made.rows())
    counts = {
        "blind": sum(r.blind for r in rows),
        "shown_suggestion": sum(r.shown_suggestion for r in rows),
        "outcomes": sum(r.source == "outcome" for r in rows),
        "adjudicated": sum(r.source == "adjudicated" for r in rows),
        "fair": sum(r.fair for r in rows),
        "weight": round(sum(r.weight for r in rows), 6),
    }
    if json:
        files = said.pop("files")
        show.as_json(said | {"files": len(files), "sha": made.sha, "path": str(made.path), "counts": counts})
        return
    print(
        f"{made.id}: {said['rows']} rows of {said['endpoint']}, {said['train']} to train, {said['test']} to test"
    )
    print(f"  in {made.path}, SHA-256 {made.sha}")
    for part, labels in said["labels"].items():
        if labels:
            print(f"  {part}: " + ", ".join(f"{label} {n}" for label, n in labels.items()))
    print("  " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    print(
        f"  merged {said.get('merged', 0)}, contradictions {said.get('contradictions', 0)}, "
        f"left out {len(said['missing'])}"
    )
