"""One memory-mapped page that all processes of a node share: what is in force, who lives, what was counted.

The controller writes the routing version and its heartbeat; each worker writes its own slot. Every field is one
aligned 8-byte store, so that readers need no lock. `docs/formats.md` does not cover this file: it is made anew
at every start of the supervisor.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LATENCY_BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Upper bounds of the latency histogram's buckets; one more bucket holds the rest."""

COUNTERS = (
    "requests",  # answered predict calls, refused ones too
    "auto",
    "pending",
    "fallback",
    "refused",  # 4xx and 503
    "failed",  # a stage failed the item
    "faults",  # 500
    "shadows",
    "shadows_shed",
    "unlogged",
    "payloads_dropped",
    "latency_us",  # sum
)

STATES = ("empty", "starting", "ready", "draining", "dead")
_WORKERS = 64
_U8 = "<u8"
_HEAD = np.dtype(
    [
        ("magic", "S8"),
        ("routing", _U8),
        ("controller_ns", _U8),
        ("workers", _U8),
        ("beats", _U8),  # turns of the controller's loop, failed ones too: whether it moves, not whether it works
        ("ending", _U8),  # 1 once the whole server ends
        ("spare", _U8, (2,)),
    ]
)
_SLOT = np.dtype(
    [
        ("run", _U8),
        ("pid", _U8),
        ("state", _U8),
        ("routing", _U8),  # acknowledged routing version
        ("heartbeat_ns", _U8),
        ("queued_us", _U8),  # work that waits
        *[(name, _U8) for name in COUNTERS],
        ("buckets", _U8, (len(LATENCY_BOUNDS_MS) + 1,)),
    ]
)
_SIZE = _HEAD.itemsize + _WORKERS * _SLOT.itemsize


class ControlPage:
    """The page of one data folder; `create` makes it anew, `open` joins it."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR)
        try:
            self._map = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        self._head: npt.NDArray[Any] = np.frombuffer(self._map, _HEAD, count=1)
        self._routing, self._controller_ns = self._head["routing"], self._head["controller_ns"]  # read every turn
        self._slots: npt.NDArray[Any] = np.frombuffer(self._map, _SLOT, count=_WORKERS, offset=_HEAD.itemsize)

    @classmethod
    def create(cls, path: Path, *, workers: int) -> ControlPage:
        """Make an empty page for so many workers, by rename, and open it."""
        if not 1 <= workers <= _WORKERS:
            raise ValueError(f"workers must be between 1 and {_WORKERS}, got {workers}")
        head = np.zeros(1, _HEAD)
        head["magic"], head["workers"] = b"TNCPAGE1", workers
        temporary = path.with_suffix(".new")
        temporary.write_bytes(head.tobytes() + bytes(_SIZE - _HEAD.itemsize))
        temporary.replace(path)
        return cls(path)

    @property
    def workers(self) -> int:
        return int(self._head["workers"][0])

    @property
    def routing(self) -> int:
        """The routing version in force; 0 before the first."""
        return int(self._routing[0])

    @routing.setter
    def routing(self, version: int) -> None:
        self._head["routing"][0] = version

    @property
    def controller_ns(self) -> int:
        """Wall time of the controller's last tick; 0 before the first."""
        return int(self._controller_ns[0])

    @controller_ns.setter
    def controller_ns(self, now_ns: int) -> None:
        self._head["controller_ns"][0] = now_ns

    @property
    def beats(self) -> int:
        """Turns of the controller's loop, whether they succeeded or not."""
        return int(self._head["beats"][0])

    def beat(self) -> None:
        """Count one turn of the controller's loop."""
        self._head["beats"][0] += np.uint64(1)

    @property
    def ending(self) -> bool:
        """Whether the whole server ends, and not just one worker."""
        return bool(self._head["ending"][0])

    @ending.setter
    def ending(self, value: bool) -> None:
        self._head["ending"][0] = int(value)

    def slot(self, worker: int) -> Slot:
        return Slot(self._slots, worker)

    def slots(self) -> list[Slot]:
        """Return the slots in use."""
        return [self.slot(i) for i in range(self.workers)]

    def acknowledged(self) -> int:
        """Return the oldest routing version that a living worker still serves with."""
        return min((s.routing for s in self.slots() if s.state in ("ready", "draining")), default=0)


class Slot:
    """One worker's part of the page."""

    def __init__(self, slots: npt.NDArray[Any], index: int) -> None:
        self.index = index
        self._row = slots[index : index + 1]
        self._buckets: npt.NDArray[np.uint64] = self._row["buckets"][0]

    def begin(self, *, run: int, pid: int) -> None:
        """Take the slot for a new process; counters go on, so that totals never fall."""
        self._row["run"][0], self._row["pid"][0] = run, pid
        self._row["routing"][0] = 0
        self.state = "starting"

    def add(self, counter: str, n: int = 1) -> None:
        self._row[counter][0] += np.uint64(n)

    def observe(self, latency_us: int) -> None:
        """Count one answer's latency."""
        ms = latency_us / 1000.0
        at = next((i for i, bound in enumerate(LATENCY_BOUNDS_MS) if ms <= bound), len(LATENCY_BOUNDS_MS))
        self._buckets[at] += np.uint64(1)
        self.add("latency_us", latency_us)

    def observe_many(self, buckets: Sequence[int], total_us: int) -> None:
        """Count answers by bucket of latency, and the sum of their latencies."""
        self._buckets += np.array(buckets, np.uint64)
        self.add("latency_us", total_us)

    def get(self, name: str) -> int:
        return int(self._row[name][0])

    def set(self, name: str, value: int) -> None:
        self._row[name][0] = value

    def buckets(self) -> list[int]:
        return [int(n) for n in self._buckets]

    @property
    def routing(self) -> int:
        return self.get("routing")

    @property
    def run(self) -> int:
        return self.get("run")

    @property
    def pid(self) -> int:
        return self.get("pid")

    def is_alive(self) -> bool:
        """Say whether its process may still answer and log."""
        return self.state in ("starting", "ready", "draining")

    @property
    def state(self) -> str:
        return STATES[self.get("state")]

    @state.setter
    def state(self, word: str) -> None:
        self._row["state"][0] = STATES.index(word)
