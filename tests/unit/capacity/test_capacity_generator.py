"""The generator: open loop, every fate of a request told apart."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from capacity_server import request, serving

from tenure.clock import SystemClock
from tenure.deploy.capacity.arrivals import MOST, arrivals
from tenure.deploy.capacity.drive import drive, generate
from tenure.deploy.capacity.generator import BROKEN, UNANSWERED, Load
from tenure.errors import BusyError


def load(port: int, *bodies: bytes, **options: object) -> Load:
    told = {"rate": 200.0, "seconds": 0.2, "timeout": 60.0, "pattern": "constant", "budget": 60.0} | options
    return Load(host="127.0.0.1", port=port, requests=tuple(request(b) for b in bodies), **told)  # type: ignore[arg-type]


def test_arrivals_are_drawn_beforehand_and_as_many_as_asked() -> None:
    found = arrivals(1000, 10, seed=3)
    gaps = np.diff(found)
    assert len(found) == 10_000
    assert gaps.min() >= 0
    assert found[0] >= 0
    assert found[-1] <= 10
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)  # exponential gaps
    assert (arrivals(1000, 10, seed=3) == found).all()
    assert (arrivals(1000, 10, seed=4) != found).any()


def test_constant_arrivals_are_even() -> None:
    assert np.diff(arrivals(50, 2, pattern="constant")) == pytest.approx(0.02)


@pytest.mark.parametrize("pattern", ["poisson", "constant"])
def test_a_ramp_climbs_from_a_tenth_to_the_rate(pattern: str) -> None:
    found = arrivals(10_000, 10, pattern=pattern, ramp=True)  # type: ignore[arg-type]
    assert len(found) == 55_000
    counts, _ = np.histogram(found, np.linspace(0, 10, 11))
    assert counts == pytest.approx([1450 + 900 * i for i in range(10)], rel=0.1)


@pytest.mark.parametrize(("rate", "seconds"), [(MOST, 2.0), (0.1, 0.1)])
def test_a_test_is_bounded(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="a test sends 1 to"):
        arrivals(rate, seconds)


def test_requests_leave_when_due_although_no_answer_comes() -> None:
    """The server answers nothing before the last request: a closed loop of fewer connections would hang."""
    with serving(hold=40) as (port, script):
        due, taken, done, status = generate(load(port, b"ok")).arrays()
    assert len(script.seen) == len(due) == 40
    assert (status == 200).all()
    assert (taken >= due).all()
    assert (done >= due.max()).all()  # so the first request's latency is the whole test
    assert (done - due)[0] >= due.max() - due[0]


def test_every_fate_is_told_apart() -> None:
    bodies = (b"ok", b"pending", b"shed", b"bad", b"fault", b"close", b"chunks", b"noise", b"drop", b"silence")
    with serving() as (port, _):
        found = drive(load(port, *bodies, timeout=3.0, seconds=0.4), pids={}, clock=SystemClock())
    assert found.statuses == {
        "200": 24, "202": 8, "503": 8, "4xx": 8, "5xx": 8, "connection": 16, "unanswered": 8,
    }  # fmt: skip
    assert found.good == 32


def test_connections_are_bounded_and_used_again() -> None:
    with serving() as (port, script):
        raw = generate(load(port, b"ok", connections=2, rate=2000.0))
    assert raw.connections <= 2
    assert len(script.seen) == 400
    assert (raw.arrays()[3] == 200).all()


def test_waiting_for_a_connection_is_latency_not_lateness() -> None:
    with serving() as (port, script):  # no answer: most wait until they are given up
        _, taken, done, status = generate(load(port, b"silence", connections=2, timeout=0.5)).arrays()
    assert len(script.seen) < 40
    assert (status == UNANSWERED).all()
    assert not np.isnan(taken).any()
    assert np.isnan(done).all()


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as silent:  # it does not listen, and nobody else gets its port meanwhile
        silent.bind(("127.0.0.1", 0))
        raw = generate(load(silent.getsockname()[1], b"ok"))
    assert (raw.arrays()[3] == BROKEN).all()
    assert raw.error


def test_a_test_that_cannot_pass_ends_early() -> None:
    with serving() as (port, script):
        raw = generate(load(port, b"shed", give_up=5, seconds=20.0))
    assert raw.gave_up
    assert 5 <= len(script.seen) < 2000  # of 4000: after a standstill what is due leaves at once


def test_warm_up_is_sent_and_not_counted() -> None:
    with serving() as (port, script):
        found = drive(load(port, b"ok", warmup=0.2, give_up=5), pids={}, clock=SystemClock())
    assert len(script.seen) == 80
    assert found.requests == found.good == 40


def test_a_closed_loop_sends_as_fast_as_it_is_answered() -> None:
    with serving() as (port, script):
        found = drive(load(port, b"ok", closed=True, connections=3, seconds=1.0), pids={}, clock=SystemClock())
    assert found.good == found.requests == len(script.seen) > 3
    assert found.sender.connections == 3


def test_a_generator_that_fails_says_why() -> None:
    with pytest.raises(BusyError, match="the load generator failed: ValueError: a test sends"):
        generate(load(1, b"ok", rate=1e9))
