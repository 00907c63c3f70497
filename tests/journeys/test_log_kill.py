"""SIGKILL writers and the keeper at random moments under load: no acknowledged row is lost, none is doubled."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from lifecycle_plant import wait

from tenure.data.spool import segments
from tenure.data.view import Log
from tenure.errors import TenureError

PARTS = Path(__file__).with_name("log_kill_parts.py")

DRAIN_S = 600
"""Most seconds to seal what is left: a keeper that was often killed leaves hundreds of small segments."""


class Writer:
    """A writer process and what it has acknowledged."""

    def __init__(self, folder: Path, name: str, run: int) -> None:
        self.name, self.run = name, run
        self.acked: set[tuple[int, int]] = set()
        self.process = start("writer", str(folder), name, str(run))
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._listen)
        self._reader.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # a torn last line is no acknowledgement
                with self._more:
                    self.acked |= {(self.run, int(seq)) for seq in line.split()}
                    self._more.notify_all()

    def wait_for(self, rows: int) -> None:
        """Wait until so many more rows were acknowledged."""
        with self._more:
            goal = len(self.acked) + rows
            assert self._more.wait_for(lambda: len(self.acked) >= goal, timeout=60)

    def snapshot(self) -> set[tuple[int, int]]:
        with self._more:
            return set(self.acked)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()


class Reader:
    """Ask the view again and again while others append, seal and merge."""

    def __init__(self, folder: Path, acked: Callable[[], set[tuple[int, int]]]) -> None:
        self.reads = 0
        self.faults: list[str] = []
        self._log, self._acked = Log(folder), acked
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
            except TenureError as error:
                self.faults.append(repr(error))

    def _read(self) -> None:
        before = self._acked()
        seen = rows_of(self._log)
        self.reads += 1
        if len(seen) != len(set(seen)):
            self.faults.append(f"{len(seen) - len(set(seen))} rows were seen twice")
        if missed := before - set(seen):
            self.faults.append(f"{len(missed)} acknowledged rows were not seen")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._log.close()


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(PARTS), *arguments], stdout=subprocess.PIPE, text=True)


def start_keeper(folder: Path) -> subprocess.Popen[str]:
    keeper = start("keeper", str(folder))
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == "up\n"
    return keeper


def rows_of(log: Log) -> list[tuple[int, int]]:
    table = log.query("SELECT run, seq FROM predictions")
    return list(zip(table["run"].to_pylist(), table["seq"].to_pylist(), strict=True))


def kill_randomly(folder: Path, seed: int, rounds: int) -> tuple[set[tuple[int, int]], int]:
    """Play the rounds; return every acknowledged row and the number of kills."""
    rng = random.Random(seed)
    acked: set[tuple[int, int]] = set()
    kills = 0
    writers = [Writer(folder, f"worker-{i}", rng.getrandbits(64)) for i in range(2)]
    keeper = start_keeper(folder)
    reader = Reader(folder, lambda: acked.union(*(w.snapshot() for w in writers)))
    try:
        for _ in range(rounds):
            rng.choice(writers).wait_for(rng.randint(1, 150))
            victims = rng.choice(["writer", "writer", "keeper", "both"])
            if victims != "writer":
                keeper.kill()
                keeper.wait()
                kills += 1
            if victims != "keeper":
                i = rng.randrange(2)
                writers[i].kill()
                acked |= writers[i].acked
                writers[i] = Writer(folder, f"worker-{i}", rng.getrandbits(64))
                kills += 1
            if victims != "writer":
                keeper = start_keeper(folder)
        wait(lambda: reader.reads > rounds, "the reader to have seen what goes on")
    finally:
        keeper.kill()
        keeper.wait()
        for writer in writers:
            writer.kill()
            acked |= writer.acked
        reader.stop()
    assert reader.faults == []
    return acked, kills + 3


def check_nothing_lost_nothing_doubled(folder: Path, acked: set[tuple[int, int]]) -> None:
    keeper = start("keeper", str(folder), "drain")
    try:
        assert keeper.wait(timeout=DRAIN_S) == 0
    finally:
        keeper.kill()
        keeper.wait()
    assert segments(folder / "spool") == [], "a segment was never sealed"
    log = Log(folder)
    seen = rows_of(log)
    assert acked <= set(seen)
    assert len(seen) == len(set(seen))
    kept = log.query("SELECT run, seq FROM payloads ORDER BY run, seq")
    assert kept.num_rows == len({*zip(kept["run"].to_pylist(), kept["seq"].to_pylist(), strict=True)})
    assert set(seen) <= {*zip(kept["run"].to_pylist(), kept["seq"].to_pylist(), strict=True)}
    counted = sqlite3.connect(folder / "seen.db").execute("SELECT run, seq FROM seen").fetchall()
    assert sorted((int(run), seq) for run, seq in counted) == sorted(seen)


def test_random_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    acked, kills = kill_randomly(tmp_path, seed=20_261, rounds=12)
    assert kills >= 12
    assert len(acked) > 1000
    check_nothing_lost_nothing_doubled(tmp_path, acked)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(5))
def test_many_random_kills_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    acked, kills = kill_randomly(tmp_path, seed=seed, rounds=50)
    assert kills >= 50
    check_nothing_lost_nothing_doubled(tmp_path, acked)
