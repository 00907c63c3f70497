"""The keeper: positions, torn and bad bytes, sealing, merging, retention."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from log_rows import OTHERS, PREDICTIONS, T0, frame_of, writer_of

from tenure.clock import ManualClock
from tenure.data import seal
from tenure.data.keeper import Keeper
from tenure.data.records import Kind
from tenure.data.spool import SchemaStore, segments

RUN = 0xABCDEF0123456789


@pytest.fixture
def now() -> ManualClock:
    return ManualClock(T0 + 60_000_000_000)


def seqs_of(reads: list) -> list[int]:
    return [s for read in reads for s in read.frame.columns()["seq"].tolist()]


def segment_file(folder: Path) -> Path:
    (path,) = (folder / "spool").glob("*.seg")
    return path


def sealed(folder: Path, now: ManualClock, *, run: int = RUN, frames: int = 5) -> list[seal.LogFile]:
    writer = writer_of(folder, run, now)
    for seq in range(frames):
        writer.append(frame_of(PREDICTIONS, [seq], run=run))
    writer.close()
    keeper = Keeper(folder, now)
    keeper.poll()
    files = keeper.seal_due(keeper.positions())
    keeper.close()
    return files


def test_poll_hands_out_each_frame_once_with_its_position(tmp_path: Path, now: ManualClock) -> None:
    writer, keeper = writer_of(tmp_path, RUN, now), Keeper(tmp_path, now)
    assert keeper.poll() == []
    segment, _ = writer.append(frame_of(PREDICTIONS, [1, 2], run=RUN))
    (read,) = keeper.poll()
    assert (read.segment, seqs_of([read])) == (segment, [1, 2])
    assert read.end == segment_file(tmp_path).stat().st_size
    assert keeper.poll() == []
    writer.append(frame_of(PREDICTIONS, [3], run=RUN))
    assert seqs_of(keeper.poll()) == [3]


def test_a_restored_keeper_goes_on_where_the_transaction_stood(tmp_path: Path, now: ManualClock) -> None:
    writer, first = writer_of(tmp_path, RUN, now), Keeper(tmp_path, now)
    writer.append(frame_of(PREDICTIONS, [1], run=RUN))
    first.poll()
    committed = first.positions()
    writer.append(frame_of(PREDICTIONS, [2], run=RUN))
    assert seqs_of(first.poll()) == [2]
    second = Keeper(tmp_path, now)
    second.restore(committed)
    assert seqs_of(second.poll()) == [2]
    first.restore(committed)  # the transaction failed: the same rows again
    assert seqs_of(first.poll()) == [2]


def test_a_limit_is_kept_and_nothing_starves(tmp_path: Path, now: ManualClock) -> None:
    keeper = Keeper(tmp_path, now)
    for name, count in (("busy", 4000), ("quiet", 1)):
        writer = writer_of(tmp_path, RUN, now, name=name, segment_bytes=1 << 30)
        for seq in range(count):
            writer.append(frame_of(PREDICTIONS, [seq], run=RUN))
    polls = [keeper.poll(1) for _ in range(4)]
    assert {r.segment.split("-")[0] for p in polls for r in p} == {"busy", "quiet"}
    seen = sum(map(len, polls))
    while more := keeper.poll(1):
        seen += len(more)
    assert seen == 4001


def test_a_frame_larger_than_a_chunk_is_read(tmp_path: Path, now: ManualClock) -> None:
    import msgspec

    from tenure.data import frames

    blob = msgspec.msgpack.encode({"media_type": "x", "sha256": "", "data": b"\x07" * 3_000_000})
    big = frames.encode(
        OTHERS[Kind.PAYLOAD], run=RUN, first_seq=1, t_ns=T0, columns={"seq": [1], "t_ns": [T0]}, var=[blob]
    )
    writer, keeper = writer_of(tmp_path, RUN, now, segment_bytes=1 << 30), Keeper(tmp_path, now)
    for frame in (frame_of(PREDICTIONS, [1], run=RUN), big, frame_of(PREDICTIONS, [2], run=RUN)):
        writer.append(frame)
    assert [r.frame.kind for r in keeper.poll()] == [1, 5, 1]


def test_a_torn_end_waits_while_its_owner_lives(tmp_path: Path, now: ManualClock) -> None:
    writer, keeper = writer_of(tmp_path, RUN, now), Keeper(tmp_path, now)
    frame = frame_of(PREDICTIONS, [1], run=RUN)
    writer.append(frame)
    with segment_file(tmp_path).open("ab") as file:
        file.write(frame[:100])
        file.flush()
        assert len(keeper.poll()) == 1
        assert keeper.poll() == []
        file.write(frame[100:])
    assert len(keeper.poll()) == 1
    assert keeper.torn_bytes == 0


@pytest.mark.parametrize("tail", ["cut header", "cut body", "zeros"])
def test_a_torn_end_of_a_dead_owner_is_ignored_and_the_segment_sealed(
    tmp_path: Path, now: ManualClock, tail: str
) -> None:
    writer, keeper = writer_of(tmp_path, RUN, now), Keeper(tmp_path, now)
    frame = frame_of(PREDICTIONS, [1], run=RUN)
    writer.append(frame)
    writer.close()
    rest = {"cut header": frame[:40], "cut body": frame[:-1], "zeros": bytes(5000)}[tail]
    with segment_file(tmp_path).open("ab") as file:
        file.write(rest)
    assert seqs_of(keeper.poll()) == [1]
    assert keeper.poll() == []
    assert (keeper.torn_bytes, keeper.faults) == (len(rest), 0)
    (file_,) = keeper.seal_due(keeper.positions())
    assert file_.rows == 1
    assert segments(tmp_path / "spool") == []


def test_bad_bytes_are_quarantined_and_later_rows_kept(tmp_path: Path, now: ManualClock) -> None:
    writer, keeper = writer_of(tmp_path, RUN, now), Keeper(tmp_path, now)
    ends = [writer.append(frame_of(PREDICTIONS, [seq], run=RUN))[1] for seq in range(4)]
    path = segment_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[ends[1] + 80] ^= 4
    path.write_bytes(data)
    assert seqs_of(keeper.poll()) == [0]  # a live owner: looked at twice before it is believed
    assert seqs_of(keeper.poll()) == [2, 3]
    (fault,) = keeper.take_faults()
    assert (fault.offset, fault.length) == (ends[1], ends[2] - ends[1])
    assert (tmp_path / fault.path).read_bytes() == bytes(data[ends[1] : ends[2]])
    assert keeper.take_faults() == []
    writer.close()
    keeper.poll()
    (file,) = keeper.seal_due(keeper.positions())
    assert pq.read_table(tmp_path / file.path, partitioning=None)["seq"].to_pylist() == [0, 2, 3]


def test_a_frame_without_its_schema_is_quarantined_not_fatal(tmp_path: Path, now: ManualClock) -> None:
    writer, keeper = writer_of(tmp_path, RUN, now), Keeper(tmp_path, now)
    writer.append(frame_of(PREDICTIONS, [1], run=RUN))
    writer.append(frame_of(OTHERS[Kind.OUTCOME], [1], run=RUN))
    (tmp_path / "schemas" / f"{PREDICTIONS.sha}.json").unlink()
    assert [r.frame.kind for r in keeper.poll()] == [Kind.OUTCOME]
    assert [f.reason for f in keeper.take_faults()] == ["schema_missing"]


def test_only_what_is_finished_and_committed_is_sealed(tmp_path: Path, now: ManualClock) -> None:
    writer, keeper = writer_of(tmp_path, RUN, now), Keeper(tmp_path, now)
    segment, _ = writer.append(frame_of(PREDICTIONS, [1, 2], run=RUN))
    keeper.poll()
    assert keeper.seal_due(keeper.positions()) == []  # open
    writer.close()
    keeper.poll()
    assert keeper.seal_due({}) == []  # not committed
    assert keeper.seal_due({segment: 10}) == []
    (file,) = keeper.seal_due(keeper.positions())
    assert file.path == f"log/kind=prediction/dt=2025-10-09/hour=08/{segment}.phones.parquet"
    assert (file.first_seq, file.last_seq, file.rows, file.run) == (1, 2, 2, str(RUN))
    assert (tmp_path / file.path).stat().st_size == file.bytes
    assert keeper.positions() == {}


def test_a_segment_without_a_frame_leaves_no_file(tmp_path: Path, now: ManualClock) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / f"w-{RUN:016x}-000001.seg").touch()
    keeper = Keeper(tmp_path, now)
    keeper.poll()
    assert keeper.seal_due(keeper.positions()) == []
    assert segments(tmp_path / "spool") == []


def test_every_kind_gets_its_file_and_payloads_lie_apart(tmp_path: Path, now: ManualClock) -> None:
    writer, keeper = writer_of(tmp_path, RUN, now), Keeper(tmp_path, now)
    for schema in (PREDICTIONS, *OTHERS.values()):
        writer.append(frame_of(schema, [3, 4], run=RUN))
    writer.close()
    keeper.poll()
    homes = {f.path.split("/dt=")[0] for f in keeper.seal_due(keeper.positions())}
    records = {f"log/kind={k}" for k in ("prediction", "shadow", "outcome", "decision")}
    assert homes == records | {"payload"}


def test_sealing_twice_gives_the_same_file(tmp_path: Path, now: ManualClock) -> None:
    writer = writer_of(tmp_path, RUN, now)
    for seq in range(3):
        writer.append(frame_of(PREDICTIONS, [seq], run=RUN))
    writer.close()
    path = segment_file(tmp_path)
    data, store = path.read_bytes(), SchemaStore(tmp_path / "schemas")
    first = seal.seal_segment(tmp_path, path.stem, store, now_ns=5)
    path.write_bytes(data)  # killed after the rename, before the unlink
    assert seal.seal_segment(tmp_path, path.stem, store, now_ns=5) == first


def test_files_of_a_lost_commit_are_found_again(tmp_path: Path, now: ManualClock) -> None:
    (file,) = sealed(tmp_path, now)
    keeper = Keeper(tmp_path, now)
    assert keeper.unlisted({file.path}) == []
    assert keeper.unlisted(set()) == [file]


def test_hours_that_are_over_are_merged(tmp_path: Path, now: ManualClock) -> None:
    paths = [f.path for run in (1, 2, 3) for f in sealed(tmp_path, now, run=run)]
    keeper = Keeper(tmp_path, now)
    assert keeper.compact() == seal.Merged((), ())
    now.advance(2 * 3600)
    merged = keeper.compact()
    assert sorted(merged.removed) == sorted(paths)
    (file,) = merged.added
    assert (file.rows, file.run) == (15, "")
    assert not any((tmp_path / p).exists() for p in paths)
    assert keeper.compact() == seal.Merged((), ())
    sealed(tmp_path, now, run=4)  # came late
    (again,) = keeper.compact().added
    assert again.rows == 20


def test_a_merge_that_was_killed_before_it_removed_its_sources_is_finished(
    tmp_path: Path, now: ManualClock
) -> None:
    paths = [tmp_path / f.path for run in (1, 2) for f in sealed(tmp_path, now, run=run)]
    copies = {p: p.read_bytes() for p in paths}
    now.advance(2 * 3600)
    keeper = Keeper(tmp_path, now)
    (file,) = keeper.compact().added
    for path, data in copies.items():
        path.write_bytes(data)
    assert seal.superseded(seal.sealed_files(tmp_path, Kind.PREDICTION)) == set(paths)
    merged = keeper.compact()
    assert (merged.added, len(merged.removed)) == ((), 2)
    assert [p.name for p in seal.sealed_files(tmp_path, Kind.PREDICTION)] == [Path(file.path).name]


class TestRetention:
    def seal_payloads(self, folder: Path, now: ManualClock, runs: range) -> list[seal.LogFile]:
        files = []
        for run in runs:
            writer = writer_of(folder, run, now, name="worker-0.payload")
            writer.append(frame_of(OTHERS[Kind.PAYLOAD], [1, 2, 3], run=run))
            writer.close()
            keeper = Keeper(folder, now)
            keeper.poll()
            files += keeper.seal_due(keeper.positions())
        return files

    def test_old_payloads_go_and_young_ones_stay(self, tmp_path: Path, now: ManualClock) -> None:
        self.seal_payloads(tmp_path, now, range(1, 3))
        keeper = Keeper(tmp_path, now)
        assert keeper.retain(retention_s=3600, quota_bytes=1 << 30) == seal.Merged((), ())
        now.advance(3 * 3600)
        assert len(keeper.retain(retention_s=3600, quota_bytes=1 << 30).removed) == 2
        assert seal.sealed_files(tmp_path, Kind.PAYLOAD) == []

    def test_the_quota_takes_the_oldest_first(self, tmp_path: Path, now: ManualClock) -> None:
        files = self.seal_payloads(tmp_path, now, range(1, 5))
        keep = sum(f.bytes for f in files[2:])
        merged = Keeper(tmp_path, now).retain(retention_s=1e9, quota_bytes=keep)
        assert sorted(merged.removed) == sorted(f.path for f in files[:2])

    def test_protected_rows_survive(self, tmp_path: Path, now: ManualClock) -> None:
        self.seal_payloads(tmp_path, now, range(1, 3))
        now.advance(48 * 3600)
        keeper = Keeper(tmp_path, now)
        merged = keeper.retain(retention_s=3600, quota_bytes=0, protected={(2, 3)})
        (kept,) = merged.added
        assert (kept.rows, kept.first_seq, len(merged.removed)) == (1, 3, 1)
        assert keeper.retain(retention_s=3600, quota_bytes=0, protected={(2, 3)}) == seal.Merged((), ())


def test_stale_new_files_are_swept_and_fresh_ones_left(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    path = tmp_path / "spool" / f"w-{RUN:016x}-000001.new"
    path.touch()
    made = path.stat().st_mtime_ns
    assert Keeper(tmp_path, ManualClock(made + 60_000_000_000)).sweep() == 0
    assert Keeper(tmp_path, ManualClock(made + 7_200_000_000_000)).sweep() == 1
