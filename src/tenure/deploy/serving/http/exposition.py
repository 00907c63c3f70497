"""Render the control page for Prometheus: any worker answers for all of them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tenure.deploy.serving.control_page import COUNTERS, LATENCY_BOUNDS_MS, ControlPage

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

TITLES = {
    "requests": "Predict calls that arrived.",
    "auto": "Requests that were decided when the reply went out.",
    "pending": "Requests that a person is to decide.",
    "fallback": "Requests that the fallback decided at their deadline.",
    "refused": "Requests answered with a 4xx or 503.",
    "failed": "Items that a stage failed.",
    "faults": "Requests answered with a 500.",
    "shadows": "Shadow answers logged.",
    "shadows_shed": "Shadow work dropped under load.",
    "unlogged": "Answers given although the log could not be written.",
    "payloads_dropped": "Inputs that were not kept because the log could not be written.",
}


class PageCollector(Collector):
    """Counters per worker, from memory that all workers share; nothing is counted at scrape time."""

    def __init__(self, page: ControlPage, now_ns: int) -> None:
        self._page = page
        self._now_ns = now_ns

    def collect(self) -> Iterator[Metric]:
        slots = self._page.slots()
        for name in COUNTERS[:-1]:
            counter = CounterMetricFamily(f"tenure_{name}", TITLES[name], labels=["worker"])
            for slot in slots:
                counter.add_metric([str(slot.index)], slot.get(name))
            yield counter
        latency = HistogramMetricFamily(
            "tenure_latency_seconds", "Time from a request's arrival to its reply.", labels=["worker"]
        )
        for slot in slots:
            latency.add_metric([str(slot.index)], _cumulative(slot.buckets()), slot.get("latency_us") / 1e6)
        yield latency
        queued = GaugeMetricFamily("tenure_queued_seconds", "Work that waits.", labels=["worker"])
        ready = GaugeMetricFamily("tenure_worker_ready", "1 while the worker takes requests.", labels=["worker"])
        for slot in slots:
            queued.add_metric([str(slot.index)], slot.get("queued_us") / 1e6)
            ready.add_metric([str(slot.index)], float(slot.state == "ready"))
        yield queued
        yield ready
        routing = GaugeMetricFamily("tenure_routing_version", "Routing table in force.")
        routing.add_metric([], self._page.routing)
        yield routing
        age = GaugeMetricFamily("tenure_controller_age_seconds", "Time since the controller's last tick.")
        age.add_metric([], max(0.0, (self._now_ns - self._page.controller_ns) / 1e9))
        yield age


def render(page: ControlPage, *, now_ns: int) -> bytes:
    """Return the text that Prometheus scrapes."""
    registry = CollectorRegistry()
    registry.register(PageCollector(page, now_ns))
    return generate_latest(registry)


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    bounds = [str(ms / 1000.0) for ms in LATENCY_BOUNDS_MS] + ["+Inf"]
    total, out = 0, []
    for bound, count in zip(bounds, buckets, strict=True):
        total += count
        out.append((bound, float(total)))
    return out
