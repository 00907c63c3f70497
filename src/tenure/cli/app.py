"""The `tenure` command: its groups, and how errors end it. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from tenure.cli import (
    alarms,
    capacity,
    certificates,
    dataset,
    demo,
    exchange,
    history,
    levels,
    log,
    maintain,
    project,
    replay,
    reviews,
    rollouts,
    score,
    server,
    shadow,
    tokens,
    versions,
)
from tenure.errors import ProjectError, TenureError

app = typer.Typer(
    name="tenure",
    help="Run a trained model in production and let it earn its place.",
    epilog="Start: `tenure init`, `tenure register`, `tenure serve`. Each command explains itself with --help.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from tenure import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_version, is_eager=True),
) -> None:
    """Run a trained model in production and let it earn its place."""


for _group in (
    project,
    versions,
    server,
    score,
    tokens,
    log,
    levels,
    rollouts,
    replay,
    reviews,
    shadow,
    alarms,
    capacity,
    certificates,
    maintain,
    dataset,
    exchange,
    history,
    demo,
):
    _group.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the `tenure` command; an error of tenure is one line on stderr and exit code 2."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="tenure")
    except ProjectError as error:
        _stop("\n".join(error.faults))
    except TenureError as error:
        where = f" ({error.at})" if error.at and error.at not in error.message else ""
        _stop(f"tenure: {error.message}{where}")
    except BrokenPipeError:  # such as `tenure log … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


def _stop(text: str) -> None:
    print(text, file=sys.stderr)
    raise SystemExit(2)
