"""Metrics over time, the drift heatmap, and what the drift boards can see."""

from __future__ import annotations

from typing import Any

from tenure.console.route import VIEW, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.monitor import series as charts
from tenure.scope.project import EndpointSpec

MINUTE_US = 60_000_000


def series(services: Services, ask: Ask) -> dict[str, Any]:
    """Return one series per stage, metric and version, with thresholds, events and alarms of the window."""
    name, spec = _spec(services, ask)
    since_us, until_us = _window(services, ask, spec)
    wanted = [m for m in ask.query.get("metrics", "").split(",") if m] or None
    with services.state.read() as conn:
        found = charts.series(conn, name, spec, since_us=since_us, until_us=until_us, metrics_wanted=wanted)
    return found | {"since_us": since_us, "now_us": until_us}


def heatmap(services: Services, ask: Ask) -> dict[str, Any]:
    """Return how much of the rows moved away from the reference, per metric and point of time."""
    name, spec = _spec(services, ask)
    since_us, until_us = _window(services, ask, spec)
    with services.state.read() as conn:
        return charts.heatmap(conn, name, spec, since_us=since_us, until_us=until_us)


def reference(services: Services, ask: Ask) -> dict[str, Any]:
    """Return per drift board what is learnt, what is armed, what is not and why."""
    name, spec = _spec(services, ask)
    with services.state.read() as conn:
        return charts.reference_report(conn, name, spec)


def _spec(services: Services, ask: Ask) -> tuple[str, EndpointSpec]:
    name = endpoint_of(services, ask.path["endpoint"])
    return name, services.project.endpoints[name]


def _window(services: Services, ask: Ask, spec: EndpointSpec) -> tuple[int, int]:
    """Return (start, end): `minutes` of the query, by default 60 panes and at least 5 minutes, up to now."""
    now_us = services.state.now_us()
    return now_us - ask.integer(
        "minutes", max(5, round(spec.monitor.pane)), low=1, high=44_640
    ) * MINUTE_US, now_us


_WINDOW = {"minutes": "length of the window up to now, 1 to 44640"}
_NAMES = {"metrics": "comma-separated names; default all"}

ROUTES = (
    Route(
        "GET",
        "/api/endpoints/{endpoint}/series",
        VIEW,
        series,
        "Metrics by stage and version over time",
        query=_WINDOW | _NAMES,
    ),
    Route(
        "GET",
        "/api/endpoints/{endpoint}/heatmap",
        VIEW,
        heatmap,
        "Distance from the reference, per metric and time",
        query=_WINDOW,
    ),
    Route("GET", "/api/endpoints/{endpoint}/reference", VIEW, reference, "What the drift boards can see"),
)
