"""Tell people: alarms go to a webhook through the outbox, at least once.

The row is written in the transaction that fires the alarm; `deliver` sends it later and tries again with
back-off. A receiver may see the same `id` twice and should drop the second one.

The body is JSON: `{"format": 1, "id", "at", "kind": "alarm", "alarm", "endpoint", "state", "rule", "stage",
"metric", "version", "message", "numbers"}`; `id` is unique per transition, `at` is UTC in ISO 8601.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import State, dumps
from tenure.monitor.alarms import AlarmEvent

TIMEOUT_S = 5.0
TRIES = 12
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 600.0
AT_ONCE = 20


class Message(NamedTuple):
    """One row of the outbox."""

    id: int
    target: str
    body: str
    tries: int


def enqueue(conn: Connection, target: str, event: AlarmEvent, now_us: int) -> None:
    """Put an alarm into the outbox, in the caller's transaction."""
    body = {
        "format": 1,
        "id": f"alarm-{event.alarm}-{event.state}-{now_us}",
        "at": datetime.fromtimestamp(now_us / 1e6, UTC).isoformat(),
        "kind": "alarm",
        "alarm": event.alarm,
        "endpoint": event.endpoint,
        "state": event.state,
        "rule": event.rule,
        "stage": event.stage,
        "metric": event.metric,
        "version": event.version,
        "message": event.message,
        "numbers": dict(event.numbers),
    }
    conn.execute(
        t.outbox.insert().values(
            target=target, body=dumps(body), state="waiting", tries=0, next_us=now_us, error=""
        )
    )


def deliver(state: State, now_us: int) -> int:
    """Send what is due and return how many were accepted; never raises for a target that fails.

    Blocks up to `TIMEOUT_S` per message: call it in a thread of its own, one at a time. No transaction is open
    while it waits for the network.
    """
    sent = 0
    for message in _due(state, now_us):
        error = _post(message)
        sent += error is None
        _note(state, message, error, now_us)
    return sent


def backoff_s(tries: int) -> float:
    """Return the wait after so many failed tries: 1 s, 2 s, 4 s ... at most 10 minutes."""
    return float(min(FIRST_WAIT_S * 2 ** (tries - 1), LONGEST_WAIT_S))


def _due(state: State, now_us: int) -> list[Message]:
    o = t.outbox.c
    query = (
        sa.select(o.id, o.target, o.body, o.tries)
        .where(o.state == "waiting", o.next_us <= now_us)
        .order_by(o.id)
        .limit(AT_ONCE)
    )
    with state.read() as conn:
        return [Message(*row) for row in conn.execute(query)]


def _post(message: Message) -> str | None:
    """Send one message; returns why it was not accepted, or None."""
    headers = {"content-type": "application/json", "user-agent": "tenure"}
    try:
        request = urllib.request.Request(message.target, message.body.encode(), headers, method="POST")
        if request.type not in ("http", "https"):
            return f"the target must be an http or https address, got {request.type}"
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            reply.read(1024)
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"the target answered {error.code}"
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__


def _note(state: State, message: Message, error: str | None, now_us: int) -> None:
    tries = message.tries + 1
    if error is None:
        values = {"state": "sent", "tries": tries, "error": ""}
    else:
        after = "failed" if tries >= TRIES else "waiting"
        wait_us = int(backoff_s(tries) * 1e6)
        values = {"state": after, "tries": tries, "error": error[:500], "next_us": now_us + wait_us}
    with state.begin() as conn:
        conn.execute(t.outbox.update().where(t.outbox.c.id == message.id).values(**values))


def pending(conn: Connection) -> list[dict[str, object]]:
    """Return what waits or was given up, newest first, with the last error; for the console."""
    query = sa.select(t.outbox).where(t.outbox.c.state != "sent").order_by(t.outbox.c.id.desc()).limit(100)
    return [{**row, "body": json.loads(row["body"])} for row in conn.execute(query).mappings()]
