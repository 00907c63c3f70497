"""The spool: names, locks, rotation, full disks, schema files."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from log_rows import OTHERS, PREDICTIONS, frame_of, writer_of

from tenure.clock import ManualClock
from tenure.data import frames
from tenure.data.records import Kind, plain_schema
from tenure.data.spool import SchemaStore, SegmentName, SpoolWriter, is_finished, segments
from tenure.errors import StoreError

RUN = 0x1122334455667788


def is_locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return not is_finished(fd)
    finally:
        os.close(fd)


def test_names_say_who_wrote() -> None:
    name = SegmentName.parse("worker-0.payload-1122334455667788-000012")
    assert name == ("worker-0.payload", RUN, 12)
    assert str(name) == "worker-0.payload-1122334455667788-000012"
    assert SegmentName.parse("notes") is None


def test_append_says_where_the_frame_lies(tmp_path: Path, clock: ManualClock) -> None:
    writer = writer_of(tmp_path, RUN, clock)
    first, second = frame_of(PREDICTIONS, [1], run=RUN), frame_of(PREDICTIONS, [2, 3], run=RUN)
    assert writer.append(first) == (f"worker-0-{RUN:016x}-000001", 0)
    assert writer.append(second) == (f"worker-0-{RUN:016x}-000001", len(first))
    path = tmp_path / "spool" / f"worker-0-{RUN:016x}-000001.seg"
    assert path.read_bytes() == first + second


def test_nothing_is_opened_before_the_first_frame(tmp_path: Path, clock: ManualClock) -> None:
    writer_of(tmp_path, RUN, clock).close()
    assert segments(tmp_path / "spool") == []


def test_an_open_segment_is_locked_and_a_closed_one_is_not(tmp_path: Path, clock: ManualClock) -> None:
    writer = writer_of(tmp_path, RUN, clock)
    segment, _ = writer.append(frame_of(PREDICTIONS, [1], run=RUN))
    path = tmp_path / "spool" / f"{segment}.seg"
    assert is_locked(path)
    writer.close()
    assert not is_locked(path)
    assert not list((tmp_path / "spool").glob("*.new"))


def test_the_lock_is_not_inherited_by_a_spawned_child(tmp_path: Path, clock: ManualClock) -> None:
    writer = writer_of(tmp_path, RUN, clock)
    segment, _ = writer.append(frame_of(PREDICTIONS, [1], run=RUN))
    child = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()  # exec closes inherited files only a moment after spawn returns
        writer.close()
        assert not is_locked(tmp_path / "spool" / f"{segment}.seg")
    finally:
        child.communicate(b"\n", timeout=60)


def test_a_segment_ends_at_its_size_and_at_its_age(tmp_path: Path, clock: ManualClock) -> None:
    frame = frame_of(PREDICTIONS, [1], run=RUN)
    writer = writer_of(tmp_path, RUN, clock, segment_bytes=2 * len(frame))
    names = [writer.append(frame)[0][-6:] for _ in range(3)]
    clock.advance(61)
    names.append(writer.append(frame)[0][-6:])
    assert names == ["000001", "000001", "000002", "000003"]


def test_tick_finishes_an_idle_segment(tmp_path: Path, clock: ManualClock) -> None:
    writer = writer_of(tmp_path, RUN, clock)
    segment, _ = writer.append(frame_of(PREDICTIONS, [1], run=RUN))
    path = tmp_path / "spool" / f"{segment}.seg"
    writer.tick()
    assert is_locked(path)
    clock.advance(61)
    writer.tick()
    assert not is_locked(path)


def test_a_frame_of_another_run_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    writer = writer_of(tmp_path, RUN, clock)
    with pytest.raises(StoreError, match="not of run"):
        writer.append(frame_of(PREDICTIONS, [1], run=RUN + 1))


def test_power_durability_syncs_from_any_moment(tmp_path: Path, clock: ManualClock) -> None:
    writer = SpoolWriter(tmp_path, "w", RUN, segment_bytes=1 << 20, segment_s=60, durability="power", clock=clock)
    writer.sync()
    writer.append(frame_of(PREDICTIONS, [1], run=RUN))
    writer.sync()
    writer.close()
    writer.sync()
    assert len(segments(tmp_path)) == 1


FULL = """
import os, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from log_rows import PREDICTIONS, frame_of, writer_of
from tenure.clock import ManualClock
from tenure.errors import StoreError
folder, run = Path(sys.argv[1]), 5
writer = writer_of(folder, run, ManualClock())
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
big = [list(range(i, i + 20)) for i in range(0, 20_000, 20)]
done, refused = 0, []
for seqs in big:
    try:
        writer.append(frame_of(PREDICTIONS, seqs, run=run))
        done += 1
    except StoreError as error:
        refused.append(error.code)
        break
