"""Webhooks: at least once, against a real server that fails first."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sqlalchemy as sa

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.errors import CaseError, ConflictError, MissingError
from tenure.monitor import alarms, events, notify
from tenure.monitor.alarms import Draft


@contextmanager
def receiver(answers: list[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve a hook that gives the answers in turn, then 204."""
    got: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(answers.pop(0) if answers else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fire(state: State, target: str | None = None, **changes: Any) -> alarms.AlarmEvent:
    words = {"rule": "drift:input", "kind": "data_drift", "message": "Input brightness fell."}
    place = {"endpoint": "phones", "metric": "brightness", "stage": "input", "version": "*"}
    values: dict[str, Any] = {**words, **place, "numbers": {"effect": 0.9}}
    with state.begin() as conn:
        event = alarms.fire(conn, Draft(**{**values, **changes}), state.now_us())
        if target:
            notify.enqueue(conn, target, event, state.now_us())
    return event


def outbox(state: State) -> list[Any]:
    with state.read() as conn:
        return conn.execute(sa.select(t.outbox.c.state, t.outbox.c.tries, t.outbox.c.error)).fetchall()


def test_a_receiver_that_fails_first_gets_the_message_later(state: State, clock: ManualClock) -> None:
    with receiver([500, 503]) as (target, got):
        event = fire(state, target)
        assert notify.deliver(state, state.now_us()) == 0
        assert outbox(state) == [("waiting", 1, "the target answered 500")]
        assert notify.deliver(state, state.now_us()) == 0  # not due yet
        assert len(got) == 1
        clock.advance(1.1)
        assert notify.deliver(state, state.now_us()) == 0
        clock.advance(2.1)
        assert notify.deliver(state, state.now_us()) == 1
        assert notify.deliver(state, state.now_us()) == 0
    assert outbox(state) == [("sent", 3, "")]
    assert len({body["id"] for body in got}) == 1
    assert got[-1]["alarm"] == event.alarm
    assert got[-1]["message"] == "Input brightness fell."


def test_a_dead_target_is_given_up_with_its_reason(state: State, clock: ManualClock) -> None:
    with socket.socket() as silent:  # it does not listen, and nobody else gets its port meanwhile
        silent.bind(("127.0.0.1", 0))
        fire(state, f"http://127.0.0.1:{silent.getsockname()[1]}/hook")
        for _ in range(notify.TRIES):
            notify.deliver(state, state.now_us())
            clock.advance(notify.LONGEST_WAIT_S + 1)
    ((final, tries, error),) = outbox(state)
    assert (final, tries) == ("failed", notify.TRIES)
    assert "refused" in error
    with state.read() as conn:
        assert notify.pending(conn)[0]["state"] == "failed"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "not a url", "ftp://127.0.0.1/x"])
def test_only_http_targets_are_used(state: State, target: str) -> None:
    fire(state, target)
    assert notify.deliver(state, state.now_us()) == 0
    assert outbox(state)[0][0] == "waiting"


def test_backoff_doubles_up_to_ten_minutes() -> None:
    assert [notify.backoff_s(n) for n in (1, 2, 3, 20)] == [1, 2, 4, 600]


def test_the_life_of_an_alarm_is_stored_and_audited(state: State, clock: ManualClock) -> None:
    event = fire(state)
    clock.advance(5)
    assert alarms.acknowledge(state, event.alarm, "ada").state == "acknowledged"
    assert alarms.resolve(state, event.alarm, "bob").state == "resolved"
    with pytest.raises(ConflictError):
        alarms.resolve(state, event.alarm, "bob")
    with pytest.raises(MissingError):
        alarms.acknowledge(state, 99, "ada")
    with state.read() as conn:
        (row,) = alarms.listing(conn, "phones")
        assert alarms.listing(conn, open_only=True) == []
        actions = conn.execute(sa.select(t.audit.c.actor, t.audit.c.action)).fetchall()
    assert (row["acknowledged_by"], row["state"]) == ("ada", "resolved")
    assert row["acknowledged_us"] - row["fired_us"] == 5_000_000
    assert actions == [("ada", "alarm.acknowledge"), ("bob", "alarm.resolve")]


def test_events_are_listed_for_their_endpoint_and_the_project(state: State, clock: ManualClock) -> None:
    events.add_event(state, "phones", "new   lamp", "ada")
    clock.advance(1)
    events.add_event(state, None, "holiday", "ada")
    events.add_event(state, "voices", "new microphone", "ada")
    with state.read() as conn:
        assert [e["text"] for e in events.listing(conn, "phones")] == ["new lamp", "holiday"]
        assert len(events.listing(conn)) == 3
        assert len(events.listing(conn, since_us=state.now_us())) == 2
    with pytest.raises(CaseError):
        events.add_event(state, None, "  ", "ada")
