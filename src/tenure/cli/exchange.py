"""export, import: judgements to and from Label Studio, COCO, JSON lines and Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from tenure.cli import show
from tenure.cli.options import JsonOption, ProjectOption, RevealOption

if TYPE_CHECKING:
    from tenure.cli.office import Office
    from tenure.maintain.exchange.entry import Out, Taken

Format = Literal["label-studio", "coco", "jsonl", "parquet"]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="Form of the file.")]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("export")(export)
    app.command("import")(import_)


def export(
    endpoint: Annotated[str, typer.Argument(help="Whose items.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    form: FormatOption,
    which: Annotated[
        Literal["open", "resolved", "all"] | None,
        typer.Option(help="Default: open for Label Studio, resolved otherwise.", show_default=False),
    ] = None,
    since: Annotated[str | None, typer.Option(help="First request: 7d or a time.", show_default=False)] = None,
    until: Annotated[str | None, typer.Option(help="Requests before then only.", show_default=False)] = None,
    prefix: Annotated[
        str, typer.Option(help="What goes before the names of files in Label Studio tasks.")
    ] = "/data/local-files/?d=",
    reveal: RevealOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Hand items out with their inputs, ids and provenance.

    The model's answer goes along only where a reader may see it; masked fields stay behind.

    Example: `tenure export defects to-label --format label-studio`
    """
    from tenure.cli.dataset import moment
    from tenure.cli.office import office
    from tenure.errors import CaseError
    from tenure.maintain.exchange import gather

    if out.exists():
        raise CaseError(f"{out} is there already; name a new folder", at="OUT")
    which = which or ("open" if form == "label-studio" else "resolved")
    with office(project) as desk:
        name, now_us = desk.endpoint(endpoint), desk.state.now_us()
        with desk.state.read() as conn:
            items = gather.select(
                conn, name, open_=which != "resolved", resolved=which != "open",
                since_us=0 if since is None else moment(since, now_us, "--since"),
                until_us=None if until is None else moment(until, now_us, "--until"),
            )  # fmt: skip
        mask = desk.mask(name, reveal, action="exchange.reveal", detail={"format": form, "items": len(items)})
        out.mkdir(parents=True)
        with show.bar("items", len(items)) as progress:
            found = list(gather.outs(items, out, desk.media, mask=mask, progress=progress))
        made = [one for one in found if not isinstance(one, str)]
        rows = _write(desk, name, made, out=out, form=form, prefix=prefix)
    missing = len(found) - len(made)
    if json:
        show.as_json({"items": len(made), "records": rows, "missing": missing, "folder": str(out)})
    else:
        print(f"{len(made)} items, {rows} records in {out}; {missing} left out, their input is not kept")


def import_(
    endpoint: Annotated[str, typer.Argument(help="Whose items.")],
    file: Annotated[Path, typer.Argument(help="What the other tool exported.", exists=True, dir_okay=False)],
    form: FormatOption,
    reader: Annotated[str, typer.Option(help="Who labelled, for COCO, which does not say.")] = "unknown",
    with_boxes: Annotated[
        str | None, typer.Option(help="COCO: the answer for a picture with boxes.", show_default=False)
    ] = None,
    without_boxes: Annotated[
        str | None, typer.Option(help="COCO: the answer for a picture without.", show_default=False)
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Take judgements in by the rules of the review queue; the same file again changes nothing.

    The whole file is read before anything is stored. Exit 1 where judgements were refused.

    Example: `tenure import defects project-3.json --format label-studio`
    """
    import sys

    from tenure.cli.office import office
    from tenure.maintain.exchange import taking

    with office(project) as desk:
        name = desk.endpoint(endpoint)
        found = list(_read(desk, name, file, form=form, reader=reader, answers=(with_boxes, without_boxes)))
        with show.bar("judgements", len(found)) as progress:
            report = taking.take(desk.state, desk.queue, name, found, progress=progress)
        with desk.state.begin() as conn:
            said = msgspec.to_builtins(report)
            detail = {"file": file.name, "format": form} | {k: said[k] for k in ("read", "stored", "known")}
            desk.state.audit(conn, actor=desk.by, action="judgements.import", subject=name, detail=detail)
    if json:
        show.as_json(said)
    else:
        refused = ", ".join(f"{n} {code}" for code, n in report.refused.items()) or "none"
        print(
            f"{report.read} judgements: {report.stored} stored ({report.late} late, "
            f"{report.corrected} corrected), {report.known} known,"
        )
        print(f"refused: {refused}")
    for fault in report.faults:
        print(fault, file=sys.stderr)
    if report.refused:
        raise typer.Exit(1)


def _write(desk: Office, endpoint: str, made: list[Out], *, out: Path, form: Format, prefix: str) -> int:
    from tenure.maintain.exchange import coco, gather, label_studio, lines

    spec, output = desk.spec(endpoint), desk.project.output(endpoint)
    if form == "jsonl":
        return lines.write_jsonl(lines.records(made), out / "judgements.jsonl")
    if form == "parquet":
        return lines.write_parquet(lines.records(made), out / "judgements.parquet")
    if form == "coco":
        found = coco.dataset(made)
        (out / "annotations.json").write_bytes(msgspec.json.encode(found))
        return len(found["images"])
    with desk.state.read() as conn:
        names = sorted({*output.labels, *gather.box_labels(conn, endpoint)})
    tasks = [label_studio.task(one, spec.input, output, prefix=prefix) for one in made]
    (out / "tasks.json").write_bytes(msgspec.json.encode(tasks))
    (out / "config.xml").write_text(label_studio.config(spec.input, output, names))
    return len(tasks)


def _read(
    desk: Office, endpoint: str, file: Path, *, form: Format, reader: str, answers: tuple[str | None, str | None]
) -> Iterator[Taken]:
    from tenure.maintain.exchange import coco, label_studio, lines

    if form == "jsonl":
        return lines.read(lines.read_jsonl(file), name=form)
    if form == "parquet":
        return lines.read(lines.read_parquet(file), name="jsonl")
    content = _json(file)
    if form == "coco":
        with_boxes, without = answers
        return coco.read(content, name=file.name, reader=reader, with_boxes=with_boxes, without_boxes=without)
    return label_studio.read(content, desk.project.output(endpoint), name=file.name)


def _json(file: Path) -> Any:
    from tenure.maintain.exchange.entry import wrong

    try:
        return msgspec.json.decode(file.read_bytes())
    except msgspec.DecodeError as error:
        raise wrong(file.name, f"is no JSON: {error}") from error
