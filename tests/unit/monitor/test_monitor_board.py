"""The monitor from rows of the log to alarms, on a real database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from monitor_rows import rows, spec

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State, verify_audit
from tenure.errors import CaseError, ConflictError, MissingError
from tenure.monitor import alarms, panes, series, status
from tenure.monitor.alarms import AlarmEvent
from tenure.monitor.board import Monitor
from tenure.monitor.events import add_event
from tenure.monitor.measure import Rows
from tenure.monitor.status import set_status
from tenure.scope.project import AlarmSpec, EndpointSpec, Threshold

SECOND = 1_000_000


class Line:
    """A production line: one pane of rows a second, one tick after each."""

    def __init__(self, state: State, clock: ManualClock, endpoint: EndpointSpec, seed: int = 0) -> None:
        self.state, self.clock, self.spec = state, clock, endpoint
        self.monitor = self.fresh()
        self.rng = np.random.default_rng(seed)

    def fresh(self) -> Monitor:
        return Monitor(self.state, {"phones": self.spec}, clock=self.clock)

    def now_us(self) -> int:
        return self.clock.now_ns() // 1000

    def run(self, panes: int, make: Callable[..., Rows] | None = None, **changes: Any) -> list[AlarmEvent]:
        changed: list[AlarmEvent] = []
        for _ in range(panes):
            made = make(self.rng, self.now_us()) if make else rows(self.rng, self.now_us(), **changes)
            self.clock.advance(1)
            with self.state.begin() as conn:
                self.monitor.observe(conn, made)
                changed += self.monitor.reconcile(conn, self.now_us())
        return changed

    def alarms(self) -> list[dict[str, Any]]:
        with self.state.read() as conn:
            return alarms.listing(conn, "phones")

    def board(self, name: Any = "input") -> Any:
        with self.state.read() as conn:
            return self.monitor.running(conn, "phones", name)


@pytest.fixture
def line(state: State, clock: ManualClock) -> Line:
    return Line(state, clock, spec())


def test_dark_lighting_raises_one_alarm_that_names_brightness_and_sudden(line: Line) -> None:
    assert line.run(60) == []
    changed = line.run(4, light=0.45)
    assert [(e.state, e.metric, e.stage, e.kind) for e in changed] == [
        ("firing", "brightness", "input", "data_drift")
    ]
    assert "Input brightness fell from 1" in changed[0].message
    line.run(10, light=0.45)
    (alarm,) = line.alarms()
    assert alarm["state"] == "firing"
    assert alarm["shape"] == "sudden"
    assert alarm["onset_us"] == line.now_us() - 14 * SECOND
    assert "cannot be known without labels" in alarm["message"]
    effect = alarm["numbers"]["effect"]
    assert effect["share_moved"] > 0.9
    assert effect["mean_now"] == pytest.approx(54, abs=3)


def test_unchanged_data_raises_nothing(line: Line) -> None:
    assert line.run(250) == []
    assert line.board().phase == "armed"
    assert line.board().panes > 150


def test_a_restart_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    """Two lines with the same seed; one gets a new Monitor after every tick."""
    found = []
    for restart in (False, True):
        clock = ManualClock()
        state = State.open(tmp_path / f"{restart}.db", clock)
        line = Line(state, clock, spec())
        for light in [1.0] * 60 + [0.45] * 8:
            line.run(1, light=light)
            if restart:
                line.monitor = line.fresh()
        with state.read() as conn:
            stored = conn.execute(sa.select(t.panes).order_by(*t.panes.primary_key)).fetchall()
            bodies = conn.execute(sa.select(t.detectors.c.board, t.detectors.c.body)).fetchall()
        found.append((stored, bodies, line.alarms()))
        state.close()
    assert found[0] == found[1]
    assert len(found[0][2]) == 1


def test_a_transaction_that_is_rolled_back_counts_nothing(line: Line) -> None:
    with line.state.read() as conn, conn.begin() as transaction:
        line.monitor.observe(conn, rows(line.rng, line.now_us()))
        transaction.rollback()
    with line.state.begin() as conn:
        line.monitor.observe(conn, rows(line.rng, line.now_us(), n=7))
        line.monitor.flush(conn)
        counted = conn.execute(sa.select(t.panes.c.n).where(t.panes.c.metric == "error_share")).scalar()
    assert counted == 7


def test_frames_of_one_pane_add_up_over_ticks(line: Line) -> None:
    for _ in range(3):
        with line.state.begin() as conn:
            line.monitor.observe(conn, rows(line.rng, line.now_us(), n=5))
            line.monitor.reconcile(conn, line.now_us())
    with line.state.read() as conn:
        counts = conn.execute(
            sa.select(t.panes.c.metric, t.panes.c.n).where(t.panes.c.stage == "input")
        ).fetchall()
    assert {n for _, n in counts} == {15}


def test_an_idle_board_does_not_tick(line: Line) -> None:
    line.run(60)
    before = line.board()
    line.clock.advance(100_000)
    with line.state.begin() as conn:
        assert line.monitor.reconcile(conn, line.now_us()) == []
    after = line.board()
    line.run(3)
    assert line.alarms() == []
    # The last pane before the break was stepped; nothing else was.
    assert after.panes <= before.panes + 1


def test_acknowledging_starts_the_detector_again_without_a_second_alarm_for_the_same(line: Line) -> None:
    line.run(60)
    (fired,) = line.run(6, light=0.45)
    event = alarms.acknowledge(line.state, fired.alarm, "ada")
    assert event.state == "acknowledged"
    assert line.board().latched is None
    assert line.run(10, light=0.45) == []
    with pytest.raises(ConflictError, match="is acknowledged"):
        alarms.acknowledge(line.state, fired.alarm, "ada")
    with line.state.read() as conn:
        assert verify_audit(conn) is None


def test_a_metric_that_moves_later_raises_an_alarm_of_its_own(line: Line) -> None:
    def wide(rng: np.random.Generator, start: int) -> Rows:
        n = 50
        dark = {"brightness": rng.normal(54, 5, n), "contrast": rng.normal(18, 2, n)}
        dark |= {"sharpness": np.full(n, 40.0), "width": np.full(n, 640.0)}
        return rows(rng, start, inputs=dark)

    line.run(60)
    (fired,) = line.run(6, light=0.45)
    alarms.acknowledge(line.state, fired.alarm, "ada")
    line.run(5, light=0.45)
    changed = line.run(6, wide)
    # Brightness still fires beside width, so the board stays with the alarm that a person knows.
    assert changed == []
    alarms.resolve(line.state, fired.alarm, "ada")
    assert [e.state for e in line.run(6, wide)] == ["firing"]


def test_relearning_accepts_the_new_light(line: Line) -> None:
    line.run(60)
    line.run(6, light=0.45)
    with line.state.begin() as conn:
        line.monitor.relearn(conn, "phones", "ada")
    assert [a["state"] for a in line.alarms()] == ["resolved"]
    assert line.run(120, light=0.45) == []
    assert line.board().phase == "armed"
    (fired,) = line.run(4, light=1.0)
    assert fired.metric == "brightness"
    assert " rose from 5" in fired.message


def test_output_drift_is_another_alarm_and_names_its_cause(line: Line) -> None:
    line.run(60)
    (fired,) = line.run(6, confidence=0.5)
    assert (fired.kind, fired.metric, fired.version) == ("output", "confidence", "m@1")
    assert "input board has seen no change" in fired.message


def test_a_class_share_is_told_in_per_cent(line: Line) -> None:
    def all_defect(rng: np.random.Generator, start: int) -> Rows:
        made = rows(rng, start)
        made.values[:] = ["defect"] * len(made.values)  # type: ignore[index]
        return made

    line.run(60)
    (fired,) = line.run(6, all_defect)
    assert fired.metric == "class:defect"
    assert fired.message.startswith("Output share of answers “defect” rose from ")
    assert " to 100.0%. Moved too: share of answers “good”" in fired.message


def test_a_metric_on_trial_is_charted_but_raises_nothing(line: Line) -> None:
    set_status(line.state, "phones", "brightness", "trial", reason="the lamps are being replaced", by="ada")
    line.run(60)
    with line.state.read() as conn:
        assert "brightness" not in {w.metric for w in line.monitor.watches(conn, "phones", "input")}
        assert status.listing(conn, "phones")[0]["reason"] == "the lamps are being replaced"
    with pytest.raises(CaseError):
        set_status(line.state, "phones", "brightness", "retired", reason=" ", by="ada")


def test_old_panes_can_be_forgotten(line: Line) -> None:
    line.run(60)
    with line.state.begin() as conn:
        assert panes.prune(conn, "phones", line.now_us()) > 1000
    (fired,) = line.run(4, light=0.45)
    assert fired.metric == "brightness"


def test_the_automated_share_never_raises_a_drift_alarm(line: Line) -> None:
    def automated(rng: np.random.Generator, start: int) -> Rows:
        made = rows(rng, start)
        made.columns["route"][:] = 1
        return made

    line.run(60)
    assert line.run(20, automated) == []
    with line.state.read() as conn:
        watched = {w.metric for w in line.monitor.watches(conn, "phones", "output")}
        charted = conn.execute(sa.select(t.panes.c.metric).distinct()).scalars().all()
    assert "automated" in charted
    assert not watched & {"automated", "fallback"}


def test_a_new_stable_version_gets_a_reference_of_its_own(line: Line) -> None:
    line.run(60)
    assert line.board("output").version == "m@1"
    assert line.run(70, version="m@2", routing=2, confidence=0.6) == []
    assert (line.board("output").version, line.board("output").phase) == ("m@2", "armed")
    assert line.board("input").phase == "armed"
    # A straggler of the old version changes nothing.
    line.run(1, version="m@1", routing=1)
    assert line.board("output").version == "m@2"


def test_few_rows_are_refused_with_the_number_that_is_needed(state: State, clock: ManualClock) -> None:
    line = Line(state, clock, spec(reference=20, notice=30.0))
    line.run(45, n=3)
    board = line.board()
    assert board.phase == "learning"
    assert board.target >= 40
    assert "reference rows" in board.note or "more traffic" in board.note


def test_a_short_reference_is_doubled_until_it_suffices(state: State, clock: ManualClock) -> None:
    line = Line(state, clock, spec(reference=10))
    line.run(15)
    assert "20 are needed" in line.board().note
    line.run(15)
    assert line.board().phase == "armed"


def test_other_settings_need_a_new_reference(line: Line) -> None:
    line.run(60)
    assert line.board().phase == "armed"
    line.spec = spec(tolerance=0.05)
    line.monitor = line.fresh()
    line.run(3)
    assert line.board().phase == "learning"
    line.run(45)
    assert line.board().phase == "armed"


def test_late_rows_are_charted_and_counted_but_not_judged(line: Line) -> None:
    line.run(60)
    body = line.board().log_m
    with line.state.begin() as conn:
        line.monitor.observe(conn, rows(line.rng, line.now_us() - 10 * SECOND, n=30, light=0.1))
        line.monitor.flush(conn)
    assert line.board().late == 30
    assert line.board().log_m == body


def test_missing_values_are_watched(line: Line) -> None:
    def lost(rng: np.random.Generator, start: int) -> Rows:
        made = rows(rng, start)
        made.columns["x:sharpness"][:25] = np.nan
        return made

    line.run(60)
    (fired,) = line.run(6, lost)
    assert fired.metric == "sharpness"
    assert "missing in 50%" in fired.message


def test_the_project_chooses_the_actions(state: State, clock: ManualClock) -> None:
    rule = AlarmSpec(drift="data", do=("notify", "drop_level", "hold_rollout"))
    line = Line(state, clock, spec(alarms=(rule,), webhook="http://127.0.0.1:9/hook"))
    line.run(60)
    (fired,) = line.run(4, light=0.45)
    assert fired.do == ("drop_level", "hold_rollout")
    with state.begin() as conn:
        assert [e.do for e in alarms.due(conn)] == [("drop_level", "hold_rollout")]
        assert alarms.mark_done(conn, fired.alarm, "drop_level", "partial to assist", 1)
        assert not alarms.mark_done(conn, fired.alarm, "drop_level", "again", 2)
        assert [e.do for e in alarms.due(conn)] == [("hold_rollout",)]
        body = conn.execute(sa.select(t.outbox.c.body)).scalar_one()
    assert json.loads(body)["message"] == fired.message


def test_an_event_near_the_onset_is_offered_as_an_explanation(line: Line) -> None:
    line.run(60)
    add_event(line.state, "phones", "new lamp at line 3", "ada")
    line.run(8, light=0.45)
    assert "“new lamp at line 3”" in line.alarms()[0]["message"]


def test_thresholds_wait_fire_and_resolve(state: State, clock: ManualClock) -> None:
    limit = Threshold(metric="server_load", above=0.91, lasting=3.0)
    line = Line(state, clock, spec(thresholds=(limit,)))

    def load(value: float, panes: int) -> list[tuple[str, str]]:
        changed = []
        for _ in range(panes):
            with state.begin() as conn:
                line.monitor.sample(conn, {"server_load": value})
                clock.advance(1)
                changed += line.monitor.reconcile(conn, line.now_us())
        return [(e.state, e.rule) for e in changed]

    rule = "threshold:server_load above 0.91"
    assert load(0.5, 4) == []
    assert load(0.97, 6) == [("pending", rule), ("firing", rule)]
    assert line.alarms()[0]["message"].startswith("Server load is 0.97, above the threshold of 0.91, for ")
    assert load(0.5, 4) == [("resolved", rule)]
    assert load(0.97, 2)[:1] == [] or line.alarms()[0]["state"] == "pending"


def test_a_silent_metric_is_no_data_and_keeps_its_alarm(state: State, clock: ManualClock) -> None:
    line = Line(state, clock, spec(thresholds=(Threshold(metric="brightness", below=80.0),)))
    line.run(3, light=0.45)
    states = []
    for _ in range(8):
        clock.advance(1)
        with state.begin() as conn:
            states += [e.state for e in line.monitor.reconcile(conn, line.now_us())]
    assert states[-1] == "no_data"
    line.run(3)
    assert line.alarms()[0]["state"] == "resolved"


def test_throughput_can_have_a_threshold(state: State, clock: ManualClock) -> None:
    line = Line(state, clock, spec(thresholds=(Threshold(metric="throughput", below=20.0),)))
    assert [e.state for e in line.run(4)] == []
    assert [e.state for e in line.run(4, n=5)] == ["firing"]


def test_an_unknown_endpoint_is_named(line: Line) -> None:
    with line.state.begin() as conn, pytest.raises(MissingError, match="known: phones"):
        line.monitor.observe(conn, rows(line.rng, line.now_us(), endpoint="phone"))


def test_series_heatmap_and_report(line: Line) -> None:
    start = line.now_us()
    line.run(60)
    line.run(6, light=0.45)
    with line.state.read() as conn:
        charts = series.series(conn, "phones", line.spec, since_us=start, until_us=line.now_us())
        coarse = series.series(conn, "phones", line.spec, since_us=start, until_us=line.now_us(), max_points=10)
        heat = series.heatmap(conn, "phones", line.spec, since_us=start, until_us=line.now_us())
        report = series.reference_report(conn, "phones", line.spec)
        useful = series.usefulness(conn, "phones")
    json.dumps([charts, coarse, heat, report, useful], allow_nan=False)
    bright = next(s for s in charts["series"] if s["metric"] == "brightness")
    assert len(bright["t_us"]) == 66
    assert bright["p10"][30] < bright["mean"][30] < bright["p90"][30]
    rate = next(s for s in charts["series"] if s["metric"] == "throughput")
    assert set(rate["mean"]) == {50.0}
    assert len(next(s for s in coarse["series"] if s["metric"] == "brightness")["t_us"]) <= 11
    row = next(r for r in heat["rows"] if r["metric"] == "brightness")
    assert row["distance"][-1] > 0.9
    assert row["distance"][50] < 0.3
    boards = {b["board"]: b for b in report["boards"]}
    assert boards["input"]["phase"] == "armed"
    assert {m["metric"] for m in boards["input"]["metrics"]} == {"brightness", "contrast", "sharpness", "width"}
    assert charts["alarms"][0]["metric"] == "brightness"
    assert next(u for u in useful if u["metric"] == "width")["constant"]


def test_real_photos_from_bright_to_dark_raise_an_alarm(
    state: State, clock: ManualClock, real_data: Path
) -> None:
    index = real_data / "images" / "magnetic_tile" / "index.jsonl"
    if not index.is_file():
        pytest.skip(f"{index} is absent")
    photos = [json.loads(text) for text in index.read_text().splitlines()]
    by_exposure = {e: [p for p in photos if p["exposure"] == e] for e in (1, 6)}

    def photos_of(exposure: int) -> Callable[..., Rows]:
        def make(rng: np.random.Generator, start: int) -> Rows:
            chosen = rng.choice(by_exposure[exposure], size=50)
            names = ("brightness", "contrast", "width", "height")
            return rows(rng, start, inputs={n: [p[n] for p in chosen] for n in names})

        return make

    line = Line(state, clock, spec())
    assert line.run(100, photos_of(6)) == []
    fired = line.run(8, photos_of(1))
    assert [(e.state, e.metric) for e in fired] == [("firing", "brightness")]
    (alarm,) = line.alarms()
    assert alarm["shape"] == "sudden"
