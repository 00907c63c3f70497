"""Tell a process that hangs from one that works: a number that it should move has stood still for too long."""

from __future__ import annotations


class Pulse:
    """Watch one number.

    Only changes count, never what the number says: a step of the wall clock makes nobody look dead. Time in
    which the watcher itself did not run (a suspended machine, a paused container) counts for nobody either.

    Args:
        limit_s: seconds without a change after which `stopped` says so.
        gap_s: a pause between two looks that is longer than this starts the watch anew.
    """

    def __init__(self, limit_s: float, *, gap_s: float = 2.0) -> None:
        self._limit_ns = int(limit_s * 1e9)
        self._gap_ns = int(gap_s * 1e9)
        self._value: int | None = None
        self._since_ns = 0
        self._looked_ns = 0

    def stopped(self, value: int, now_ns: int) -> bool:
        """Take a look at the number; `now_ns` is monotonic time."""
        paused = now_ns - self._looked_ns > self._gap_ns
        self._looked_ns = now_ns
        if paused or value != self._value:
            self._value, self._since_ns = value, now_ns
        return now_ns - self._since_ns > self._limit_ns

    def reset(self) -> None:
        """Forget what was seen: the number belongs to another process now, or to none."""
        self._value = None
