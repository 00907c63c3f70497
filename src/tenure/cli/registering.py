"""What `tenure register` reads from its options, and how it shows its steps and what became of them."""

from __future__ import annotations

import json as json_
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tenure.api import adhoc
from tenure.cli import show
from tenure.errors import CaseError
from tenure.model.bundle import Bundle, find_bundle, open_bundle
from tenure.model.manifest import Latency, Manifest, refuses_partial
from tenure.scope.project import Project

LINES = (".jsonl", ".ndjson")


def options(said: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` texts as options; a value is JSON where it can be read as such, else a text.

    Example:
        >>> options(["scores=softmax", "timeout=0.5"])
        {'scores': 'softmax', 'timeout': 0.5}
    """
    found: dict[str, Any] = {}
    for text in said:
        key, sign, value = text.partition("=")
        if not sign:
            raise CaseError(f"expected key=value, got {text!r}", at="--set")
        try:
            found[key.strip()] = json_.loads(value)
        except ValueError:
            found[key.strip()] = value
    return found


def sample(text: str) -> Any:
    """Return the sample: the records of a JSON list or of JSON lines, otherwise the file or text as it is.

    Raises:
        CaseError: the file is not what its ending says.
    """
    path = Path(text)
    if len(text) > 1000 or path.suffix.lower() not in (".json", *LINES) or not path.is_file():
        return text
    try:
        body = path.read_bytes()
        rows = [msgspec.json.decode(line) for line in body.splitlines() if line.strip()] if _lines(path) else None
        found = msgspec.json.decode(body) if rows is None else rows
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CaseError(f"{path.name} is not valid JSON: {error}", at="--sample") from error
    if isinstance(found, list) and found and all(isinstance(row, dict) for row in found):
        return found
    return text


def _lines(path: Path) -> bool:
    return path.suffix.lower() in LINES


@contextmanager
def shown(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Give what is told each step: a moving line on a terminal, a line each elsewhere; notes stay."""
    if quiet:
        yield lambda step: None
    elif sys.stderr.isatty():
        yield from _moving()
    else:
        yield lambda step: print(f"{step} ...", file=sys.stderr, flush=True)


def _moving() -> Iterator[Callable[[str], None]]:
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with console.status("reading") as status:

        def tell(step: str) -> None:
            if step.startswith("fields: "):
                console.print(step, style="dim")
            else:
                status.update(step)

        yield tell


def tell(version: str, endpoint: str, place: adhoc.Place, *, json: bool) -> None:
    """Print the id, and to the error output a short table of what was made."""
    project = adhoc.find(place)
    made = open_bundle(find_bundle(project.folder(), version), verify=False)
    if json:
        show.as_json(page(made, version, endpoint))
        return
    for name, value in table(made, project, endpoint):
        print(f"  {name:<11}{value}", file=sys.stderr)
    print(version)


def page(made: Bundle, version: str, endpoint: str) -> dict[str, Any]:
    """Return what was made, for programs."""
    said = made.manifest
    return {
        "endpoint": endpoint,
        "version": version,
        "sha": made.sha,
        "files": len(said.files) + len(said.code),
        "bytes": said.size,
        "confidence": said.confidence,
        "expected": said.expected,
        "measured": said.measured,
    }


def table(made: Bundle, project: Project, endpoint: str) -> Iterator[tuple[str, str]]:
    """Yield the rows of the table: what, and in words."""
    said = made.manifest
    count = len(said.files) + len(said.code)
    yield "files", f"{count} {'file' if count == 1 else 'files'}, {_bytes(said.size)}"
    yield "sample", _answer(said)
    yield "confidence", said.confidence
    if (found := said.measured) is not None:
        yield "latency", "; ".join(_latency(size, each) for size, each in found.latency.items())
        process = "" if found.process_mb is None else f" of the process's {found.process_mb:.0f} MiB"
        yield "memory", f"{found.memory_mb:.1f} MiB{process}"
        libraries = ", ".join(f"{name} {number}" for name, number in found.hardware.libraries.items())
        yield "hardware", f"{found.hardware.cpu}, {found.hardware.cores} cores; {libraries}"
    if (why := refuses_partial(said)) and _wants_partial(project, endpoint):
        yield "note", why


def _wants_partial(project: Project, endpoint: str) -> bool:
    automation = project.endpoints[endpoint].automation
    return automation.max in ("partial", "full") and automation.start != "full"


def _answer(said: Manifest) -> str:
    sure = said.expected.confidence
    return f"{said.expected.value}" + ("" if sure is None else f" at {sure:.3f}")


def _latency(size: str, each: Latency) -> str:
    rows = "1 at a time" if size == "1" else f"{size} at a time"
    return f"{rows}: p50 {each.p50_ms:.3g} ms, p99 {each.p99_ms:.3g} ms"


def _bytes(count: int) -> str:
    return f"{count} bytes" if count < 2**10 else f"{count / 2**20:.2f} MiB"
