"""How commands print: a table for people, JSON for programs, times that can be read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec


def as_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Print the named columns of rows as a table without lines; `empty` when there are none."""
    found = [[_cell(row.get(name)) for name in columns] for row in rows]
    if not found:
        print(empty)
        return
    heads = [name.removesuffix("_us") for name in columns]
    widths = [max(len(line[i]) for line in [heads, *found]) for i in range(len(heads))]
    for line in [heads, *found]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def rows(found: Sequence[Mapping[str, Any]], columns: Sequence[str], *, json: bool, empty: str) -> None:
    """Print rows as JSON or as a table; times in `_us` columns are made readable in the table."""
    if json:
        as_json(found)
        return
    readable = [{k: when(v) if k.endswith("_us") else v for k, v in row.items()} for row in found]
    table(readable, columns, empty=empty)


def when(us: int | None) -> str:
    """Return UTC microseconds as `2026-05-01 12:00:00Z`; nothing for None.

    Example:
        >>> when(1_000_000)
        '1970-01-01 00:00:01Z'
    """
    return "" if us is None else datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that shows, on a terminal, how many of `total` are done; elsewhere nothing is shown."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done)


def percent(share: float | None) -> str:
    """Return a share as a percentage of at most 3 digits; `-` for None.

    Example:
        >>> percent(0.0123)
        '1.23 %'
    """
    return "-" if share is None else f"{share * 100:.3g} %"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
