"""The life of an alarm: inactive, pending, firing, acknowledged, resolved; `no_data` while its metric is silent.

Transitions are pure (`advance`); the rest stores them. An alarm's actions are listed in its row as they are done,
so that doing them twice changes nothing. Actions only hold, roll back, lower the level, notify or ask for a new
model: an alarm never promotes anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import State, dumps
from tenure.errors import ConflictError, MissingError
from tenure.monitor import panes
from tenure.monitor.detector import Running, pack, unpack
from tenure.stats import detector as stats

AlarmState = Literal["inactive", "pending", "firing", "no_data", "acknowledged", "resolved"]
Sign = Literal["true", "lasting", "false", "no_data", "acknowledge", "resolve"]

OPEN = ("pending", "firing", "no_data", "acknowledged")

MOVES: dict[tuple[AlarmState, Sign], AlarmState] = {
    ("inactive", "true"): "pending",
    ("inactive", "lasting"): "firing",
    ("pending", "lasting"): "firing",
    ("pending", "false"): "resolved",
    ("pending", "no_data"): "resolved",
    ("pending", "resolve"): "resolved",
    ("firing", "false"): "resolved",
    ("firing", "no_data"): "no_data",
    ("firing", "acknowledge"): "acknowledged",
    ("firing", "resolve"): "resolved",
    ("no_data", "lasting"): "firing",
    ("no_data", "true"): "firing",
    ("no_data", "false"): "resolved",
    ("no_data", "acknowledge"): "acknowledged",
    ("no_data", "resolve"): "resolved",
    ("acknowledged", "false"): "resolved",
    ("acknowledged", "resolve"): "resolved",
}


class Draft(msgspec.Struct, frozen=True):
    """What an alarm says; `numbers` has the effect first and what it asks for under `do`."""

    endpoint: str
    rule: str
    kind: str
    metric: str
    stage: str
    version: str
    message: str
    numbers: Mapping[str, Any]
    do: tuple[str, ...] = ("notify",)
    shape: str = ""
    onset_us: int | None = None


class AlarmEvent(msgspec.Struct, frozen=True):
    """An alarm changed its state. `do` lists the actions that are still to be done."""

    alarm: int
    endpoint: str
    rule: str
    kind: str
    state: AlarmState
    metric: str
    stage: str
    version: str
    message: str
    numbers: Mapping[str, Any]
    do: tuple[str, ...] = ()


def advance(state: AlarmState, sign: Sign) -> AlarmState:
    """Return the state after a sign; a sign that means nothing in a state leaves it as it is.

    Example:
        >>> advance("pending", "lasting"), advance("acknowledged", "lasting")
        ('firing', 'acknowledged')
    """
    return MOVES.get((state, sign), state)


def move(conn: Connection, draft: Draft, sign: Sign, now_us: int) -> AlarmEvent | None:
    """Apply a sign to the open alarm of a rule, or to none; returns what changed.

    The message and numbers follow the draft while the alarm is pending or firing.
    """
    row = open_alarm(conn, draft.endpoint, draft.rule)
    before: AlarmState = row["state"] if row else "inactive"
    after = advance(before, sign)
    if row is None:
        return _create(conn, draft, after, now_us) if after != "inactive" else None
    if after != before:
        _set_state(conn, row["id"], after, now_us)
    if after in ("pending", "firing"):
        rewrite(conn, row["id"], draft)
    return _event(conn, row["id"]) if after != before else None


def fire(conn: Connection, draft: Draft, now_us: int) -> AlarmEvent:
    """Open a new firing alarm."""
    return _create(conn, draft, "firing", now_us)


def rewrite(conn: Connection, alarm: int, draft: Draft) -> None:
    """Replace what an alarm says, as more becomes known about it."""
    values = _words(draft)
    conn.execute(t.alarms.update().where(t.alarms.c.id == alarm).values(**values))


def mark_done(conn: Connection, alarm: int, action: str, detail: str, now_us: int) -> bool:
    """Note that an action was done; False when it already was, and then it must not be done again."""
    done = _loads(conn.execute(sa.select(t.alarms.c.actions).where(t.alarms.c.id == alarm)).scalar())
    if any(entry["action"] == action for entry in done):
        return False
    done.append({"action": action, "detail": detail, "at_us": now_us})
    conn.execute(t.alarms.update().where(t.alarms.c.id == alarm).values(actions=dumps(done)))
    return True


def due(conn: Connection) -> list[AlarmEvent]:
    """Return the firing alarms with actions that nobody has noted as done."""
    ids = conn.execute(sa.select(t.alarms.c.id).where(t.alarms.c.state == "firing").order_by(t.alarms.c.id))
    events = [_event(conn, i) for i in ids.scalars().all()]
    return [e for e in events if e.do]


def acknowledge(state: State, alarm: int, by: str) -> AlarmEvent:
    """Say that a person knows; a drift detector starts from nothing again.

    Raises:
        MissingError: no such alarm.
        ConflictError: it is neither firing nor without data.
    """
    return _command(state, alarm, by, "acknowledge")


def resolve(state: State, alarm: int, by: str) -> AlarmEvent:
    """Close an alarm by hand.

    Raises:
        MissingError: no such alarm.
        ConflictError: it is closed already.
    """
    return _command(state, alarm, by, "resolve")


def listing(
    conn: Connection, endpoint: str | None = None, *, open_only: bool = False, limit: int = 200
) -> list[dict[str, Any]]:
    """Return alarms as plain values, newest first."""
    query = sa.select(t.alarms).order_by(t.alarms.c.id.desc()).limit(limit)
    if endpoint is not None:
        query = query.where(t.alarms.c.endpoint == endpoint)
    if open_only:
        query = query.where(t.alarms.c.state.in_(OPEN))
    return [_plain(row) for row in conn.execute(query).mappings()]


def open_alarm(conn: Connection, endpoint: str, rule: str) -> dict[str, Any] | None:
    """Return the newest open alarm of a rule."""
    query = (
        sa.select(t.alarms)
        .where(t.alarms.c.endpoint == endpoint, t.alarms.c.rule == rule, t.alarms.c.state.in_(OPEN))
        .order_by(t.alarms.c.id.desc())
        .limit(1)
    )
    row = conn.execute(query).mappings().first()
    return _plain(row) if row else None


def get(conn: Connection, alarm: int) -> dict[str, Any]:
    """Return one alarm; raises MissingError."""
    row = conn.execute(sa.select(t.alarms).where(t.alarms.c.id == alarm)).mappings().first()
    if row is None:
        raise MissingError(f"there is no alarm {alarm}; see `tenure alarms`", at=f"alarms.{alarm}")
    return _plain(row)


def close(conn: Connection, endpoint: str, rule: str, now_us: int) -> None:
    """Resolve every open alarm of a rule."""
    a = t.alarms.c
    chosen = (a.endpoint == endpoint, a.rule == rule, a.state.in_(OPEN))
    conn.execute(t.alarms.update().where(*chosen).values(state="resolved", resolved_us=now_us))


def reset_detector(conn: Connection, alarm: int, now_us: int) -> None:
    """Start the detector that is latched on an alarm from nothing; its reference stays."""
    for row in conn.execute(sa.select(t.detectors)).mappings().all():
        if row["board"] not in ("input", "output"):
            continue
        running = msgspec.json.decode(row["body"], type=Running)
        if running.latched == alarm:
            save(conn, row["endpoint"], row["board"], reset(running), now_us)


def reset(running: Running, *, latched: int | None = None) -> Running:
    """Return the board with nothing seen, held by the alarm `latched` or free."""
    empty = pack(stats.start(len(unpack(running.log_m)))) if running.log_m else ""
    return msgspec.structs.replace(running, log_m=empty, log_board=None, peak=None, panes=0, latched=latched)


def save(conn: Connection, endpoint: str, board: str, body: msgspec.Struct, now_us: int) -> None:
    """Store a board's running state."""
    text = msgspec.json.encode(body).decode()
    panes.upsert(conn, t.detectors, [{"endpoint": endpoint, "board": board, "body": text, "updated_us": now_us}])


