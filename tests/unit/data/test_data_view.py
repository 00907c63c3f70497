"""The view: one log, live and sealed; look-ups by (run, seq); what SQL may not do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from log_rows import OTHERS, PREDICTIONS, T0, frame_of, var_of, writer_of

from tenure.clock import ManualClock
from tenure.data import rows
from tenure.data.frames import scan
from tenure.data.keeper import Keeper
from tenure.data.parquet import Placed, empty, plain_row, table
from tenure.data.records import Kind, prediction_schema
from tenure.data.spool import SchemaStore, SpoolWriter
from tenure.data.spool_index import DecisionTail, SpoolIndex
from tenure.data.view import VIEWS, Log, render
from tenure.errors import CaseError, StoreError

RUN, CONTROLLER = 0xAAAA_BBBB_CCCC_DDDD, 0x1111_2222_3333_4444


@pytest.fixture
def now() -> ManualClock:
    return ManualClock(T0)


def seal_all(folder: Path, now: ManualClock) -> None:
    keeper = Keeper(folder, now)
    keeper.poll()
    keeper.seal_due(keeper.positions())
    keeper.close()


def write_story(folder: Path, now: ManualClock) -> tuple[SpoolWriter, SpoolWriter]:
    """Six predictions in odd frames, their payloads, two decisions, three outcomes."""
    worker, controller = writer_of(folder, RUN, now), writer_of(folder, CONTROLLER, now, name="controller")
    for seqs in ([2], [0, 5, 1], [3, 4]):
        worker.append(frame_of(PREDICTIONS, seqs, run=RUN))
    worker.append(frame_of(OTHERS[Kind.PAYLOAD], [4, 5], run=RUN))
    worker.append(frame_of(OTHERS[Kind.OUTCOME], [5], run=RUN))
    worker.append(frame_of(OTHERS[Kind.OUTCOME], [5, 5], run=RUN))
    controller.append(frame_of(OTHERS[Kind.DECISION], [4, 5], run=CONTROLLER, about=RUN))
    return worker, controller


@pytest.mark.parametrize("state", ["live", "sealed", "half"])
def test_every_row_is_seen_once_wherever_it_lies(tmp_path: Path, now: ManualClock, state: str) -> None:
    worker, controller = write_story(tmp_path, now)
    if state != "live":
        worker.close()
    if state == "sealed":
        controller.close()
    seal_all(tmp_path, now)
    log = Log(tmp_path)
    got = log.query("SELECT seq FROM predictions ORDER BY seq")["seq"].to_pylist()
    assert got == [0, 1, 2, 3, 4, 5]
    counts = {v: log.query(f"SELECT count(*) AS n FROM {v}")["n"][0].as_py() for v in VIEWS}
    assert counts == {"predictions": 6, "shadows": 0, "outcomes": 3, "decisions": 2, "payloads": 2}
    joined = log.query("SELECT p.seq, d.reader FROM predictions p JOIN decisions d USING (run, seq) ORDER BY 1")
    assert joined.to_pylist() == [{"seq": 4, "reader": "ann"}, {"seq": 5, "reader": "ann"}]


def test_an_empty_folder_has_empty_views(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for view in VIEWS:
        assert len(log.query(f"SELECT * FROM {view}")) == 0
    assert log.query("SELECT version, value, t FROM predictions").num_rows == 0
    assert log.find(1, 1) is None
    assert log.payload(1, 1) is None


def test_a_segment_that_is_in_both_places_counts_once(tmp_path: Path, now: ManualClock) -> None:
    worker, _ = write_story(tmp_path, now)
    worker.close()
    path = next((tmp_path / "spool").glob("worker*.seg"))
    data = path.read_bytes()
    seal_all(tmp_path, now)
    path.write_bytes(data)  # between rename and unlink
    assert len(Log(tmp_path).query("SELECT * FROM predictions")) == 6
    assert len(Log(tmp_path).query("SELECT * FROM outcomes")) == 3


def test_a_segment_that_grew_after_the_spool_was_read_is_not_missed(tmp_path: Path, now: ManualClock) -> None:
    """What a reader sees when a segment was half written at its spool read and sealed at its listing."""
    worker, _ = write_story(tmp_path, now)
    log = Log(tmp_path)
    live = log._read_spool([Kind.PREDICTION])
    worker.append(frame_of(PREDICTIONS, [6, 7], run=RUN))
    worker.close()
    seal_all(tmp_path, now)
    log._read_spool = lambda _: live  # type: ignore[method-assign]
    assert sorted(log.query("SELECT seq FROM predictions")["seq"].to_pylist()) == list(range(8))


@pytest.mark.parametrize("moment", ["before the spool is read", "after the spool was read"])
def test_a_segment_that_is_sealed_during_the_query_is_seen_once(
    tmp_path: Path, now: ManualClock, moment: str
) -> None:
    for writer in write_story(tmp_path, now):
        writer.close()
    log = Log(tmp_path)
    read = log._read_spool

    def sealing_read(kinds: list[Kind]) -> object:
        if moment.startswith("before"):
            seal_all(tmp_path, now)
            return read(kinds)
        live = read(kinds)
        seal_all(tmp_path, now)
        return live

    log._read_spool = sealing_read  # type: ignore[method-assign, assignment]
    assert sorted(log.query("SELECT seq FROM predictions")["seq"].to_pylist()) == list(range(6))


def test_files_that_are_merged_during_the_query_are_listed_again(
    tmp_path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in (1, 2):
        writer = writer_of(tmp_path, run, now)
        writer.append(frame_of(PREDICTIONS, [1, 2], run=run))
        writer.close()
    seal_all(tmp_path, now)
    now.advance(3 * 3600)
    log, lists = Log(tmp_path), []
    lock_down = log._lock_down

    def merging(connection: object) -> None:
        lists.append(1)
        Keeper(tmp_path, now).compact()
        lock_down(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "_lock_down", merging)
    assert len(log.query("SELECT * FROM predictions")) == 4
    assert len(lists) == 2


def test_a_decision_that_a_restarted_controller_wrote_again_counts_once(tmp_path: Path, now: ManualClock) -> None:
    write_story(tmp_path, now)
    again = writer_of(tmp_path, 77, now, name="controller")
    again.append(frame_of(OTHERS[Kind.DECISION], [4], run=77, about=RUN))
    assert len(Log(tmp_path).query("SELECT * FROM decisions")) == 2


def test_endpoints_with_other_columns_stand_side_by_side(tmp_path: Path, now: ManualClock) -> None:
    other = prediction_schema("lenses", stages=("read",), metrics=("glare",), versions=("z@1",))
    SchemaStore(tmp_path / "schemas").put(other)
    worker = writer_of(tmp_path, RUN, now)
    worker.append(frame_of(PREDICTIONS, [0], run=RUN))
    worker.append(frame_of(other, [3], run=RUN))
    sql = "SELECT endpoint, version, x_brightness, x_glare FROM predictions ORDER BY endpoint"
    expected = [
        {"endpoint": "lenses", "version": "z@1", "x_brightness": None, "x_glare": 0.75},
        {"endpoint": "phones", "version": "m@1", "x_brightness": 0.0, "x_glare": None},
    ]
    assert Log(tmp_path).query(sql).to_pylist() == expected
    worker.close()
    seal_all(tmp_path, now)
    assert Log(tmp_path).query(sql).to_pylist() == expected


@pytest.mark.parametrize("kind", [k for k in Kind if k != Kind.HEARTBEAT])
def test_a_row_and_a_table_say_the_same(kind: Kind) -> None:
    schema = PREDICTIONS if kind == Kind.PREDICTION else OTHERS[kind]
    data = frame_of(schema, list(range(10)), run=RUN) + frame_of(schema, [11], run=RUN)
    parts = list(scan(data, schemas=lambda _: schema))
    whole = table([Placed("s", f.offset, f) for f in parts])
    single = [rows.row(f, i) for f in parts for i in range(f.rows)]
    assert [plain_row(r, lambda _: schema) for r in whole.to_pylist()] == single
    assert empty(kind).schema.names == [n for n in whole.schema.names if not n.startswith(("x_", "stage_us_"))]
    for field in empty(kind).schema:
        assert whole.schema.field(field.name).type == field.type


@pytest.mark.parametrize("state", ["live", "sealed", "merged"])
def test_find_gives_the_row_its_decision_and_its_outcomes(tmp_path: Path, now: ManualClock, state: str) -> None:
    for writer in write_story(tmp_path, now):
        writer.close()
    if state != "live":
        seal_all(tmp_path, now)
    if state == "merged":
        extra = writer_of(tmp_path, 99, now)
        extra.append(frame_of(PREDICTIONS, [5], run=99))
        extra.close()
        seal_all(tmp_path, now)
        now.advance(3 * 3600)
        assert Keeper(tmp_path, now).compact().added
    log = Log(tmp_path)
    found = log.find(RUN, 5)
    assert found is not None
    assert (found["run"], found["seq"], found["value"], found["unit"]) == (RUN, 5, "good", "line-1")
    assert found["regions"] == var_of(Kind.PREDICTION, 5)["regions"]
    assert found["decision"]["reader"] == "ann"
    assert [o["kind"] for o in found["outcomes"]] == ["truth"] * 3
    assert log.find(RUN, 2)["decision"] is None  # type: ignore[index]
    assert log.find(RUN, 6) is None
    assert log.find(RUN + 1, 5) is None
    assert log.payload(RUN, 5) == ("image/png", bytes([5]) * 50)
    assert log.payload(RUN, 1) is None


def test_find_is_the_same_live_and_sealed(tmp_path: Path, now: ManualClock) -> None:
    for writer in write_story(tmp_path, now):
        writer.close()
    log = Log(tmp_path)
    before = [log.find(RUN, s) for s in range(6)]
    seal_all(tmp_path, now)
    assert [log.find(RUN, s) for s in range(6)] == before


def test_the_index_takes_in_only_what_is_new_and_forgets_what_is_sealed(tmp_path: Path, now: ManualClock) -> None:
    worker, _ = write_story(tmp_path, now)
    index = SpoolIndex(tmp_path)
    assert index.find(RUN, 4)["decision"]["by"] == "nobody"  # type: ignore[index]
    worker.append(frame_of(PREDICTIONS, [9], run=RUN))
    assert index.find(RUN, 9)["seq"] == 9  # type: ignore[index]
    worker.close()
    seal_all(tmp_path, now)
    assert index.find(RUN, 9) is None
    assert index.payload(RUN, 5) is None
    index.close()


def test_workers_look_up_without_duckdb_or_pyarrow() -> None:
    code = (
        "import sys, tenure.data.spool_index, tenure.data.spool; "
        "print([m for m in ('duckdb', 'pyarrow', 'scipy', 'sqlalchemy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


class TestDecisionTail:
    def test_it_returns_each_decision_once_and_nothing_else(self, tmp_path: Path, now: ManualClock) -> None:
        _, controller = write_story(tmp_path, now)
        tail = DecisionTail(tmp_path)
        assert [f.columns()["seq"].tolist() for f in tail.poll()] == [[4, 5]]
        assert tail.poll() == []
        controller.append(frame_of(OTHERS[Kind.DECISION], [1], run=CONTROLLER, about=RUN))
        (frame,) = tail.poll()
        assert frame.var(0)["reader"] == "ann"
        assert frame.columns()["run"].tolist() == [RUN]

    def test_what_was_written_and_sealed_between_two_polls_is_not_missed(
        self, tmp_path: Path, now: ManualClock
    ) -> None:
        _, controller = write_story(tmp_path, now)
        tail = DecisionTail(tmp_path)
        tail.poll()
        controller.append(frame_of(OTHERS[Kind.DECISION], [1], run=CONTROLLER, about=RUN))
        controller.close()
        seal_all(tmp_path, now)
        assert len(tail.poll()) == 1
        assert tail.poll() == []

    def test_it_steps_over_large_frames_and_bad_bytes(self, tmp_path: Path, now: ManualClock) -> None:
        worker, controller = write_story(tmp_path, now)
        for _ in range(600):
            worker.append(frame_of(PREDICTIONS, list(range(10)), run=RUN))
        _, bad = controller.append(frame_of(OTHERS[Kind.DECISION], [1], run=CONTROLLER, about=RUN))
        controller.append(frame_of(OTHERS[Kind.DECISION], [2], run=CONTROLLER, about=RUN))
        path = next((tmp_path / "spool").glob("controller*.seg"))
        data = bytearray(path.read_bytes())
        data[bad + 3] ^= 1
        path.write_bytes(data)
        assert [f.columns()["seq"].tolist() for f in DecisionTail(tmp_path).poll()] == [[4, 5], [2]]


class TestQuery:
    @pytest.mark.parametrize(
        "sql",
        [
            "CREATE TABLE x (a INT)",
            "SELECT 1; SELECT 2",
            "COPY (SELECT 1) TO '/tmp/never'",
            "ATTACH '/tmp/never.db'",
            "INSTALL httpfs",
            "SELEC 1",
            "SELECT nothing FROM predictions",
            "",
        ],
    )
    def test_what_is_not_one_select_is_refused(self, tmp_path: Path, sql: str) -> None:
        with pytest.raises(CaseError) as caught:
            Log(tmp_path).query(sql)
        assert (caught.value.code, caught.value.status) == ("query_invalid", 400)

    def test_it_reads_no_other_file(self, tmp_path: Path, now: ManualClock) -> None:
        for writer in write_story(tmp_path, now):
            writer.close()
        seal_all(tmp_path, now)
        secret = tmp_path / "secret.csv"
        secret.write_text("a\n1\n")
        with pytest.raises(CaseError):
            Log(tmp_path).query(f"SELECT * FROM read_csv('{secret}')")
        with pytest.raises(CaseError):
            Log(tmp_path).query("SELECT * FROM read_text('/etc/hostname')")

    def test_a_long_query_is_stopped(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="longer than") as caught:
            Log(tmp_path, timeout_s=0.2).query("SELECT count(*) FROM range(10000000) a, range(10000000) b")
        assert caught.value.code == "query_timeout"

    def test_limit_and_parameters(self, tmp_path: Path, now: ManualClock) -> None:
        write_story(tmp_path, now)
        log = Log(tmp_path)
        sql = "SELECT seq FROM predictions WHERE seq > ? ORDER BY seq DESC"
        assert log.query(sql, limit=2, parameters=[1])["seq"].to_pylist() == [5, 4]

    def test_a_query_can_be_explained(self, tmp_path: Path) -> None:
        assert Log(tmp_path).query("EXPLAIN SELECT count(*) FROM predictions").num_rows > 0

    def test_an_error_that_shows_only_while_running_is_the_query_s(self, tmp_path: Path) -> None:
        with pytest.raises(CaseError):
            Log(tmp_path).query("SELECT CAST(x AS INT) FROM (VALUES ('1'), ('one')) v(x)")

    def test_times_flags_and_words_are_nice(self, tmp_path: Path, now: ManualClock) -> None:
        write_story(tmp_path, now)
        sql = "SELECT t, level, role, audited, deadline, confidence, label FROM predictions WHERE seq = 4"
        (got,) = Log(tmp_path).query(sql).to_pylist()
        assert str(got["t"]) == "2025-10-09 08:53:20.004000"
        assert (got["level"], got["role"], got["audited"]) == ("full", "stable", False)
        assert (str(got["deadline"]), got["confidence"], got["label"]) == ("2025-10-09 08:53:50", None, "true")


def test_render() -> None:
    import pyarrow as pa

    data = pa.table({"label": ["good", None], "n": [12, 3], "p": [0.25, None]})
    assert render(data) == "label   n     p\n-----  --  ----\ngood   12  0.25\n        3\n(2 rows)\n"
    assert render(data, "csv") == "label,n,p\ngood,12,0.25\n,3,\n"
    assert json.loads(render(data, "json"))[0] == {"label": "good", "n": 12, "p": 0.25}
