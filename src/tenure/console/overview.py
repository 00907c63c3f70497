"""The overview: what needs a person now, and how each endpoint stands."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.console.query import many, newest, one
from tenure.console.route import VIEW, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.monitor import series

OPEN_ALARM = ("firing", "acknowledged")
OPEN_ITEM = ("open", "judged", "conflict")
OPEN_ROLLOUT = ("draft", "running", "paused")


def overview(services: Services, ask: Ask) -> dict[str, Any]:
    """Return every endpoint's state and the list of what needs a person, most urgent first."""
    with services.state.read() as conn:
        endpoints = [summary(services, conn, name) for name in services.project.endpoints]
        events = newest(conn, t.events, 10)
    needs = [need for entry in endpoints for need in needs_of(entry)]
    return {
        "project": services.project.project,
        "now_us": services.state.now_us(),
        "needs": sorted(needs, key=lambda need: need["rank"]),
        "endpoints": endpoints,
        "events": events,
        "health": services.health(),
    }


def endpoint(services: Services, ask: Ask) -> dict[str, Any]:
    """Return one endpoint: its state, its pipeline and what was promised for it."""
    name = endpoint_of(services, ask.path["endpoint"])
    spec = services.project.endpoints[name]
    with services.state.read() as conn:
        entry = summary(services, conn, name)
        events = newest(conn, t.events, 50, sa.or_(t.events.c.endpoint == name, t.events.c.endpoint.is_(None)))
    return {
        **entry,
        "pipeline": [{"stage": s.stage, "placement": s.placement, "budget_s": s.budget} for s in spec.pipeline],
        "thresholds": [
            {"metric": r.metric, "above": r.above, "below": r.below, "for_s": r.lasting}
            for r in spec.monitor.thresholds
        ],
        "latency_budget_s": spec.serve.latency,
        "pane_s": spec.monitor.pane,
        "labels": list(services.project.output(name).labels),
        "regions": services.project.output(name).regions,
        "events": events,
        "now_us": services.state.now_us(),
    }


def summary(services: Services, conn: Connection, name: str) -> dict[str, Any]:
    """Return the level, the versions, the rollout, the alarms and the queue of one endpoint."""
    moved = sa.select(t.levels).where(t.levels.c.endpoint == name, t.levels.c.segment == "")
    level = one(conn, moved.order_by(t.levels.c.id.desc()).limit(1))
    return {
        "endpoint": name,
        "input": services.project.endpoints[name].input,
        "level": level["to_level"] if level else services.project.endpoints[name].automation.start,
        "level_since_us": level["at_us"] if level else None,
        "level_cause": level["cause"] if level else "the project file's start",
        "segments": {
            segment: services.automation.level_in(conn, name, segment).word
            for segment in services.automation.segments(name)
            if segment
        },
        "ready": services.automation.ready(conn, name),
        "routing": routing(conn, name),
        "rollout": rollout(conn, name),
        "alarms": alarms(conn, name),
        "review": review(conn, name),
        "flow": flow(services, conn, name),
        "judged": judged(conn, name, services.state.now_us() - 3_600_000_000),
    }


def routing(conn: Connection, name: str) -> dict[str, Any] | None:
    """Return the endpoint's part of the routing table in force."""
    table = t.routing_tables
    row = one(conn, sa.select(table).order_by(table.c.version.desc()).limit(1), decode=("body",))
    part = row["body"].get("endpoints", {}).get(name) if row else None
    return None if row is None or part is None else {**part, "table": row["version"], "made_us": row["made_us"]}


def rollout(conn: Connection, name: str) -> dict[str, Any] | None:
    """Return the open rollout of an endpoint in short, or None."""
    table = t.rollouts
    found = one(
        conn,
        sa.select(table)
        .where(table.c.endpoint == name, table.c.state.in_(OPEN_ROLLOUT))
        .order_by(table.c.created_us.desc())
        .limit(1),
        decode=("plan",),
    )
    if found is None:
        return None
    keys = ("id", "candidate", "stable", "state", "step", "step_started_us", "reason", "plan", "attempt")
    return {key: found[key] for key in keys}


def alarms(conn: Connection, name: str) -> list[dict[str, Any]]:
    """Return the open alarms of an endpoint in short, newest first."""
    table = t.alarms
    where = (table.c.endpoint == name, table.c.state.in_(OPEN_ALARM))
    return [
        {k: row[k] for k in ("id", "state", "rule", "metric", "stage", "version", "shape", "message", "fired_us")}
        for row in newest(conn, table, 20, *where)
    ]


