"""The monitor: counts what was logged, learns what is normal, and says when it no longer is.

All state is in the tables `panes`, `references`, `detectors` and `alarms`, so that a new `Monitor` on the same
database goes on where the last one was. What `observe` counted is written by `reconcile` or `flush` in the same
transaction; when that transaction is rolled back, the counts are forgotten with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.clock import Clock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.errors import MissingError
from tenure.monitor import alarms, detector, explain, metrics, notify, panes, thresholds
from tenure.monitor.alarms import AlarmEvent
from tenure.monitor.detector import Running, Watch
from tenure.monitor.explain import Case
from tenure.monitor.measure import Cell, Rows, measure, stable_version
from tenure.monitor.profile import Ints, Profile
from tenure.monitor.thresholds import Rule, Rules
from tenure.scope.project import EndpointSpec, Output
from tenure.stats import detector as stats

BOARDS: tuple[metrics.Board, ...] = ("input", "output")

SHAPE_PANES = 60
"""Panes after an alarm during which its shape is judged again, as long as it is too early to tell."""

SETTLE_PANES = 6
"""Panes after an alarm during which its words are renewed in any case: the first ones see little."""

Panes = Mapping[int, Mapping[detector.Key, Profile]]


class Monitor:
    """Watches all endpoints of a project.

    Args:
        state: the control state.
        endpoints: name -> its part of the project file.
        clock: for samples.
        outputs: name -> what the endpoint answers; default the endpoint's own `output`.
        grace_s: a pane is closed this long after its end; rows that come later are charted, not judged.
    """

    def __init__(
        self,
        state: State,
        endpoints: Mapping[str, EndpointSpec],
        *,
        clock: Clock,
        outputs: Mapping[str, Output] | None = None,
        grace_s: float = 1.0,
    ) -> None:
        self._state = state
        self._specs = dict(endpoints)
        self._clock = clock
        self._outputs = dict(outputs or {})
        self._grace_us = round(grace_s * 1e6)
        self._closed: dict[str, int] = {}
        self._transaction: object = None
        self._counted: dict[str, dict[Cell, Profile]] = {}
        self._stable: dict[str, tuple[int, str]] = {}

    def observe(self, conn: Connection, rows: Rows) -> None:
        """Count the rows of a prediction frame; they are written by `reconcile` in the same transaction.

        Raises:
            MissingError: the project has no such endpoint.
        """
        spec = self._spec(rows.endpoint)
        output = self._outputs.get(rows.endpoint, spec.output)
        self._add(conn, rows.endpoint, measure(rows, pane_us=_pane_us(spec), output=output))
        stable = stable_version(rows)
        if stable is not None:
            self._stable[rows.endpoint] = max(stable, self._stable.get(rows.endpoint, stable))

    def sample(self, conn: Connection, sampled: Mapping[str, float], *, endpoint: str | None = None) -> None:
        """Count one software sample, such as `server_load`, at the clock's time; for all endpoints by default."""
        for name in self._specs if endpoint is None else (endpoint,):
            pane_us = _pane_us(self._spec(name))
            start = self._clock.now_ns() // 1000 // pane_us * pane_us
            cells = {
                Cell(metrics.ALL_VERSIONS, metrics.SOFTWARE, metric, start): Profile.of([value])
                for metric, value in sampled.items()
            }
            self._add(conn, name, cells)

    def reconcile(self, conn: Connection, now_us: int) -> list[AlarmEvent]:
        """Write what was counted, judge the panes that have closed, and return the alarms that changed.

        Args:
            conn: the tick's transaction; nothing is committed here.
            now_us: the time up to which all logs have been read, normally now.
        """
        self.flush(conn)
        changed: list[AlarmEvent] = []
        for endpoint, spec in self._specs.items():
            pane_us = _pane_us(spec)
            closed = (now_us - self._grace_us) // pane_us * pane_us
            if self._closed.get(endpoint) == closed:
                continue
            for board in BOARDS:
                changed += self._judge(conn, endpoint, board, closed, now_us)
            changed += self._thresholds(conn, endpoint, closed, now_us)
            self._closed[endpoint] = closed
        return [self._notify(conn, event, now_us) for event in changed]

    def flush(self, conn: Connection) -> None:
        """Write what `observe` and `sample` counted in this transaction."""
        counted, stable = self._counted, self._stable
        if self._transaction is not conn.get_transaction():
            counted, stable = {}, {}
        for endpoint, cells in counted.items():
            edges = self._meet(conn, endpoint, cells, stable.get(endpoint))
            panes.add(conn, endpoint, cells, edges)
        self._counted, self._stable = {}, {}

    def forget(self) -> None:
        """Drop what a transaction that was rolled back left in memory; the closed panes are judged again."""
        self._closed, self._transaction, self._counted, self._stable = {}, None, {}, {}

    def relearn(self, conn: Connection, endpoint: str, by: str) -> None:
        """Accept what comes from the next full pane on as normal; open drift alarms are resolved.

        Raises:
            MissingError: the project has no such endpoint.
        """
        spec, now_us = self._spec(endpoint), self._clock.now_ns() // 1000
        pane_us = _pane_us(spec)
        since = (now_us // pane_us + 1) * pane_us
        for board in BOARDS:
            running = self.running(conn, endpoint, board)
            alarms.close(conn, endpoint, f"drift:{board}", now_us)
            self._restart(conn, endpoint, board, running, since_us=since)
        self._state.audit(conn, actor=by, action="monitor.relearn", subject=endpoint, detail={"since_us": since})

    def running(self, conn: Connection, endpoint: str, board: metrics.Board) -> Running:
        """Return where a board stands."""
        d = t.detectors.c
        query = sa.select(d.body).where(d.endpoint == endpoint, d.board == board)
        body = conn.execute(query).scalar()
        return msgspec.json.decode(body, type=Running) if body else Running()

    def watches(self, conn: Connection, endpoint: str, board: metrics.Board) -> tuple[Watch, ...]:
        """Return a board's reference; empty before it was learnt."""
        r = t.references.c
        query = sa.select(r.body).where(r.endpoint == endpoint, r.stage == board).order_by(r.stage, r.metric)
        return tuple(msgspec.json.decode(body, type=Watch) for body in conn.execute(query).scalars())

    def threshold(self, spec: EndpointSpec) -> float:
        """Return A of one board: panes with data between false alarms, so that the project keeps its budget."""
        return spec.monitor.false_alarms / spec.monitor.pane * self._boards()

    def _signature(self, endpoint: str) -> str:
        """Return the settings behind a board's promise; when they change, the board starts again."""
        m = self._specs[endpoint].monitor
        return (
            f"pane {m.pane:g} false_alarms {m.false_alarms:g} tolerance {m.tolerance:g} boards {self._boards()}"
        )

    def _boards(self) -> int:
        return len(BOARDS) * max(len(self._specs), 1)

    def _spec(self, endpoint: str) -> EndpointSpec:
        if endpoint not in self._specs:
            known = ", ".join(self._specs) or "none"
            raise MissingError(f"there is no endpoint {endpoint!r}; known: {known}", at=f"endpoints.{endpoint}")
        return self._specs[endpoint]

    def _add(self, conn: Connection, endpoint: str, cells: Mapping[Cell, Profile]) -> None:
        transaction = conn.get_transaction()
        if self._transaction is not transaction:
            self._transaction, self._counted, self._stable = transaction, {}, {}
        counted = self._counted.setdefault(endpoint, {})
        for cell, profile in cells.items():
            counted[cell] = counted[cell] + profile if cell in counted else profile

    def _meet(
        self, conn: Connection, endpoint: str, cells: Mapping[Cell, Profile], stable: tuple[int, str] | None
    ) -> panes.Edges:
        """Start boards that see their first data or another version; return the edges in force."""
        edges: dict[tuple[str, str], Ints] = {}
        for board in BOARDS:
            running = self.running(conn, endpoint, board)
            version = metrics.ALL_VERSIONS if board == "input" else (stable[1] if stable else running.version)
            starts = [c.pane_us for c in cells if c.stage == board and c.version == version]
            newer = board == "output" and stable is not None and stable[0] >= running.routing
            other = newer and version != running.version
            if starts and (other or not running.since_us):
                routing = stable[0] if stable else 0
                fresh = msgspec.structs.replace(running, version=version, routing=routing)
                since = min(starts) + _pane_us(self._specs[endpoint])
                running = self._restart(conn, endpoint, board, fresh, since_us=since)
            elif newer and stable is not None and stable[0] > running.routing:
                running = self._save(conn, endpoint, board, msgspec.structs.replace(running, routing=stable[0]))
            judged = board == "input" and running.phase == "armed"
            late = _late(cells, running.next_us) if judged else 0
            if late:
                counted = msgspec.structs.replace(running, late=running.late + late)
                running = self._save(conn, endpoint, board, counted)
            if running.phase == "armed":
                edges |= {(w.stage, w.metric): w.edge_array() for w in self.watches(conn, endpoint, board)}
        return edges

    def _restart(
        self, conn: Connection, endpoint: str, board: metrics.Board, running: Running, *, since_us: int
    ) -> Running:
        """Forget a board's reference and learn a new one from `since_us` on."""
        r = t.references.c
        conn.execute(t.references.delete().where(r.endpoint == endpoint, r.stage == board))
        target = self._specs[endpoint].monitor.reference
        fresh = Running(
            version=running.version,
            routing=running.routing,
            since_us=since_us,
            next_us=since_us,
            target=target,
            late=running.late,
            note=f"learning: 0 of {target} panes",
            terms=self._signature(endpoint),
        )
        return self._save(conn, endpoint, board, fresh)

    def _save(self, conn: Connection, endpoint: str, board: str, running: Running) -> Running:
        alarms.save(conn, endpoint, board, running, self._clock.now_ns() // 1000)
        return running

    def _judge(
        self, conn: Connection, endpoint: str, board: metrics.Board, closed_us: int, now_us: int
    ) -> list[AlarmEvent]:
        running = self.running(conn, endpoint, board)
        if not running.since_us:
            return []
        if running.terms != self._signature(endpoint):
            alarms.close(conn, endpoint, f"drift:{board}", now_us)
            pane_us = _pane_us(self._specs[endpoint])
            running = self._restart(conn, endpoint, board, running, since_us=closed_us + pane_us)
        if running.phase == "learning":
            self._learn(conn, endpoint, board, running, closed_us)
            return []
        watches = self.watches(conn, endpoint, board)
        case = Case(endpoint, self._specs[endpoint], board, running, watches, closed_us)
        if running.latched is not None:
            self._renew(conn, case, running.latched)
            self._save(conn, endpoint, board, msgspec.structs.replace(running, next_us=closed_us))
            return []
        return self._step(conn, case, now_us)

    def _learn(
        self, conn: Connection, endpoint: str, board: metrics.Board, running: Running, closed_us: int
    ) -> None:
        """Learn the reference once there are enough panes; when nothing can be armed, wait for twice as many."""
        seen = panes.count(conn, endpoint, board, running.version, running.since_us, closed_us)
        if seen < running.target:
            note = "; ".join([f"learning: {seen} of {running.target} panes", *filter(None, [running.refused])])
            self._save(conn, endpoint, board, msgspec.structs.replace(running, note=note))
            return
        spec = self._specs[endpoint]
        found = self._read(conn, endpoint, board, running.version, running.since_us, closed_us)
        if not found:
            return
        watches = detector.learn(list(found.values()), self._terms(spec, found))
        self._store(conn, endpoint, watches, closed_us)
        bets = detector.armed(watches)
        if not bets.any():
            reasons = "; ".join(dict.fromkeys(w.note for w in watches)) or "no metric has a value"
            waiting = msgspec.structs.replace(running, target=2 * seen, note=reasons, refused=reasons)
            self._save(conn, endpoint, board, waiting)
            return
        edges = {(w.stage, w.metric): w.edge_array() for w in watches}
        panes.rebin(conn, endpoint, found, edges, running.version)
        armed = msgspec.structs.replace(
            running,
            phase="armed",
            refused="",
            next_us=closed_us,
            log_m=detector.pack(stats.start(len(bets))),
            threshold=self.threshold(spec),
            note=f"armed: {int(bets.sum())} of {len(bets)} bets on {len(found)} panes",
        )
        self._save(conn, endpoint, board, armed)

    def _terms(self, spec: EndpointSpec, found: Panes) -> stats.Terms:
        rows = np.mean([max(p.rows for p in pane.values()) for pane in found.values()])
        return stats.Terms(
            threshold=self.threshold(spec),
            risk=stats.REFERENCE_RISK / self._boards(),
            bets=1,
            delay_rows=float(rows) * spec.monitor.notice / spec.monitor.pane,
            tolerance=spec.monitor.tolerance,
        )

    def _read(
        self, conn: Connection, endpoint: str, board: metrics.Board, version: str, since_us: int, until_us: int
    ) -> Panes:
        """Return the closed panes with data, with the metrics that the board watches."""
        m = t.metrics.c
        query = sa.select(m.name).where(m.endpoint == endpoint, m.status != "active")
        idle = set(conn.execute(query).scalars())
        found = panes.read(conn, endpoint, stages=(board,), version=version, since_us=since_us, until_us=until_us)
        chosen = {
            us: {k: p for k, p in pane.items() if k[1] not in idle and metrics.find(k[1], k[0]).board == board}
            for us, pane in found.items()
        }
        return {us: pane for us, pane in chosen.items() if any(p.rows for p in pane.values())}

    def _store(self, conn: Connection, endpoint: str, watches: Sequence[Watch], now_us: int) -> None:
        rows = [
            {"endpoint": endpoint, "stage": w.stage, "metric": w.metric, "learned_us": now_us,
             "body": msgspec.json.encode(w).decode()}
            for w in watches
        ]  # fmt: skip
        panes.upsert(conn, t.references, rows)

    def _step(self, conn: Connection, case: Case, now_us: int) -> list[AlarmEvent]:
        """Step the test over every closed pane with data, up to the first that crosses the threshold."""
        running, watches = case.running, case.watches
        log_m, bets = detector.unpack(running.log_m), detector.armed(watches)
        value, peak, count = running.log_board, running.peak, running.panes
        found = self._read(conn, case.endpoint, case.board, running.version, running.next_us, case.until_us)
        for pane in found.values():
            log_m = detector.step(watches, log_m, pane)
            value, count = stats.board(log_m, bets), count + 1
            peak = value if peak is None else max(peak, value)
            if value >= np.log(running.threshold):
                break
        finite = value if value is not None and np.isfinite(value) else None
        after = msgspec.structs.replace(
            running, next_us=case.until_us, log_m=detector.pack(log_m), log_board=finite,
            peak=peak if peak is not None and np.isfinite(peak) else None, panes=count,
        )  # fmt: skip
        if value is None or value < np.log(running.threshold):
            self._save(conn, case.endpoint, case.board, after)
            return []
        return self._fire(conn, msgspec.structs.replace(case, running=after), log_m, now_us)

    def _fire(self, conn: Connection, case: Case, log_m: stats.Floats, now_us: int) -> list[AlarmEvent]:
        """Raise the alarm, or keep quiet when a person has already acknowledged that this metric moved."""
        moved = detector.convincing(case.watches, log_m, case.running.threshold)
        known = alarms.open_alarm(conn, case.endpoint, f"drift:{case.board}")
        if known is not None and known["metric"] in {w.metric for w in moved}:
            self._save(conn, case.endpoint, case.board, alarms.reset(case.running))
            return []
        draft = explain.draft(conn, case, explain.rank(conn, case, moved))
        event = alarms.fire(conn, draft, now_us)
        self._save(conn, case.endpoint, case.board, alarms.reset(case.running, latched=event.alarm))
        return [event]

    def _renew(self, conn: Connection, case: Case, alarm: int) -> None:
        """Say more about an alarm while it is young: how it began shows only after a few panes."""
        row = alarms.get(conn, alarm)
        age = (case.until_us - int(row["fired_us"] or 0)) / case.pane_us
        if age > SHAPE_PANES or (age > SETTLE_PANES and row["shape"] != "too early to tell"):
            return
        named = [row["metric"], *row["numbers"].get("also", ())]
        suspects = [w for name in named for w in case.watches if w.metric == name]
        if suspects:
            alarms.rewrite(conn, alarm, explain.draft(conn, case, suspects))

    def _thresholds(self, conn: Connection, endpoint: str, closed_us: int, now_us: int) -> list[AlarmEvent]:
        spec = self._specs[endpoint]
        if not spec.monitor.thresholds:
            return []
        pane_us = _pane_us(spec)
        stored = self._rules(conn, endpoint)
        rules, changed = dict(stored.rules), []
        todo = thresholds.silent_panes(stored.next_us, closed_us, pane_us)
        if not todo:
            return []
        version = self.running(conn, endpoint, "output").version
        values = self._values(conn, endpoint, version, todo[0], closed_us)
        for start in todo:
            for threshold in spec.monitor.thresholds:
                name = thresholds.name(threshold)
                value = thresholds.value_of(threshold.metric, values.get(start, {}), spec.monitor.pane)
                rule, sign = thresholds.judge(
                    rules.get(name, Rule()), threshold, value, start_us=start, end_us=start + pane_us
                )
                rules[name] = rule
                draft = thresholds.draft(endpoint, threshold, rule, version, end_us=start + pane_us)
                changed.append(alarms.move(conn, draft, sign, now_us))
        alarms.save(conn, endpoint, "thresholds", Rules(closed_us, rules), now_us)
        return [event for event in changed if event is not None]

    def _values(self, conn: Connection, endpoint: str, version: str, since_us: int, until_us: int) -> Panes:
        """Return all metrics per pane: those of all versions, and the outputs of the stable one."""
        stages = metrics.stages(self._specs[endpoint])
        out: dict[int, dict[detector.Key, Profile]] = {}
        for chosen in dict.fromkeys((metrics.ALL_VERSIONS, version)):
            found = panes.read(
                conn, endpoint, stages=stages, version=chosen, since_us=since_us, until_us=until_us
            )
            for us, pane in found.items():
                out.setdefault(us, {}).update(pane)
        return out

    def _rules(self, conn: Connection, endpoint: str) -> Rules:
        d = t.detectors.c
        query = sa.select(d.body).where(d.endpoint == endpoint, d.board == "thresholds")
        body = conn.execute(query).scalar()
        return msgspec.json.decode(body, type=Rules) if body else Rules()

    def _notify(self, conn: Connection, event: AlarmEvent, now_us: int) -> AlarmEvent:
        """Put a firing alarm into the outbox, once; returns the event without that action."""
        if "notify" not in event.do:
            return event
        target = self._specs[event.endpoint].monitor.webhook
        detail = "no webhook is set: shown in the console" if target is None else "in the outbox"
        if alarms.mark_done(conn, event.alarm, "notify", detail, now_us) and target is not None:
            notify.enqueue(conn, target, event, now_us)
        return msgspec.structs.replace(event, do=tuple(a for a in event.do if a != "notify"))


def _pane_us(spec: EndpointSpec) -> int:
    return round(spec.monitor.pane * 1e6)


def _late(cells: Mapping[Cell, Profile], next_us: int) -> int:
    """Count the rows whose pane was already judged."""
    return sum(p.rows for c, p in cells.items() if c.pane_us < next_us and c.metric == "error_share")
