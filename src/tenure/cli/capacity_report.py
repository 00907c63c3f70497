"""How `tenure load` and `tenure plan` print: tables, a histogram of blocks, sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenure.deploy.capacity import plot
from tenure.deploy.capacity.measured import Measured
from tenure.deploy.capacity.search import Found
from tenure.deploy.capacity.verdict import Verdict


def print_load(console: Console, found: Measured) -> None:
    """Print what one load test measured."""
    shape = "climbing to " if found.ramp else ""
    console.print(
        f"{found.requests} requests in {found.seconds:g} s, {shape}{found.rate:g} a second, {found.pattern}: "
        f"{found.achieved:.1f} good answers a second"
    )
    console.print(_latency(found))
    _print_histogram(console, found)
    counts = ", ".join(f"{name}: {count}" for name, count in found.statuses.items())
    console.print(f"answers    {counts}")
    late, sender = found.sender.late_ms, found.sender
    console.print(
        f"generator  {_ms(late['p50'])} ms late at p50, {_ms(late['p99'])} at p99; {sender.cpu:.0%} of a core, "
        f"{sender.connections} connections"
    )
    for part in found.server:
        console.print(f"{part.name:<10} {part.cpu:.0%} of a core, {part.rss_mb:.0f} MB")
    if found.ramp:
        console.print(_slices(found))


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Print the verdict, first in one word."""
    words = {True: ("HOLDS", "green"), False: ("DOES NOT HOLD", "red"), None: ("INVALID", "yellow")}
    word, colour = words[verdict.holds]
    console.print(Text(word, style=f"bold {colour}"))
    for sentence in verdict.sentences:
        console.print(f"- {sentence}", highlight=False)


def print_found(console: Console, found: Found, *, budget_ms: float) -> None:
    """Print the curve of a search and what it found."""
    table = Table(box=None, pad_edge=False)
    for name in ("rate", "good/s", "p50 ms", "p99 ms", "bad", ""):
        table.add_column(name, justify="left" if not name else "right")
    for step in found.steps:
        m = step.measured
        table.add_row(
            f"{step.rate:.0f}", f"{m.achieved:.0f}", _ms(m.latency_ms["p50"]), _ms(m.latency_ms["p99"]),
            str(m.requests - m.good), step_word(step.held, m),
        )  # fmt: skip
    console.print(table)
    why = {
        "budget": f"above it p99 passes {budget_ms:g} ms, answers fail or a backlog grows",
        "ceiling": "the highest rate that was allowed; --ceiling raises it",
        "generator": "above it the generator is too slow to judge; free more cores",
        "steps": "the search took too many steps; start nearer with --qps",
    }
    console.print(Text(f"highest rate that holds: {found.highest:.0f} a second", style="bold"))
    console.print(f"- limit: {why[found.limit]}", highlight=False)
    if found.knee:
        console.print(f"- knee: {found.knee:.0f} a second; beyond it waiting grows faster than throughput")


def step_word(held: bool, found: Measured) -> str:
    """Say in a word how a step of a search ended."""
    if held:
        return "holds"
    return "invalid" if found.invalid else "breaks"


def print_table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text below their heads."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False)


def _latency(found: Measured) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("latency ms")
    for name in found.latency_ms:
        table.add_column(name, justify="right")
    table.add_row("from due", *(_ms(value) for value in found.latency_ms.values()))
    return table


def _print_histogram(console: Console, found: Measured) -> None:
    within = plot.over(found.histogram, found.budget_ms)
    for line in plot.bars(found.histogram):
        console.print(Text(line[:within], style="blue") + Text(line[within:], style="red"))
    if found.histogram:
        console.print(Text(f"{plot.axis(found.histogram)} ms", style="dim"))


def _slices(found: Measured) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("from s", "rate", "p50 ms", "p99 ms", "bad"):
        table.add_column(name, justify="right")
    for s in found.slices:
        table.add_row(f"{s.start_s:.1f}", f"{s.rate:.0f}", _ms(s.p50_ms), _ms(s.p99_ms), str(s.bad))
    return table


def _ms(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"