def review(conn: Connection, name: str) -> dict[str, Any]:
    """Return how many items wait, by state, how many hold a client up, and since when."""
    item = t.review_items.c
    states = many(
        conn,
        sa.select(item.state, sa.func.count().label("n"), sa.func.min(item.created_us).label("oldest_us"))
        .where(item.endpoint == name, item.state.in_(OPEN_ITEM))
        .group_by(item.state),
    )
    pending = conn.execute(
        sa.select(sa.func.count()).where(item.endpoint == name, item.state.in_(OPEN_ITEM), item.pending == 1)
    ).scalar_one()
    return {
        "open": sum(s["n"] for s in states),
        "conflict": sum(s["n"] for s in states if s["state"] == "conflict"),
        "pending": pending,
        "oldest_us": min((s["oldest_us"] for s in states), default=None),
    }


def flow(services: Services, conn: Connection, name: str) -> dict[str, Any] | None:
    """Return the newest panes' request rate, share decided by the model and mean latency; None when idle."""
    spec = services.project.endpoints[name]
    pane_us = round(spec.monitor.pane * 1e6)
    until_us = services.state.now_us() // pane_us * pane_us
    since_us = until_us - max(5 * pane_us, 10_000_000)
    wanted = ("throughput", "automated", "latency_ms")
    found = series.series(conn, name, spec, since_us=since_us, until_us=until_us, metrics_wanted=wanted)["series"]
    lines = {metric: [line for line in found if line["metric"] == metric] for metric in wanted}
    counted = sum(sum(line["n"]) for line in lines["throughput"])
    if not counted:
        return None
    return {
        "per_second": counted / ((until_us - since_us) / 1e6),
        "automated": _mean(lines["automated"]),
        "latency_ms": _mean(lines["latency_ms"]),
        "seconds": (until_us - since_us) / 1e6,
    }


def _mean(lines: list[dict[str, Any]]) -> float | None:
    pairs = [(m, n) for line in lines for m, n in zip(line["mean"], line["n"], strict=True) if m is not None]
    rows = sum(n for _, n in pairs)
    return sum(m * n for m, n in pairs) / rows if rows else None


def judged(conn: Connection, name: str, since_us: int) -> int:
    """Return how many judgements people gave since then."""
    judgement, item = t.judgements.c, t.review_items.c
    return int(
        conn.execute(
            sa.select(sa.func.count())
            .select_from(t.judgements.join(t.review_items, judgement.item == item.id))
            .where(item.endpoint == name, judgement.at_us >= since_us, judgement.skip.is_(None))
        ).scalar_one()
    )


def needs_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what an endpoint needs a person for; `rank` 0 is the most urgent."""
    name, needs = entry["endpoint"], []

    def add(rank: int, kind: str, text: str, since_us: int | None) -> None:
        needs.append({"rank": rank, "kind": kind, "endpoint": name, "text": text, "since_us": since_us})

    for alarm in entry["alarms"]:
        if alarm["state"] == "firing":
            add(0, "alarm", alarm["message"], alarm["fired_us"])
    rollout = entry["rollout"]
    if rollout is not None and rollout["state"] != "running":
        why = rollout["reason"] or "not started yet"
        text = f"The rollout of {rollout['candidate']} is {rollout['state']}: {why}"
        add(1, "rollout", text, rollout["step_started_us"])
    waiting = entry["review"]
    if waiting["pending"]:
        add(
            2,
            "review",
            f"{_count(waiting['pending'], 'client waits', 'clients wait')} for a judgement",
            waiting["oldest_us"],
        )
    if waiting["conflict"]:
        add(
            3,
            "conflict",
            f"{_count(waiting['conflict'], 'item needs', 'items need')} adjudication",
            waiting["oldest_us"],
        )
    for segment, since_us in entry["ready"].items():
        who = f"{name}, {segment}," if segment else name
        add(
            4,
            "level",
            f"{who} holds a certificate; to let the model decide where it covers is up to you",
            since_us,
        )
    rest = waiting["open"] - waiting["pending"]
    if rest > 0:
        add(5, "review", f"{_count(rest, 'item waits', 'items wait')} in the review queue", waiting["oldest_us"])
    return needs


def _count(n: int, one_word: str, many_words: str) -> str:
    return f"{n:,} {one_word if n == 1 else many_words}"


ROUTES = (
    Route("GET", "/api/overview", VIEW, overview, "Every endpoint's state and what needs a person now"),
    Route(
        "GET", "/api/endpoints/{endpoint}", VIEW, endpoint, "One endpoint: state, pipeline, thresholds, events"
    ),
)
