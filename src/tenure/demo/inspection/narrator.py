"""What the demo says while it plays: acts, sentences, and one line of live numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.status import Status

from tenure.clock import Clock


class Narrator:
    """Writes to a terminal; where there is none (a test, a file), the live line is left out."""

    def __init__(self, clock: Clock, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._clock, self._start_ns = clock, clock.monotonic_ns()
        self._status: Status | None = None

    def act(self, number: int, title: str) -> None:
        self._console.print(f"\n[bold cyan]Act {number}[/] [bold]{title}[/]")

    def say(self, text: str) -> None:
        """Print a sentence with the seconds since the beginning."""
        self._console.print(f"[dim]{self.seconds():5.0f} s[/]  {_plain(text)}", soft_wrap=True)

    def heading(self, text: str) -> None:
        self._console.print(f"\n[bold]{_plain(text)}[/]")

    def line(self, text: str) -> None:
        """Print a line of the summary."""
        self._console.print(f"  {_plain(text)}", soft_wrap=True)

    def live(self) -> AbstractContextManager[Any]:
        """Show the live line while the block runs."""
        self._status = self._console.status("starting")
        return self._status

    def now(self, text: str) -> None:
        """Change the live line."""
        if self._status is not None:
            self._status.update(f"[dim]{_plain(text)}[/]")

    def seconds(self) -> float:
        return (self._clock.monotonic_ns() - self._start_ns) / 1e9


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
