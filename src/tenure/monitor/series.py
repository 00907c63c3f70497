"""What the console draws: pane means, drift per metric and pane, and what each reference allows to be seen."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.monitor import alarms, detector, events, metrics, panes, profile
from tenure.monitor.detector import Running, Watch
from tenure.monitor.profile import Profile
from tenure.scope.project import EndpointSpec

_P = t.panes.c


def series(
    conn: Connection,
    endpoint: str,
    spec: EndpointSpec,
    *,
    since_us: int,
    until_us: int,
    metrics_wanted: Collection[str] | None = None,
    max_points: int = 300,
) -> dict[str, Any]:
    """Return the charts of an endpoint as JSON values.

    Returns:
        `pane_s`, `point_s` (seconds of one point), `series` (a list of {stage, metric, version, title, unit,
        t_us, mean, n, missing, low, high, p10, p90}), `thresholds`, `events`, `alarms`.
        A number that does not exist is None. `p10` and `p90` are None where a point joins several panes.
    """
    pane_us = round(spec.monitor.pane * 1e6)
    joined = max(1, math.ceil((until_us - since_us) / pane_us / max_points))
    width = joined * pane_us
    lines = _lines(conn, endpoint, since_us, until_us, width, metrics_wanted)
    if joined == 1:
        _add_quantiles(conn, endpoint, since_us, until_us, lines)
    lines += _throughput(lines, width / 1e6, metrics_wanted)
    inside = [
        a for a in alarms.listing(conn, endpoint) if since_us <= (a["fired_us"] or a["pending_us"]) <= until_us
    ]
    return {
        "endpoint": endpoint,
        "pane_s": spec.monitor.pane,
        "point_s": width / 1e6,
        "series": lines,
        "thresholds": [msgspec.to_builtins(threshold) for threshold in spec.monitor.thresholds],
        "events": events.listing(conn, endpoint, since_us=since_us, until_us=until_us),
        "alarms": inside,
    }


def heatmap(
    conn: Connection, endpoint: str, spec: EndpointSpec, *, since_us: int, until_us: int, max_points: int = 120
) -> dict[str, Any]:
    """Return how much of the rows moved (`distance`), per metric and point of time, in [0, 1]; None without data.

    The number is the largest rise of any watched share over its reference, so it has noise of its own in panes
    with few rows; an alarm needs more than this picture.
    """
    pane_us = round(spec.monitor.pane * 1e6)
    width = max(1, math.ceil((until_us - since_us) / pane_us / max_points)) * pane_us
    points = list(range(since_us // width * width, until_us, width))
    rows: list[dict[str, Any]] = []
    for board in ("input", "output"):
        running = _running(conn, endpoint, board)
        found = panes.read(
            conn, endpoint, stages=(board,), version=running.version, since_us=since_us, until_us=until_us
        )
        rows += [_heat(watch, found, points, width) for watch in _watches(conn, endpoint, board)]
    return {"endpoint": endpoint, "point_s": width / 1e6, "t_us": points, "rows": rows}


def reference_report(conn: Connection, endpoint: str, spec: EndpointSpec) -> dict[str, Any]:
    """Return per board what is learnt, what is armed, what not and why, and the promise that holds."""
    boards = []
    for board in ("input", "output"):
        running = _running(conn, endpoint, board)
        boards.append(
            {
                "board": board,
                "phase": running.phase,
                "version": running.version,
                "note": running.note,
                "since_us": running.since_us,
                "target_panes": running.target,
                "panes": running.panes,
                "promise_panes": running.threshold or None,
                "evidence": _ratio(running),
                "latched": running.latched,
                "late_rows": running.late,
                "metrics": [_metric_report(watch) for watch in _watches(conn, endpoint, board)],
            }
        )
    return {
        "endpoint": endpoint,
        "pane_s": spec.monitor.pane,
        "false_alarms_s": spec.monitor.false_alarms,
        "tolerance": spec.monitor.tolerance,
        "boards": boards,
        "rules": _rules(conn, endpoint),
    }


def usefulness(conn: Connection, endpoint: str) -> list[dict[str, Any]]:
    """Return per metric how much it ever varied and how often it was in an alarm; for retiring idle ones.

    Having never fired does not make a metric useless; the person who retires it says why.
    """
    query = (
        sa.select(_P.stage, _P.metric, sa.func.count(), sa.func.min(_P.low), sa.func.max(_P.high))
        .where(_P.endpoint == endpoint)
        .group_by(_P.stage, _P.metric)
        .order_by(_P.stage, _P.metric)
    )
    fired = [row["metric"] for row in alarms.listing(conn, endpoint, limit=10_000)]
    acted = [row["metric"] for row in alarms.listing(conn, endpoint, limit=10_000) if row["acknowledged_us"]]
    return [
        {"stage": stage, "metric": metric, "panes": n, "low": low, "high": high, "constant": low == high,
         "alarms": fired.count(metric), "acknowledged": acted.count(metric)}
        for stage, metric, n, low, high in conn.execute(query)
    ]  # fmt: skip


Line = dict[str, Any]


def _lines(
    conn: Connection, endpoint: str, since_us: int, until_us: int, width: int, wanted: Collection[str] | None
) -> list[Line]:
    point = (_P.pane_us - _P.pane_us % width).label("point")
    query = (
        sa.select(
            _P.stage, _P.metric, _P.version, point, sa.func.sum(_P.n), sa.func.sum(_P.missing),
            sa.func.sum(_P.total), sa.func.min(_P.low), sa.func.max(_P.high),
        )
        .where(_P.endpoint == endpoint, _P.pane_us >= since_us, _P.pane_us < until_us)
        .group_by(_P.stage, _P.metric, _P.version, point)
        .order_by(_P.stage, _P.metric, _P.version, point)
    )  # fmt: skip
    if wanted is not None:
        query = query.where(_P.metric.in_([*wanted, *(["error_share"] if "throughput" in wanted else [])]))
    lines: dict[tuple[str, str, str], Line] = {}
    for stage, metric, version, at, n, missing, total, low, high in conn.execute(query):
        line = lines.setdefault((stage, metric, version), _line(stage, metric, version))
        point_of = {
            "t_us": int(at),
            "n": int(n),
            "missing": int(missing),
            "mean": float(total) / int(n) if n else None,
            "low": low,
            "high": high,
            "p10": None,
            "p90": None,
        }
        for name, number in point_of.items():
            line[name].append(number)
    return list(lines.values())


def _line(stage: str, metric: str, version: str) -> Line:
    known = metrics.find(metric, stage)
    empty: Line = {name: [] for name in ("t_us", "n", "missing", "mean", "low", "high", "p10", "p90")}
    return {
        "stage": stage,
        "metric": metric,
        "version": version,
        "title": known.title,
        "unit": known.unit,
        **empty,
    }


def _add_quantiles(conn: Connection, endpoint: str, since_us: int, until_us: int, lines: Sequence[Line]) -> None:
    columns = (
        _P.stage,
        _P.metric,
        _P.version,
        _P.pane_us,
        _P.n,
        _P.missing,
        _P.total,
        _P.low,
        _P.high,
        _P.counts,
    )
    query = sa.select(*columns).where(_P.endpoint == endpoint, _P.pane_us >= since_us, _P.pane_us < until_us)
    edges = {
        (w.stage, w.metric): w.edge_array()
        for board in ("input", "output")
        for w in _watches(conn, endpoint, board)
    }
    by_key = {(line["stage"], line["metric"], line["version"]): line for line in lines}
    index = {key: {at: i for i, at in enumerate(line["t_us"])} for key, line in by_key.items()}
    for r in conn.execute(query):
        key = (r.stage, r.metric, r.version)
        if key not in by_key or (metrics.find(r.metric, r.stage).unit == "share" and r.metric != "confidence"):
            continue
        found = Profile.unpack((r.n, r.missing, r.total, r.low, r.high), r.counts)
        at = index[key][r.pane_us]
        for name, q in (("p10", 0.1), ("p90", 0.9)):
            by_key[key][name][at] = _number(profile.quantile(found, q, edges.get((r.stage, r.metric))))


def _throughput(lines: Sequence[Line], point_s: float, wanted: Collection[str] | None) -> list[Line]:
    """Return the requests per second, counted by the rows behind `error_share`."""
    if wanted is not None and "throughput" not in wanted:
        return []
    out = []
    for source in (line for line in lines if line["metric"] == "error_share"):
        line = _line(metrics.SOFTWARE, "throughput", source["version"])
        line |= {name: source[name] for name in ("t_us", "n", "missing")}
        line["mean"] = [n / point_s for n in source["n"]]
        line |= {name: [None] * len(source["n"]) for name in ("low", "high", "p10", "p90")}
        out.append(line)
    return out


def _heat(
    watch: Watch, found: Mapping[int, Mapping[detector.Key, Profile]], points: Sequence[int], width: int
) -> dict[str, Any]:
    edges, key = watch.edge_array(), (watch.stage, watch.metric)
    k, n = np.zeros((len(points), len(watch.share))), np.zeros((len(points), len(watch.share)))
    for us, pane in found.items():
        at = us // width - points[0] // width
        part_k, part_n = detector.hits(pane.get(key), edges)
        k[at] += part_k
        n[at] += part_n
    share = np.divide(k, n, out=np.full_like(k, np.nan), where=n > 0)
    rise = share - np.array(watch.share)
    moved = [max(float(np.nanmax(row)), 0.0) if np.isfinite(row).any() else None for row in rise]
    title = metrics.find(watch.metric, watch.stage).title
    return {
        "stage": watch.stage,
        "metric": watch.metric,
        "title": title,
        "armed": any(watch.armed),
        "distance": moved,
    }


def _metric_report(watch: Watch) -> dict[str, Any]:
    names = detector.bet_names(watch.edges)
    delays = [d for d, armed in zip(watch.delay, watch.armed, strict=True) if armed and d >= 0]
    needed = [n for n in watch.needed if n >= 0]
    return {
        "stage": watch.stage,
        "metric": watch.metric,
        "title": metrics.find(watch.metric, watch.stage).title,
        "unit": metrics.find(watch.metric, watch.stage).unit,
        "armed": sum(watch.armed),
        "bets": len(names),
        "note": watch.note,
        "mean": watch.mean,
        "low": watch.low,
        "high": watch.high,
        "rows": max(watch.rows, default=0.0),
        "design_effect": max(watch.deff, default=1.0),
        "delay_rows": max(delays) if delays else None,
        "rows_needed": min(needed) if needed else None,
    }


def _running(conn: Connection, endpoint: str, board: str) -> Running:
    d = t.detectors.c
    body = conn.execute(sa.select(d.body).where(d.endpoint == endpoint, d.board == board)).scalar()
    return msgspec.json.decode(body, type=Running) if body else Running()


def _watches(conn: Connection, endpoint: str, board: str) -> tuple[Watch, ...]:
    r = t.references.c
    query = sa.select(r.body).where(r.endpoint == endpoint, r.stage == board).order_by(r.metric)
    return tuple(msgspec.json.decode(body, type=Watch) for body in conn.execute(query).scalars())


def _rules(conn: Connection, endpoint: str) -> dict[str, Any]:
    d = t.detectors.c
    body = conn.execute(sa.select(d.body).where(d.endpoint == endpoint, d.board == "thresholds")).scalar()
    return dict(json.loads(body)["rules"]) if body else {}


def _ratio(running: Running) -> float | None:
    """Return the evidence as a share of what an alarm needs, on the log scale; 1 = alarm."""
    if running.log_board is None or running.threshold <= 1:
        return None
    return float(max(running.log_board / math.log(running.threshold), 0.0))


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None
