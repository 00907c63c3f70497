"""Write docs/reference/cli.md from the commands: `python -m tenure.cli.reference docs/reference/cli.md`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from typer.main import get_command

from tenure.cli.app import app

_INTRO = """# The `tenure` command

This page is made from the code by `python -m tenure.cli.reference docs/reference/cli.md`.
`tenure COMMAND --help` says the same.

## Rules

- **Which project**: `--project` (or `TENURE_PROJECT`), else `tenure.yaml` in the working directory,
  else the project that `tenure.register` keeps in `tenure-data`.
- **How commands write**: by the services' own short transactions, directly on the state database.
  A server may run or not; a running controller sees the change at its next tick, within 0.2 s.
  So no command needs a token: whoever may write the data folder and the database is the operator.
  Every change is in the audit trail under the name of the user.
- **Exit codes**: 0 done; 1 the answer is no (a broken audit chain, a failed training run, a broken promise);
  2 the command could not be done, with one line on stderr that says why.
- **`--json`** prints JSON for programs; its times in `_us` are UTC microseconds.
"""


def page() -> str:
    """Return the reference page as Markdown."""
    parts = [_INTRO]
    for path, command in _walk("tenure", get_command(app)):
        parts.append(_section(path, command))
    return "\n".join(parts)


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, in the order of the help."""
    for name, found in getattr(command, "commands", {}).items():
        if hasattr(found, "commands"):
            yield from _walk(f"{path} {name}", found)
        else:
            yield f"{path} {name}", found


def _section(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join([path, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## `{path}`", "", f"`{usage}`", "", inspect.cleandoc(command.help or ""), ""]
    if arguments or options:
        lines += ["| parameter | meaning | default |", "|---|---|---|"]
        lines += [_row(p) for p in [*arguments, *options]]
        lines.append("")
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    name = str(parameter.name).upper()
    return name if parameter.required else f"[{name}]"


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    spelled = f"`{str(parameter.name).upper()}`" if parameter.param_type_name == "argument" else _code(names)
    meaning = (parameter.help or "").replace("|", "\\|")
    kind = parameter.bare_type
    if inspect.isclass(kind) and issubclass(kind, Enum):
        meaning += f" One of {_code([str(choice.value) for choice in kind])}."
    return f"| {spelled} | {meaning} | {_default(parameter)} |"


def _default(parameter: Any) -> str:
    value = getattr(parameter.default, "value", parameter.default)
    if parameter.required:
        return "required"
    return "" if value is None or value is False or value == "" or value == () else f"`{value}`"


def _code(words: list[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
