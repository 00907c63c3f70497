"""token: who may call."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer

from tenure.cli import show
from tenure.cli.options import JsonOption, ProjectOption

group = typer.Typer(help="Who may call: make, list and revoke tokens.", no_args_is_help=True)


class Role(StrEnum):
    """What a token allows."""

    client = "client"
    exchange = "exchange"
    reviewer = "reviewer"
    adjudicator = "adjudicator"
    operator = "operator"
    viewer = "viewer"


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(group, name="token")


@group.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose it is; stands in logs and in the audit trail.")],
    role: Annotated[Role, typer.Option(help="What it allows.")] = Role.client,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Make a token and print it once; only its hash is stored.

    client: predict, feedback, decisions. viewer: look. reviewer: look and judge.
    adjudicator: a reviewer who also gets what was escalated. operator: all commands.
    exchange: what a labelling tool does, suggestions out and judgements in; nothing else.

    Examples:
    - `tenure token create line-1`
    - `tenure token create anna --role reviewer`
    """
    from tenure.cli.office import office

    with office(project) as desk:
        token = desk.access.create(name, role.value, by=desk.by)
    if json:
        show.as_json({"name": name, "role": role.value, "token": token})
    else:
        print(token)


@group.command("list")
def list_(project: ProjectOption = None, json: JsonOption = False) -> None:
    """List who has a token, also revoked ones.

    Example: `tenure token list`
    """
    from tenure.cli.office import office

    with office(project) as desk:
        found: list[dict[str, Any]] = [msgspec.to_builtins(p) for p in desk.access.list()]
    show.rows(
        found, ("name", "role", "created_us", "revoked_us"), json=json,
        empty="no tokens; `tenure token create NAME` makes one",
    )  # fmt: skip


@group.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="Whose token ends.")], project: ProjectOption = None) -> None:
    """End somebody's token; a running server refuses it within three seconds.

    Example: `tenure token revoke line-1`
    """
    from tenure.cli.office import office

    with office(project) as desk:
        desk.access.revoke(name, by=desk.by)
    print(f"revoked the token of {name}")
