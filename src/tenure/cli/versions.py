"""register, versions: what may answer for an endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tenure.cli import show
from tenure.cli.options import EndpointOption, JsonOption, ProjectOption


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("register")(register)
    app.command("versions")(versions)


def register(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model's file, an MLflow folder, `http://host/v2/models/NAME`, or `module:Name`. Default: the "
            "pipeline of the project file.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option("--sample", "-s", help="An input as clients send it: a file, or a text in quotes."),
    ] = None,
    files: Annotated[
        Path | None, typer.Option(exists=True, help="Folder or file of weights.", show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="What answers may say; once for each. Without a project file only.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the stage, such as scores=softmax; its value may be JSON."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the version.", show_default=False)] = None,
    version: Annotated[
        str | None, typer.Option(help="Your own number or tag; kept with the version.", show_default=False)
    ] = None,
    measure: Annotated[bool, typer.Option(help="Measure latency and memory in a new process.")] = True,
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
    json: JsonOption = False,
) -> None:
    """Make a version of an endpoint: copy code and weights, answer the sample, measure, and note it all.

    The first version of an endpoint is put in force. Later ones are only registered: `tenure rollout start`
    brings them in. Prints the version's id; what was made of it goes to the error output.

    Examples:
    - `tenure register --sample photo.jpg --files weights/`
    - `tenure register churn.onnx --sample customer.json --endpoint churn --label stay --label leave`
    - `tenure register my:Spam --sample "Win a prize" -e mail --label wanted --label spam`
    """
    import sys

    from tenure.api.register import register as make
    from tenure.cli import loading, registering
    from tenure.errors import CaseError

    found = loading.project_of(project)
    names = list(found.endpoints) if found else []
    if endpoint is None and len(names) != 1:
        raise CaseError("which endpoint? Say --endpoint NAME", at="--endpoint")
    if sample is None:
        raise CaseError(
            "what does an input look like? Say --sample with a file, or a text in quotes", at="--sample"
        )
    endpoint = endpoint or names[0]
    sys.path[:0] = dict.fromkeys(str(Path(place).resolve()) for place in (found.root if found else ".", "."))
    stages = loading.stages(model, found, endpoint, registering.options(option or ()))
    with registering.shown(quiet=json) as progress:
        made = make(
            endpoint, stages, sample=registering.sample(sample), files=files, labels=label or None, name=name,
            provenance={"version": version} if version else None, project=project, measure=measure,
            progress=progress,
        )  # fmt: skip
    registering.tell(made, endpoint, project, json=json)


def versions(project: ProjectOption = None, endpoint: EndpointOption = None, json: JsonOption = False) -> None:
    """List registered versions, oldest first.

    `live` is the version in force; a rollout's candidate is `registered` until it completes.

    Example: `tenure versions --endpoint phones --json`
    """
    from tenure.cli.office import office

    with office(project) as desk:
        found: list[dict[str, Any]] = [msgspec.to_builtins(v) for v in desk.registry.list(endpoint)]
    show.rows(
        found, ("endpoint", "id", "state", "created_us", "created_by"), json=json,
        empty="no versions; `tenure register` makes one",
    )  # fmt: skip