# one row still fits where twenty did not, or is refused as a whole
for _ in range(50):
    try:
        writer.append(frame_of(PREDICTIONS, [999_999], run=run)); done += 1
    except StoreError as error:
        refused.append(error.code)
        break
print(done, ",".join(refused))
"""


def fill(folder: Path, *limit: str) -> tuple[int, set[str], list[int]]:
    """Append in a process until the space is used up; return (frames, codes, rows per frame on disk)."""
    out = subprocess.run(
        [sys.executable, "-c", FULL, str(folder), str(Path(__file__).parent), *limit],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    data = b"".join(p.read_bytes() for p in sorted((folder / "spool").glob("*.seg")))
    found = list(frames.scan(data))
    assert sum(f.end - f.offset for f in found) == len(data), "a part of a frame was left behind"
    return int(out[0]), set(out[1].split(",")), [f.rows for f in found]


def test_a_file_limit_leaves_no_part_of_a_frame(tmp_path: Path) -> None:
    done, codes, rows = fill(tmp_path, "50000")
    assert codes == {"log_full"}
    assert len(rows) == done
    assert rows.count(20) > 10


def test_a_full_disk_leaves_no_part_of_a_frame(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root; the file limit test covers the same path")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        done, codes, rows = fill(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert codes == {"log_full"}
    assert len(rows) == done


def test_a_short_write_is_taken_back(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault injection at the system call: the kernel wrote half of the frame."""
    writer = writer_of(tmp_path, RUN, clock)
    frame, real = frame_of(PREDICTIONS, [1], run=RUN), os.write
    segment, _ = writer.append(frame)
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(StoreError) as caught:
        writer.append(frame)
    monkeypatch.undo()
    assert caught.value.code == "log_full"
    assert writer.append(frame) == (segment, len(frame))
    assert (tmp_path / "spool" / f"{segment}.seg").read_bytes() == frame * 2


def test_a_segment_that_cannot_be_repaired_is_given_up(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(tmp_path, RUN, clock)
    frame, real = frame_of(PREDICTIONS, [1], run=RUN), os.write
    first, _ = writer.append(frame)
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:70]))
    monkeypatch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
    with pytest.raises(StoreError):
        writer.append(frame)
    monkeypatch.undo()
    second, offset = writer.append(frame)
    assert (second != first, offset) == (True, 0)


class TestSchemaStore:
    def test_put_then_get_from_another_process(self, tmp_path: Path) -> None:
        key = SchemaStore(tmp_path).put(PREDICTIONS)
        assert key == PREDICTIONS.id
        assert SchemaStore(tmp_path).get(key) == PREDICTIONS
        assert (tmp_path / f"{PREDICTIONS.sha}.json").read_bytes() == PREDICTIONS.canonical()
        assert [p.name for p in tmp_path.iterdir()] == [f"{PREDICTIONS.sha}.json"]

    def test_an_unknown_id_is_a_store_error(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError) as caught:
            SchemaStore(tmp_path).get(1)
        assert caught.value.code == "schema_missing"

    def test_a_changed_file_is_not_believed(self, tmp_path: Path) -> None:
        key = SchemaStore(tmp_path).put(PREDICTIONS)
        path = tmp_path / f"{PREDICTIONS.sha}.json"
        path.write_bytes(path.read_bytes().replace(b"phones", b"stones"))
        with pytest.raises(StoreError):
            SchemaStore(tmp_path).get(key)

    def test_two_schemas_never_share_an_id(self, tmp_path: Path) -> None:
        schema = plain_schema(Kind.SHADOW, "phones")
        (tmp_path / f"{schema.sha[:8]}{'0' * 56}.json").write_text("{}")
        with pytest.raises(StoreError) as caught:
            SchemaStore(tmp_path).put(schema)
        assert caught.value.code == "schema_clash"

    def test_schema_ids_differ_by_kind(self) -> None:
        assert len({s.id for s in OTHERS.values()}) == len(OTHERS)


def test_a_reader_that_looks_does_not_block_the_next_reader(tmp_path: Path) -> None:
    path = tmp_path / "x.seg"
    path.touch()
    one, two = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    fcntl.flock(one, fcntl.LOCK_SH)
    assert is_finished(two)
    os.close(one)
    os.close(two)
