"""A stage in several processes of its own: each batch is shared out among them, so that they compute at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from tenure.model.apart import Apart


class Pool:
    """The stage as the pipeline runs it: a process that dies or hangs costs only its own part of a batch.

    Args:
        members: at least one; the threads that wait for them end with this object.
    """

    def __init__(self, members: Sequence[Apart]) -> None:
        self._members = tuple(members)
        self._waiting = ThreadPoolExecutor(len(members), thread_name_prefix="stage")
        self._next = 0

    def load(self, files: Path) -> None:
        """Load the stage in every process, at once; raises ModelError where one cannot."""
        list(self._waiting.map(lambda member: member.load(files), self._members))

    def predict(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Answer each item, in order; fails as `Apart.predict` does.

        A batch that is smaller than the pool goes to those whose turn it is, so that all take part.
        """
        size = len(self._members)
        parts = _parts(batch, min(size, len(batch)))
        chosen = [self._members[(self._next + i) % size] for i in range(len(parts))]
        self._next = (self._next + len(parts)) % size
        if len(parts) == 1:
            return chosen[0].predict(parts[0])
        answers = self._waiting.map(lambda member, part: member.predict(part), chosen, parts)
        return [answer for part in answers for answer in part]

    @property
    def pids(self) -> list[int]:
        """The id of each process, 0 for one that is not there."""
        return [member.pid for member in self._members]

    def close(self) -> None:
        """End the processes."""
        for member in self._members:
            member.close()


def _parts(batch: Sequence[Any], n: int) -> list[Sequence[Any]]:
    """Return a batch in n runs of sizes that differ by one at most."""
    cuts = [len(batch) * i // n for i in range(n + 1)]
    return [batch[a:b] for a, b in pairwise(cuts)]
