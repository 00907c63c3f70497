"""The journal: in the log before it is said, in one frame per tick, in order; a full disk says so."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenure.clock import ManualClock
from tenure.data.frames import Frame
from tenure.data.records import Kind
from tenure.data.spool import SchemaStore, SegmentName, segments
from tenure.data.spool_index import SegmentReader
from tenure.deploy.serving.predict.journal import Journal
from tenure.settings import Settings

KINDS = frozenset(int(k) for k in Kind)


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock) -> Iterator[Journal]:
    made = Journal(tmp_path, "worker-0", settings=Settings(), clock=clock)
    yield made
    made.close()


def frames_of(folder: Path) -> list[Frame]:
    schemas = SchemaStore(folder / "schemas")
    found = []
    for name in segments(folder / "spool"):
        parts = SegmentName.parse(name)
        assert parts is not None
        reader = SegmentReader(folder / "spool" / f"{name}.seg", parts.run, schemas)
        found += [located.frame for located in reader.advance(KINDS)]
    return found


def outcome(journal: Journal, seq: int, endpoint: str = "e") -> asyncio.Future[None]:
    encoder = journal.plain_encoder(Kind.OUTCOME, endpoint)
    return journal.write(encoder, (journal.run, seq, 1), {"kind": "truth", "value": seq, "source": None})


def test_rows_of_one_tick_are_one_frame_per_endpoint_in_the_order_they_came(
    journal: Journal, tmp_path: Path
) -> None:
    async def work() -> None:
        first = [outcome(journal, seq, "ef"[seq % 2]) for seq in range(6)]
        assert not frames_of(tmp_path)
        await asyncio.gather(*first)
        await outcome(journal, 6)

    asyncio.run(work())
    got = [(f.schema.endpoint, f.columns()["seq"].tolist()) for f in frames_of(tmp_path)]
    assert got == [("e", [0, 2, 4]), ("f", [1, 3, 5]), ("e", [6])]
    assert frames_of(tmp_path)[0].var(1) == {"kind": "truth", "value": 2}


def test_a_row_is_in_the_log_when_its_future_resolves(journal: Journal, tmp_path: Path) -> None:
    async def work() -> None:
        for seq in range(3):
            await outcome(journal, seq)
            assert len(frames_of(tmp_path)) == seq + 1

    asyncio.run(work())


def test_one_unpackable_row_fails_its_frame_and_hangs_nobody(journal: Journal, tmp_path: Path) -> None:
    async def work() -> list[object]:
        encoder = journal.plain_encoder(Kind.OUTCOME, "e")
        bad = journal.write(encoder, (2**70, 1, 1), {})
        good = outcome(journal, 1, "f")
        return list(await asyncio.gather(bad, good, return_exceptions=True))

    bad, good = asyncio.run(work())
    assert isinstance(bad, Exception)
    assert good is None
    assert [f.schema.endpoint for f in frames_of(tmp_path)] == ["f"]


def test_a_caller_that_went_away_is_logged_all_the_same(journal: Journal, tmp_path: Path) -> None:
    async def work() -> None:
        outcome(journal, 1).cancel()
        await outcome(journal, 2)

    asyncio.run(work())
    assert [f.columns()["seq"].tolist() for f in frames_of(tmp_path)] == [[1, 2]]


def test_what_waits_is_written_at_close(tmp_path: Path, clock: ManualClock) -> None:
    journal = Journal(tmp_path, "worker-0", settings=Settings(), clock=clock)

    async def work() -> None:
        outcome(journal, 1)
        journal.close()

    asyncio.run(work())
    assert len(frames_of(tmp_path)) == 1


def test_a_new_version_or_stage_makes_a_new_schema(journal: Journal, tmp_path: Path) -> None:
    def encoder(*versions: str) -> object:
        return journal.prediction_encoder("e", stages=("s",), metrics=("m",), versions=versions)

    assert encoder("a@1") is encoder("a@1")
    assert encoder("a@1") is not encoder("a@1", "b@1")
    assert len(list((tmp_path / "schemas").glob("*.json"))) == 2


def test_power_durability_resolves_after_the_flush(tmp_path: Path, clock: ManualClock) -> None:
    journal = Journal(tmp_path, "worker-0", settings=Settings(), clock=clock, durability="power")
    flushed: list[int] = []
    sync = journal._sync

    def counted() -> None:
        sync()
        flushed.append(1)

    journal._sync = counted  # type: ignore[method-assign]

    async def work() -> None:
        await outcome(journal, 1)
        assert flushed == [1]

    asyncio.run(work())
    journal.close()
    assert len(frames_of(tmp_path)) == 1


FULL = """
import asyncio, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from serving_world import NUMBER, World, ask
import msgspec
from tenure.errors import BusyError
from tenure.scope.project import LogSpec
from tenure.types import Level

async def work(on_full):
    spec = msgspec.structs.replace(NUMBER, log=LogSpec(on_full=on_full))
    world = World(Path(sys.argv[1]), spec=spec)
    world.at(Level.FULL)
    core = await world.ready(world.core())
    said = await core.predict(ask())
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    for number in range(6):
        try:
            answer = await core.predict(ask(number / 3, key=f"k{number}" if number > 3 else None))
            print(answer.status)
        except BusyError as error:
            print(error.status, error.code, error.at, error.retry_after)
    if on_full == "refuse":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, -1))
        try:
            await core.feedback("", said.id, "truth", "big")
        except BusyError as error:
            print("feedback", error.code)
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        print((await core.predict(ask(1.5, key="k4"))).status)
    print(world.page.slot(0).get("unlogged"))

asyncio.run(work(sys.argv[3]))
"""


def run_full(folder: Path, on_full: str) -> list[str]:
    command = [sys.executable, "-c", FULL, str(folder), str(Path(__file__).parent), on_full]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_on_a_full_disk_nothing_is_answered_and_callers_are_told_to_come_back(tmp_path: Path) -> None:
    *said, feedback, again, unlogged = run_full(tmp_path, "refuse")
    assert said[-1] == "503 log_full log 5.0"
    assert set(said) <= {"decided", "503 log_full log 5.0"}
    assert feedback == "feedback log_full"
    assert (again, unlogged) == ("decided", "0"), "a refused key is free again once there is room"


def test_answer_unlogged_goes_on_and_counts(tmp_path: Path) -> None:
    *said, unlogged = run_full(tmp_path, "answer_unlogged")
    assert set(said) == {"decided"}
    assert 0 < int(unlogged) < 7


def test_nan_is_a_value_of_columns(journal: Journal, tmp_path: Path) -> None:
    async def work() -> None:
        encoder = journal.plain_encoder(Kind.SHADOW, "e", ("a@1",))
        await journal.write(encoder, (1, 1, 1, 0, 0, 5, math.nan, math.nan, 0, 0), {})

    asyncio.run(work())
    (frame,) = frames_of(tmp_path)
    assert math.isnan(frame.columns()["confidence"][0])
