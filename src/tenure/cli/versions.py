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
    sample: Annotated[str, typer.Argument(help="An input as clients send it: a file, or a text in quotes.")],
    uses: Annotated[
        str | None,
        typer.Option(
            help="`module:Name` beside the project file, or an .onnx file. Default: the pipeline of the "
            "project file.",
            show_default=False,
        ),
    ] = None,
    files: Annotated[
        Path | None, typer.Option(exists=True, help="Folder or file of weights.", show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="What answers may say; once for each. Without a project file only.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the version.", show_default=False)] = None,
    project: ProjectOption = None,
    endpoint: EndpointOption = None,
    json: JsonOption = False,
) -> None:
    """Make a version of an endpoint: copy code and weights, answer the sample, and note the answer.

    The first version of an endpoint is put in force. Later ones are only registered: `tenure rollout start`
    brings them in.

    Examples:
    - `tenure register photo.jpg --files weights/`
    - `tenure register sample.json --uses churn.onnx --endpoint churn`
    - `tenure register "Win a prize" --uses my:Spam -e mail --label wanted --label spam`
    """
    import sys

    from tenure.api.register import register as make
    from tenure.cli import loading
    from tenure.errors import CaseError

    found = loading.project_of(project)
    names = list(found.endpoints) if found else []
    if endpoint is None and len(names) != 1:
        raise CaseError("which endpoint? Say --endpoint NAME", at="--endpoint")
    endpoint = endpoint or names[0]
    sys.path[:0] = dict.fromkeys([found.root if found else ".", "."])
    stages = loading.stages(uses, found, endpoint)
    version = make(endpoint, stages, sample=sample, files=files, labels=label or None, name=name, project=project)
    if json:
        show.as_json({"endpoint": endpoint, "version": version})
        return
    print(version)


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
