"""What tenure's processes use of the machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import psutil


class ProcessSampler:
    """Samples a set of processes; keeps their handles, because processor use is a difference of two calls."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def sample(self, pids: Iterable[int]) -> dict[str, float]:
        """Return `memory_mb`, `cpu_share` (of all cores, since the last call) and `server_load`.

        Processes that ended in between count as nothing. The first call reports no processor use.
        """
        first = not self._known
        memory = cpu = 0.0
        for process in self._processes(pids):
            with contextlib.suppress(psutil.Error):
                memory += process.memory_info().rss
                cpu += process.cpu_percent(None)
        cores = psutil.cpu_count() or 1
        found = {"memory_mb": memory / 2**20, "server_load": psutil.getloadavg()[0] / cores}
        return found if first else {**found, "cpu_share": cpu / 100.0 / cores}

    def _processes(self, pids: Iterable[int]) -> Iterator[psutil.Process]:
        wanted = dict.fromkeys(pids)
        self._known = {pid: p for pid, p in self._known.items() if pid in wanted}
        for pid in wanted:
            with contextlib.suppress(psutil.Error):
                yield self._known.setdefault(pid, psutil.Process(pid))


def sample_process(pids: Iterable[int], sampler: ProcessSampler | None = None) -> dict[str, float]:
    """Return one sample; pass the same sampler each time to get processor use as well."""
    return (sampler or ProcessSampler()).sample(pids)
