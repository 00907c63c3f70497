"""The control plane's numbers for tools that already watch software: read at scrape time, never per request."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import State
from tenure.monitor import alarms
from tenure.monitor.detector import Running
from tenure.types import Level

RECENT_PANES = 3
"""A metric that has not been seen for so many of the newest panes of its endpoint is not exported."""


class StateCollector(Collector):
    """Gauges of the newest panes, open alarms, drift evidence, levels and the outbox."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        with self._state.read() as conn:
            return [_panes(conn), _alarms(conn), *_boards(conn), _levels(conn), _outbox(conn)]


def render(state: State) -> bytes:
    """Return the text exposition of the control state."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StateCollector(state))
    return generate_latest(registry)


def _panes(conn: Connection) -> Metric:
    p = t.panes.c
    family = GaugeMetricFamily(
        "tenure_metric", "Mean of the newest pane.", labels=["endpoint", "stage", "metric", "version"]
    )
    endpoints = conn.execute(sa.select(p.endpoint).distinct()).scalars().all()
    for endpoint in endpoints:
        newest = sa.select(p.pane_us).where(p.endpoint == endpoint).distinct().order_by(p.pane_us.desc())
        recent = conn.execute(newest.limit(RECENT_PANES)).scalars().all()
        query = (
            sa.select(p.stage, p.metric, p.version, p.n, p.total)
            .where(p.endpoint == endpoint, p.pane_us >= min(recent), p.n > 0)
            .order_by(p.pane_us)
        )
        latest = {(r.stage, r.metric, r.version): r.total / r.n for r in conn.execute(query)}
        for key, mean in sorted(latest.items()):
            family.add_metric([endpoint, *key], mean)
    return family


def _alarms(conn: Connection) -> Metric:
    family = GaugeMetricFamily(
        "tenure_alarm", "1 for each open alarm.",
        labels=["alarm", "endpoint", "rule", "state", "stage", "metric", "version"],
    )  # fmt: skip
    for row in alarms.listing(conn, open_only=True):
        names = ("endpoint", "rule", "state", "stage", "metric", "version")
        family.add_metric([str(row["id"]), *(row[name] for name in names)], 1.0)
    return family


def _boards(conn: Connection) -> tuple[Metric, Metric]:
    armed = GaugeMetricFamily(
        "tenure_drift_armed", "1 when the drift board has a reference.", labels=["endpoint", "board"]
    )
    evidence = GaugeMetricFamily(
        "tenure_drift_log_evidence", "Log of the drift board's value; see the threshold's log.",
        labels=["endpoint", "board"],
    )  # fmt: skip
    d = t.detectors.c
    query = sa.select(d.endpoint, d.board, d.body).where(d.board.in_(("input", "output")))
    for endpoint, board, body in conn.execute(query.order_by(d.endpoint, d.board)):
        running = msgspec.json.decode(body, type=Running)
        armed.add_metric([endpoint, board], float(running.phase == "armed"))
        if running.log_board is not None:
            evidence.add_metric([endpoint, board], running.log_board)
    return armed, evidence


def _levels(conn: Connection) -> Metric:
    family = GaugeMetricFamily(
        "tenure_automation_level",
        "0 people only, 1 shadow, 2 assist, 3 partial, 4 full.",
        labels=["endpoint", "segment"],
    )
    c = t.levels.c
    rows = conn.execute(sa.select(c.endpoint, c.segment, c.to_level).order_by(c.id))
    newest = {(endpoint, segment): level for endpoint, segment, level in rows}
    for (endpoint, segment), level in sorted(newest.items()):
        family.add_metric([endpoint, segment], float(Level.of(level)))
    return family


def _outbox(conn: Connection) -> Metric:
    family = GaugeMetricFamily("tenure_outbox", "Notifications by state.", labels=["state"])
    o = t.outbox.c
    counts = {state: n for state, n in conn.execute(sa.select(o.state, sa.func.count()).group_by(o.state))}  # noqa: C416
    for name in ("waiting", "sent", "failed"):
        family.add_metric([name], float(counts.get(name, 0)))
    return family
