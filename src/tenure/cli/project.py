"""init, check, schema: the project file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tenure.cli import show
from tenure.cli.options import JsonOption, ProjectOption


class Kind(StrEnum):
    """What an endpoint takes."""

    image = "image"
    audio = "audio"
    text = "text"
    record = "record"


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("init")(init)
    app.command("check")(check)
    app.command("schema")(schema)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if it is not there.")] = Path("."),
    kind: Annotated[Kind, typer.Option(help="What the model takes.")] = Kind.image,
    name: Annotated[
        str | None, typer.Option(help="Of the project and its endpoint; default: the folder's name.")
    ] = None,
    tokens: Annotated[bool, typer.Option(help="Make a token for each role and print it once.")] = True,
) -> None:
    """Write a commented tenure.yaml, and make one token for each role.

    Tokens are printed once and stored as hashes only. An existing tenure.yaml is never overwritten.

    Examples:
    - `tenure init --kind image --name phones`
    - `tenure init /srv/spam --kind text --no-tokens`
    """
    from tenure.cli.office import office
    from tenure.errors import ConflictError
    from tenure.scope.reader import read_project
    from tenure.scope.template import template

    file = folder / "tenure.yaml"
    if file.exists():
        raise ConflictError(f"{file} is there already; `tenure check` reads it", at=str(file))
    text = template(kind.value, name or _name_of(folder))
    read_project(text, file.name)
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print(f"wrote {file}")
    if tokens:
        with office(file) as desk:
            for role in ("client", "reviewer", "operator", "viewer"):
                print(f"{role:<9} {desk.access.create(f'first-{role}', role, by=desk.by)}")
        print("These tokens are not shown again. `tenure token create` makes others.")
    print("Next: write the class that `pipeline` names, then `tenure check`, `tenure register`, `tenure serve`.")


def check(project: ProjectOption = None, json: JsonOption = False) -> None:
    """Read the project file and name every fault with its line; exit 2 when there is any.

    Examples:
    - `tenure check`
    - `tenure check -p other/tenure.yaml`
    """
    from tenure.api import adhoc

    found = adhoc.find(project)
    if json:
        show.as_json(found.as_dict())
        return
    print(f"{found.project}: no faults")
    for name, spec in found.endpoints.items():
        automation = spec.automation
        print(f"  {name}: {spec.input}, starts at {automation.start}, goes up to {automation.max}")


def schema() -> None:
    """Print the JSON Schema of tenure.yaml, for editors.

    Example: `tenure schema > tenure.schema.json`, and in tenure.yaml as the first line
    `# yaml-language-server: $schema=tenure.schema.json`.
    """
    from tenure.scope import jsonschema

    print(jsonschema.text(), end="")


def _name_of(folder: Path) -> str:
    """Return a name that a project may have, made from a folder's."""
    kept = [c if c.isascii() and c.isalnum() else "-" for c in folder.resolve().name.lower()]
    return "".join(kept).strip("-")[:40] or "project"