def _command(state: State, alarm: int, by: str, sign: Sign) -> AlarmEvent:
    with state.begin() as conn:
        row = get(conn, alarm)
        after = advance(row["state"], sign)
        if after == row["state"]:
            raise ConflictError(f"alarm {alarm} is {row['state']}; it cannot be {sign}d", at=f"alarms.{alarm}")
        _set_state(conn, alarm, after, state.now_us(), by=by)
        reset_detector(conn, alarm, state.now_us())
        state.audit(conn, actor=by, action=f"alarm.{sign}", subject=str(alarm), detail={"rule": row["rule"]})
        return _event(conn, alarm)


def _create(conn: Connection, draft: Draft, after: AlarmState, now_us: int) -> AlarmEvent:
    result = conn.execute(
        t.alarms.insert().values(
            endpoint=draft.endpoint,
            rule=draft.rule,
            kind=draft.kind,
            state=after,
            actions="[]",
            pending_us=now_us,
            fired_us=now_us if after == "firing" else None,
            **_words(draft),
        )
    )
    return _event(conn, int(result.inserted_primary_key[0]))  # type: ignore[index]


def _set_state(conn: Connection, alarm: int, after: AlarmState, now_us: int, *, by: str | None = None) -> None:
    values: dict[str, Any] = {"state": after}
    if after == "firing":
        values["fired_us"] = sa.func.coalesce(t.alarms.c.fired_us, now_us)
    elif after == "acknowledged":
        values |= {"acknowledged_us": now_us, "acknowledged_by": by}
    elif after == "resolved":
        values["resolved_us"] = now_us
    conn.execute(t.alarms.update().where(t.alarms.c.id == alarm).values(**values))


def _words(draft: Draft) -> dict[str, Any]:
    return {
        "metric": draft.metric,
        "stage": draft.stage,
        "version": draft.version,
        "shape": draft.shape,
        "message": draft.message,
        "numbers": dumps({**draft.numbers, "do": list(draft.do)}),
        "onset_us": draft.onset_us,
    }


def _event(conn: Connection, alarm: int) -> AlarmEvent:
    row = get(conn, alarm)
    done = {entry["action"] for entry in row["actions"]}
    left = tuple(a for a in row["numbers"].get("do", ()) if a not in done) if row["state"] == "firing" else ()
    names = ("endpoint", "rule", "kind", "state", "metric", "stage", "version", "message", "numbers")
    return AlarmEvent(alarm=alarm, do=left, **{name: row[name] for name in names})


def _plain(row: sa.RowMapping) -> dict[str, Any]:
    return {**row, "numbers": _loads(row["numbers"]), "actions": _loads(row["actions"])}


def _loads(text: str | None) -> Any:
    return json.loads(text or "[]")
