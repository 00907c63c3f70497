"""demo: whole stories, played through the public API. Their commands are loaded when they are called."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import typer

group = typer.Typer(help="Whole stories, played on this machine.", no_args_is_help=True)
_AS_GIVEN = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(group, name="demo")


@group.command("inspection", context_settings=_AS_GIVEN, add_help_option=False)
def inspection(context: typer.Context) -> None:
    """Play how a defect model earns its place beside inspectors; its own --help lists the options.

    Example: `tenure demo inspection --once`
    """
    from tenure.errors import MissingError

    if find_spec("tenure.demo.inspection.command") is None:
        raise MissingError("this installation has no inspection demo", at="tenure.demo.inspection")
    command = import_module("tenure.demo.inspection.command")
    command.app(args=["inspection", *context.args], prog_name="tenure demo")
