"""Run a load in a process of its own and watch the server's processes meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping

import msgspec
import psutil

from tenure.clock import Clock
from tenure.deploy.capacity.generator import Load, Raw
from tenure.deploy.capacity.measured import Footprint, Measured, summarise
from tenure.errors import BusyError

_EVERY_S = 0.25


def drive(load: Load, *, pids: Mapping[str, int], clock: Clock) -> Measured:
    """Send a load, bounded in time, and return what was measured.

    Args:
        load: what to send.
        pids: the server's processes by name, where they can be seen; empty for a server elsewhere.
        clock: for the processes' CPU shares.

    Raises:
        BusyError: the generator failed or did not end in time.
    """
    with Watch(pids, clock=clock) as watch:
        raw = generate(load)
    return summarise(load, raw, server=watch.footprints())


def generate(load: Load) -> Raw:
    """Run the generator's process and return its raw times."""
    bound = load.warmup + load.seconds + load.timeout + 30.0
    command = [sys.executable, "-m", "tenure.deploy.capacity.generator"]
    try:
        done = subprocess.run(
            command, input=msgspec.msgpack.encode(load), capture_output=True, timeout=bound, check=False
        )
    except subprocess.TimeoutExpired:
        raise BusyError(f"the load generator did not end within {bound:g} s", code="generator_failed") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no words"]
        raise BusyError(f"the load generator failed: {last[0]}", code="generator_failed")
    return msgspec.msgpack.decode(done.stdout, type=Raw)


class Watch:
    """Samples CPU time and memory of processes while its `with` block runs."""

    def __init__(self, pids: Mapping[str, int], *, clock: Clock) -> None:
        self._clock = clock
        self._processes = {name: _process(pid) for name, pid in pids.items()}
        self._before: dict[str, float] = {}
        self._cpu: dict[str, float] = {}
        self._rss: dict[str, int] = {}
        self._start_ns = self._end_ns = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._start_ns = self._clock.monotonic_ns()
        self._look()
        self._before = dict(self._cpu)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        self._end_ns = self._clock.monotonic_ns()

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds that each process used."""
        return {name: used - self._before[name] for name, used in self._cpu.items() if name in self._before}

    def footprints(self) -> tuple[Footprint, ...]:
        """Return what each process took; one that ended meanwhile up to its last sample."""
        wall_s = max(1e-9, (self._end_ns - self._start_ns) / 1e9)
        return tuple(
            Footprint(name, round(used / wall_s, 4), round(used, 3), round(self._rss[name] / 2**20, 1))
            for name, used in self.cpu_s().items()
        )

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        for name, process in self._processes.items():
            if process is None:
                continue
            try:
                with process.oneshot():
                    used, rss = process.cpu_times(), process.memory_info().rss
            except psutil.Error:  # it ended
                continue
            self._cpu[name] = used.user + used.system
            self._rss[name] = max(rss, self._rss.get(name, 0))


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None
