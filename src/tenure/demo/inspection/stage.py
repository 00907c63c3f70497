"""What the acts of the story share: the running factory, waiting for evidence, and the facts that were seen."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tenure.clock import Clock
from tenure.demo.inspection.inspectors import Inspector
from tenure.demo.inspection.line import Line, Request
from tenure.demo.inspection.narrator import Narrator
from tenure.demo.inspection.operator import Operator
from tenure.demo.inspection.project import Tokens
from tenure.demo.inspection.source import Source
from tenure.scope.project import Project
from tenure.system import Server

Check = Callable[[], tuple[bool, str]]
"""Says whether the evidence is there, and in words what is missing."""

PERIOD_S = 0.4


class Stage:
    """The factory on one machine: server, line, inspectors and operator; and what was seen there.

    Attributes:
        facts: what the summary is made of, by name.
        marks: name -> number of requests sent by then.
    """

    def __init__(
        self,
        project: Project,
        tokens: Tokens,
        source: Source,
        *,
        seed: int,
        speed: float,
        clock: Clock,
        tell: Narrator,
    ) -> None:
        self.project, self.tokens, self.source = project, tokens, source
        self.seed, self.speed, self.clock, self.tell = seed, speed, clock, tell
        self.versions: dict[str, str] = {}
        self.facts: dict[str, Any] = {}
        self.marks: dict[str, int] = {}
        self.inspectors: list[Inspector] = []
        self._pause = threading.Event()

    def open(self) -> None:
        """Start the server, the line and the inspectors."""
        self.server = Server(self.project)
        self.server.start()
        self.operator = Operator(self.server.console_url, self.tokens.operator)
        rate = self.source.rate * self.speed
        self.line = Line(self.server.url, self.tokens.client, self.source.next, rate=rate, clock=self.clock)
        self.inspectors = [
            Inspector(self.server.console_url, name, token, self.line.catalogue, seed=self.seed)
            for name, token in self.tokens.inspectors.items()
        ]
        self.line.start()
        for person in self.inspectors:
            person.start()

    def close(self) -> None:
        """Stop posting, let the open requests be decided, then end everything."""
        if hasattr(self, "line"):
            self.line.stop()
        for person in self.inspectors:
            person.stop()
        if hasattr(self, "server"):
            self.server.stop()

    @property
    def project_folder(self) -> Path:
        """The folder of the project file, in which the training command runs."""
        return Path(self.project.root)

    def now_us(self) -> int:
        return self.clock.now_ns() // 1000

    def at_s(self, time_us: int) -> float:
        """Return a wall time of the server as seconds on the line's clock."""
        return self.line.now_s() - (self.now_us() - time_us) / 1e6

    def seen_since(self, name: str, until: str | None = None) -> dict[str, Any]:
        """Return who decided the photos between two marks, and how many automated answers were wrong."""
        if name not in self.marks:
            return outcomes([])
        end = self.marks.get(until) if until else None
        return outcomes(self.line.since(self.marks[name], end))

    def mark(self, name: str) -> int:
        """Remember how many requests were sent by now."""
        self.marks[name] = self.line.count()
        return self.marks[name]

    def until(self, check: Check, *, cap_s: float) -> bool:
        """Wait for evidence, at most so long (longer for a slower line); returns whether it came.

        What is missing at the end is said, not hidden.
        """
        end_s = self.line.now_s() + cap_s * max(1.0, 1.0 / self.speed)
        while True:
            there, missing = check()
            if there:
                return True
            self.tell.now(f"{self.line.count():,} photos, {self.line.open()} open - {missing}")
            if self.line.now_s() > end_s:
                self.tell.say(f"The time for this is over: {missing}")
                return False
            self._pause.wait(PERIOD_S)

    def let_run(self, photos: int, *, cap_s: float) -> None:
        """Let the line send so many more photos."""
        goal = self.line.count() + photos

        def enough() -> tuple[bool, str]:
            left = goal - self.line.count()
            return left <= 0 or self.line.is_empty, f"{left} more photos"

        self.until(enough, cap_s=cap_s)


def outcomes(requests: Sequence[Request]) -> dict[str, Any]:
    """Count who decided, what share was automated, and how many automated answers were wrong."""
    by = Counter(r.by or "open" for r in requests if r.answered)
    automated = [r for r in requests if r.by == "model"]
    wrong = sum(r.value != r.truth for r in automated)
    answered = sum(by.values())
    return {
        "requests": len(requests),
        "by": dict(sorted(by.items())),
        "automated": len(automated),
        "automated_share": len(automated) / answered if answered else 0.0,
        "wrong": wrong,
        "error_among_automated": wrong / len(automated) if automated else 0.0,
    }
