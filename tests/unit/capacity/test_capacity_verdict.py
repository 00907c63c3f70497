"""Figures from raw times, verdicts from figures, the search over rates."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from tenure.deploy.capacity.generator import BROKEN, NOT_SENT, UNANSWERED, Load, Raw
from tenure.deploy.capacity.measured import Measured, grows, histogram, quantiles, summarise
from tenure.deploy.capacity.search import Found, knee, search
from tenure.deploy.capacity.verdict import judge
from tenure.scope.project import Serve

SERVE = Serve(latency=0.1, qps=100)


def raw(due: object, latency: object, status: object = 200, *, late: float = 0.0, **options: object) -> Raw:
    times = np.asarray(due, float)
    codes = np.broadcast_to(np.asarray(status), times.shape).astype("<u2")
    done = np.where(np.isin(codes, (UNANSWERED, BROKEN, NOT_SENT)), np.nan, times + np.asarray(latency, float))
    told = {"cpu_s": 0.1, "wall_s": 10.0, "connections": 3} | options
    return Raw(
        due=times.tobytes(), taken=(times + late).tobytes(), done=done.tobytes(), status=codes.tobytes(),
        **told,  # type: ignore[arg-type]
    )  # fmt: skip


def measured(latency: object, status: object = 200, *, rate: float = 100.0, **options: object) -> Measured:
    load = Load(host="", port=0, requests=(), rate=rate, seconds=10.0, budget=0.1)
    count = round(rate * 10)
    return summarise(load, raw((np.arange(count) + 0.5) / rate, latency, status, **options))


def test_latency_counts_from_the_intended_time() -> None:
    """A stall of one second: a closed loop would see one slow request, here all that were due in it are slow."""
    due = (np.arange(1000) + 0.5) / 100
    stall = np.where((due > 5) & (due < 6), 6 - due, 0.001)
    found = measured(stall)
    assert found.latency_ms["p99"] > 850
    assert found.latency_ms["max"] > 900
    assert found.within == pytest.approx(0.91, abs=0.002)


def test_quantiles_are_values_that_occurred() -> None:
    assert quantiles(np.arange(1.0, 1001.0)) == {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000}
    assert all(math.isnan(v) for v in quantiles(np.array([])).values())


def test_a_histogram_holds_every_answer() -> None:
    ms = np.geomspace(0.1, 300, 777)
    found = histogram(ms)
    assert sum(n for _, n in found) == 777
    assert [b for b, _ in found] == sorted(b for b, _ in found)
    assert sum(n for _, n in histogram(np.full(5, 2.0))) == 5


def test_p99_within_the_latency_holds() -> None:
    verdict = judge(measured(0.05), SERVE)
    assert verdict.holds is True
    assert "serve.latency 100 ms holds: p99 50.0 ms" in verdict.sentences[0]
    assert "serve.qps 100 holds: 99.6 good" in verdict.sentences[1]


@pytest.mark.parametrize("status", [503, 500, 422, BROKEN, UNANSWERED])
def test_a_quick_refusal_is_no_quick_answer(status: int) -> None:
    codes = np.where(np.arange(1000) % 50 == 0, status, 200)
    verdict = judge(measured(0.001, codes), SERVE)
    assert verdict.holds is False
    assert "2.00% of 1000 requests took longer or failed, 1% may" in verdict.sentences[0]


def test_two_per_cent_too_slow_is_broken() -> None:
    verdict = judge(measured(np.where(np.arange(1000) % 50 == 0, 0.5, 0.01)), SERVE)
    assert verdict.holds is False
    assert "serve.latency 100 ms broken: p99 500.0 ms" in verdict.sentences[0]


def test_a_backlog_that_grows_is_broken_before_it_is_late() -> None:
    found = measured(np.linspace(0.001, 0.09, 1000))
    assert found.within == 1.0
    assert grows(found)
    assert judge(found, SERVE).holds is False


def test_a_rate_below_the_promise_tells_nothing_of_it() -> None:
    verdict = judge(measured(0.01, rate=50.0), SERVE)
    assert verdict.holds is True
    assert verdict.sentences[1] == "serve.qps 100 not tested: the load was 50 requests a second"
    assert "few for a p99" in verdict.sentences[2]


def test_a_generator_that_is_late_is_no_judge() -> None:
    verdict = judge(measured(0.05, late=0.02), SERVE)
    assert verdict.holds is None
    assert "the generator was late itself, p99 20.0 ms" in verdict.sentences[0]


def test_a_ramp_says_where_it_broke() -> None:
    load = Load(host="", port=0, requests=(), rate=100.0, seconds=10.0, budget=0.1, ramp=True)
    due = np.arange(0.05, 10, 0.01)
    found = summarise(load, raw(due, np.where(due > 7, 0.2, 0.01)))
    verdict = judge(found, SERVE)
    assert verdict.holds is False
    assert "broken from about 77.5 requests a second: p99 200.0 ms" in verdict.sentences[0]


def test_what_a_test_that_gave_up_did_not_send_is_not_counted() -> None:
    load = Load(host="", port=0, requests=(), rate=10.0, seconds=10.0, budget=0.1)
    due = np.arange(0.0, 10.0, 0.1)
    made = raw(due, 0.5, np.where(due > 3, NOT_SENT, 200), gave_up=True, wall_s=3.0)
    taken = np.where(due > 3, np.nan, due)
    found = summarise(load, msgspec.structs.replace(made, taken=taken.tobytes()))
    assert found.requests == int((due <= 3).sum())
    assert judge(found, SERVE).holds is False


def server(
    capacity: float, *, hiccups: tuple[int, ...] = (), blind: float = math.inf
) -> tuple[list[float], object]:
    """A server that holds up to a capacity; the generator is no judge above `blind`."""
    tried: list[float] = []

    def measure(rate: float) -> Measured:
        tried.append(rate)
        held = rate <= capacity and len(tried) - 1 not in hiccups
        ms = 1 / max(1e-3, 1 - rate / capacity) if rate < capacity else 1000.0
        latency = np.minimum(ms / 1e3, 0.09) if held else 0.5
        found = measured(latency, rate=200.0, late=0.5 if rate > blind else 0.0)
        return msgspec.structs.replace(found, rate=rate, achieved=min(rate, capacity))

    return tried, measure


def run(capacity: float, **options: object) -> tuple[Found, list[float]]:
    tried, measure = server(capacity, **options)  # type: ignore[arg-type]
    return search(measure, start=100.0, ceiling=10_000.0), tried  # type: ignore[arg-type]


@pytest.mark.parametrize("capacity", [3.0, 80.0, 100.0, 101.0, 777.0, 9_000.0])
def test_the_search_finds_the_capacity_to_five_per_cent(capacity: float) -> None:
    found, tried = run(capacity)
    assert capacity / 1.06 <= found.highest <= capacity
    assert found.limit == "budget"
    assert len(tried) <= 24
    assert [s.rate for s in found.steps] == sorted(tried)


def test_one_hiccup_is_not_the_limit() -> None:
    assert run(777.0, hiccups=(1,))[0].highest > 730


def test_the_search_ends_at_its_ceiling() -> None:
    found, _ = run(1e6)
    assert (found.highest, found.limit) == (10_000.0, "ceiling")


def test_a_server_that_holds_nothing() -> None:
    found, tried = run(0.1)
    assert (found.highest, found.knee) == (0.0, 0.0)
    assert min(tried) >= 0.5


def test_where_the_generator_fails_is_not_the_servers_limit() -> None:
    found, _ = run(1e6, blind=500.0)
    assert found.limit == "generator"
    assert 470 < found.highest <= 500


def test_the_knee_is_where_throughput_per_latency_is_highest() -> None:
    found, _ = run(777.0)
    assert knee(found.steps) == found.knee
    assert 200 <= found.knee <= 500  # of x * (1 - x / 777) the top is at half
