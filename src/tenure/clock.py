"""The only place that reads the time; everything else is handed a `Clock`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic time for latencies and deadlines."""

    def now_ns(self) -> int:
        """Return UTC nanoseconds since 1970; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never go back."""
        ...


class SystemClock:
    """The machine's clocks, without a call in between: a request reads them ten times."""

    now_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)


class ManualClock:
    """A clock that moves only when told to; for tests and replays."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now = now_ns
        self._mono = 0

    def now_ns(self) -> int:
        return self._now

    def monotonic_ns(self) -> int:
        return self._mono

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        step = int(seconds * 1e9)
        self._now += step
        self._mono += step

    def jump(self, seconds: float) -> None:
        """Move the wall clock only, as a time correction does."""
        self._now += int(seconds * 1e9)
