"""Names, thresholds, samples and the exposition for Prometheus."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from monitor_rows import rows, spec
from prometheus_client.parser import text_string_to_metric_families

from tenure.clock import ManualClock
from tenure.data.state import State
from tenure.monitor import alarms, metrics, prometheus, thresholds
from tenure.monitor.alarms import Draft
from tenure.monitor.board import Monitor
from tenure.monitor.measure import measure
from tenure.monitor.software import ProcessSampler
from tenure.monitor.thresholds import Rule
from tenure.scope.project import Threshold

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "metrics.md"


def test_the_reference_page_is_made_from_the_code() -> None:
    assert PAGE.read_text() == metrics.reference()


def test_every_metric_that_is_measured_is_described_with_a_unit() -> None:
    found = measure(rows(np.random.default_rng(0), 0), pane_us=1_000_000, output=spec().output)
    for cell in found:
        known = metrics.find(cell.metric, cell.stage)
        assert known.unit, cell
        assert known.title, cell
        assert known.stage == cell.stage


def test_an_own_metric_is_an_input_metric() -> None:
    known = metrics.find("coating_age")
    assert (known.stage, known.board, known.title) == ("input", "input", "coating age")


def test_a_stage_time_is_named_by_its_stage() -> None:
    assert metrics.find("detect.time_ms").stage == "detect"
    assert metrics.find("time_ms", "detect").board is None


@pytest.mark.parametrize(
    ("values", "states"),
    [
        ([1.0, 1.0], ["inactive", "inactive"]),
        ([9.0, 9.0, 9.0], ["pending", "firing", "firing"]),
        ([9.0, 1.0, 9.0], ["pending", "inactive", "pending"]),
        ([9.0, None, 9.0], ["pending", "pending", "firing"]),
        ([9.0, 9.0, None, None, None], ["pending", "firing", "firing", "firing", "no_data"]),
    ],
)
def test_a_threshold_lasts_before_it_fires(values: list[float | None], states: list[str]) -> None:
    rule, limit, seen = Rule(), Threshold(metric="latency_ms", above=5.0, lasting=2.0), []
    for i, value in enumerate(values):
        rule, _ = thresholds.judge(rule, limit, value, start_us=i * 10**6, end_us=(i + 1) * 10**6)
        seen.append(rule.state)
    assert seen == states


def test_a_sample_of_this_process_is_plausible() -> None:
    sampler = ProcessSampler()
    first = sampler.sample([os.getpid(), 2**30])
    assert 10 < first["memory_mb"] < 100_000
    assert first["server_load"] >= 0
    assert "cpu_share" not in first
    busy_until = time.process_time() + 0.1
    while time.process_time() < busy_until:  # ten of the ticks in which the system counts
        pass
    assert 0 < sampler.sample([os.getpid()])["cpu_share"] <= (os.cpu_count() or 1) + 0.5


def test_prometheus_sees_metrics_alarms_and_boards(state: State, clock: ManualClock) -> None:
    monitor = Monitor(state, {"phones": spec()}, clock=clock)
    with state.begin() as conn:
        monitor.observe(conn, rows(np.random.default_rng(0), clock.now_ns() // 1000))
        monitor.sample(conn, {"server_load": 0.5})
        monitor.reconcile(conn, clock.now_ns() // 1000)
        alarms.fire(conn, Draft("phones", "drift:input", "data_drift", "brightness", "input", "*", "dark", {}), 1)
    families = {f.name: f for f in text_string_to_metric_families(prometheus.render(state).decode())}
    found = {s.labels["metric"]: s.value for s in families["tenure_metric"].samples}
    assert found["server_load"] == 0.5
    assert found["brightness"] == pytest.approx(120, abs=10)
    assert families["tenure_alarm"].samples[0].labels["metric"] == "brightness"
    assert {s.labels["board"]: s.value for s in families["tenure_drift_armed"].samples} == {
        "input": 0,
        "output": 0,
    }
    assert "tenure_outbox" in families
