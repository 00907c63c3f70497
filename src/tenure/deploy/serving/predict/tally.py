"""What the fast path counted since the last look; one cheap step per answer instead of several stores."""

from __future__ import annotations

from bisect import bisect_left

from tenure.deploy.serving.control_page import LATENCY_BOUNDS_MS, Slot

_BOUNDS_US = tuple(bound * 1000 for bound in LATENCY_BOUNDS_MS)


class Tally:
    """Counts of one worker between two flushes to its slot of the control page."""

    __slots__ = ("_auto", "_buckets", "_refused", "_requests", "_slot", "_us")

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._requests = self._auto = self._refused = self._us = 0
        self._buckets = [0] * (len(_BOUNDS_US) + 1)

    def answered(self, latency_us: int, *, decided: bool) -> None:
        """Count one answer."""
        self._requests += 1
        self._auto += decided
        self._us += latency_us
        self._buckets[bisect_left(_BOUNDS_US, latency_us)] += 1

    def refused(self) -> None:
        """Count one request that got an error."""
        self._requests += 1
        self._refused += 1

    def flush(self) -> None:
        """Add what was counted to the slot."""
        if not self._requests:
            return
        slot, answers = self._slot, self._requests - self._refused
        slot.add("requests", self._requests)
        slot.add("auto", self._auto)
        slot.add("pending", answers - self._auto)
        slot.add("refused", self._refused)
        slot.observe_many(self._buckets, self._us)
        self._requests = self._auto = self._refused = self._us = 0
        self._buckets = [0] * len(self._buckets)
