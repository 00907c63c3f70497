"""Show how a scoring run goes: a bar on a terminal, a line every few seconds elsewhere; and how it ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from tenure.cli.scoring import Done, reasons
from tenure.clock import Clock
from tenure.deploy.offline.pace import Progress, words
from tenure.deploy.offline.run import Report

EVERY_NS = 5_000_000_000


@contextmanager
def shown(clock: Clock, *, quiet: bool) -> Iterator[Report]:
    """Give a reporter for the time of a run."""
    if quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        yield from _bar()
    else:
        yield Lines(clock)


class Lines:
    """One line every few seconds, and at once when the deadline gets out of reach or in reach again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next_ns = clock.monotonic_ns() + EVERY_NS
        self._late = False

    def __call__(self, progress: Progress) -> None:
        late = progress.late is not None
        turned, self._late = late != self._late, late
        if self._clock.monotonic_ns() >= self._next_ns or turned:
            self._next_ns = self._clock.monotonic_ns() + EVERY_NS
            print(line(progress), file=sys.stderr, flush=True)
            if turned:
                print(verdict(progress), file=sys.stderr, flush=True)


def line(progress: Progress) -> str:
    """Return one line of progress.

    Example:
        >>> line(Progress(1000, 2000, 3, 500.0, 2.0))
        '1,000 of 2,000 rows, 500 rows/s, 2 s left, 3 quarantined'
    """
    total = "" if progress.total is None else f" of {progress.total:,}"
    left = "" if progress.left_s is None else f", {words(progress.left_s)} left"
    return (
        f"{progress.rows:,}{total} rows, {progress.rate:,.0f} rows/s{left}, {progress.quarantined:,} quarantined"
    )


def verdict(progress: Progress) -> str:
    """Return what is to be said about the deadline."""
    return "the deadline is in reach again" if progress.late is None else f"too slow: {progress.late}"


def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(BarColumn(), TextColumn("{task.fields[said]}"), console=console) as bar:
        task = bar.add_task("score", total=None, said="")
        late = False

        def tell(progress: Progress) -> None:
            nonlocal late
            bar.update(task, total=progress.total, completed=progress.rows, said=line(progress))
            if (progress.late is not None) != late:
                late = progress.late is not None
                console.print(verdict(progress), style="bold red" if late else "green", highlight=False)

        yield tell


def summary(done: Done) -> str:
    """Return how a run ended, for people."""
    c = done.counts
    head = {
        "finished": f"scored {c.rows:,} rows with {done.version} into {done.output}",
        "already": f"this run is finished: {c.rows:,} rows with {done.version} are in {done.output}",
        "rehearsed": f"rehearsed {c.rows:,} of {_about(done.total)} rows with {done.version}; wrote nothing",
    }[done.state]
    lines = [
        head,
        f"decided by the model {c.model:,}, for people to decide {c.person:,}, decided by nobody {c.none:,}",
        f"quarantined {c.quarantined:,}" + (f": {reasons(done.failed)}" if done.failed else ""),
    ]
    if done.rows:
        lines.append(f"{done.rows:,} rows in {words(done.seconds)}: {done.rate:,.0f} rows/s")
    if done.state == "rehearsed" and done.rate and done.total:
        lines.append(f"all rows would take about {words(done.total / done.rate)}")
    return "\n".join(lines)


def as_dict(done: Done) -> dict[str, Any]:
    """Return how a run ended, for programs."""
    plain = {name: getattr(done, name) for name in done.__struct_fields__ if name != "manifest"}
    run = done.manifest.run if done.manifest else None
    return {**plain, "counts": msgspec.structs.asdict(done.counts), "rows_per_s": round(done.rate, 1), "run": run}


def _about(total: int | None) -> str:
    return "unknown" if total is None else f"{total:,}"
