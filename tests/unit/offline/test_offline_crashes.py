"""Kill a run before and after every write, flush and rename, go on, and count.

The kill is an exception that nothing catches: every call that could change the disk is one moment at which it may
come, the half of a write included. `tests/journeys/test_offline_kills.py` kills real processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from offline_world import World, customers, parquet, parts, quarantined

from tenure.cli.scoring import Done
from tenure.clock import ManualClock
from tenure.data.keeper import Keeper
from tenure.data.spool import segments
from tenure.deploy.offline import run
from tenure.deploy.offline.folder_sink import FolderSink

CALLS = ("write", "fsync", "fdatasync", "replace", "rename", "unlink")
ROWS, CHUNK, BATCH = 40, 16, 6


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(moment: int, patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Raise `Killed` at the given moment; yields a list whose only entry counts the moments."""
    seen = [0]

    def guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            _pass(seen, moment)
            if name == "write" and seen[0] + 1 == moment:
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            _pass(seen, moment)
            done = real(*arguments, **named)
            _pass(seen, moment)
            return done

        return call

    with patch.context() as context:
        for name in CALLS:
            context.setattr(os, name, guarded(name, getattr(os, name)))
        yield seen


def _pass(seen: list[int], moment: int) -> None:
    seen[0] += 1
    if seen[0] == moment:
        raise Killed


def rows() -> list[dict[str, Any]]:
    made = customers(ROWS)
    for i in (2, 15, 16, 37):
        made[i]["age"] = 13 if i % 2 else 130
    return made


def check(world: World, out: Path, done: Done) -> None:
    """Every row once in the output, once in the log, and the same in both."""
    assert (done.counts.rows, done.counts.quarantined) == (ROWS, 4)
    found, failed = parts(out), quarantined(out)
    assert sorted(r["row"] for r in [*found, *failed]) == list(range(ROWS))
    logged = {r["seq"] - 1: r for r in world.logged("seq, run, confidence, status, reason")}
    assert len(world.logged("seq")) == ROWS
    assert done.manifest is not None
    assert {r["run"] for r in logged.values()} == {done.manifest.number}
    for row in found:
        assert row["confidence"] == pytest.approx(logged[row["row"]]["confidence"], rel=1e-6)
    for row in failed:
        assert logged[row["row"]]["status"] != "ok"
        assert logged[row["row"]]["reason"].endswith(row["reason"])


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_no_moment_loses_or_doubles_a_row(
    stride: int, offline_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH", BATCH)
    source = parquet(tmp_path / "day.parquet", rows())
    moment, kills, scored_twice = 1, 0, 0
    while True:
        root = tmp_path / f"m{moment}"
        world = World(offline_template, root)
        with killed_at(moment, monkeypatch) as seen:
            try:
                done = world.score(source, root / "out", chunk=CHUNK)
            except Killed:
                kills += 1
        world.close()
        if seen[0] < moment:
            break  # it ran to its end: every moment was tried
        world = World(None, root)
        before = len(world.logged("seq"))
        # Another answer than before the kill: what was logged must not be answered anew.
        monkeypatch.setenv("OFFLINE_MOOD", "0.0002")
        done = world.score(source, root / "out", chunk=CHUNK)
        monkeypatch.delenv("OFFLINE_MOOD")
        check(world, root / "out", done)
        scored_twice += before % CHUNK != 0
        assert world.score(source, root / "out", chunk=CHUNK).state == "already"
        assert not [p for p in (root / "out").rglob("*") if p.name.endswith(".tmp")]
        world.close()
        moment += stride
    assert kills * stride > 100
    assert scored_twice > 5, "too few kills fell between the log and the commit"


def test_the_keeper_hands_on_each_row_once_after_kills(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH", BATCH)
    source, keeper = parquet(tmp_path / "day.parquet", rows()), Keeper(world.folder, ManualClock())
    seqs: list[int] = []
    for moment in (60, 130, 150, 10_000):
        with killed_at(moment, monkeypatch), suppress(Killed):
            world.score(source, tmp_path / "out", chunk=CHUNK)
        seqs += [seq for read in keeper.poll() for seq in read.frame.seqs()]
    assert sorted(seqs) == list(range(1, ROWS + 1))
    assert keeper.faults == 0
    keeper.close()


def test_rows_that_were_sealed_meanwhile_are_still_known(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller seals what the killed process left, before anybody goes on."""
    source = parquet(tmp_path / "day.parquet", rows())
    for kill in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(FolderSink, "commit", _killed)
            with pytest.raises(Killed):
                world.score(source, tmp_path / "out", chunk=CHUNK)
        assert len(world.logged("seq")) == CHUNK, f"kill {kill}: the chunk was logged again"
        keeper = Keeper(world.folder, world.clock)
        while keeper.poll():
            pass
        assert len(keeper.seal_due(keeper.positions())) == 1 - kill
        keeper.close()
        assert not segments(world.folder / "spool")
    monkeypatch.setenv("OFFLINE_MOOD", "0.0002")
    check(world, tmp_path / "out", world.score(source, tmp_path / "out", chunk=CHUNK))


def _killed(*_: object) -> None:
    raise Killed
