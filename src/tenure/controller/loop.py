"""The control plane's heart: read the log, let every service reconcile, publish what changed.

One tick is one transaction: what the frames caused, what was decided on it, and how far was read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

from msgspec import msgpack, to_builtins
from sqlalchemy.engine import Connection

from tenure.controller.actions import Actions
from tenure.controller.archive import Archive
from tenure.controller.intake import Intake
from tenure.controller.publisher import Publisher
from tenure.data import access
from tenure.data.frames import Encoder
from tenure.data.keeper import Keeper, weight
from tenure.data.records import By, Kind, decode_id, plain_schema
from tenure.data.spool import SchemaStore, SpoolWriter
from tenure.data.state import State
from tenure.deploy.automation.ledger import Automation
from tenure.deploy.review.items import DueDecision
from tenure.deploy.review.queue import ReviewQueue
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.routing import RolloutRouting
from tenure.deploy.router import Endpoint
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.predict.idempotency import Claims
from tenure.maintain.exchange import waiting
from tenure.maintain.retrain import Retrainer
from tenure.model.registry import Registry
from tenure.monitor import notify, panes
from tenure.monitor.board import Monitor
from tenure.monitor.software import ProcessSampler
from tenure.scope.project import Project
from tenure.seeds import fresh_u64
from tenure.settings import Settings
from tenure.types import Level

_log = logging.getLogger("tenure.controller")
_TIDY_NS = 60_000_000_000
_SAMPLE_NS = 1_000_000_000
_EXPORT_NS = 1_000_000_000
_LEVELS_NS = 1_000_000_000
_GRACE_US = 300_000
_POLL_BYTES = 6 << 20  # more makes a long transaction, for which every command has to wait

_BY = {"person": By.PERSON, "fallback": By.FALLBACK}


class Controller:
    """Owns the tick. Everything that it needs is handed in by the composition root."""

    def __init__(
        self, project: Project, folder: Path, *, state: State, page: ControlPage, settings: Settings,
        secret: bytes, queue: ReviewQueue, automation: Automation, rollouts: Rollouts, monitor: Monitor,
        retrainer: Retrainer, registry: Registry, principals: access.Access,
    ) -> None:  # fmt: skip
        self._project, self._folder, self._state, self._page = project, folder, state, page
        self._settings, self._secret, self._clock = settings, secret, state.clock
        self._queue, self._automation, self._rollouts = queue, automation, rollouts
        self._monitor, self._retrainer = monitor, retrainer
        self._registry, self._principals = registry, principals
        self.keeper = Keeper(folder, state.clock)
        self.archive = Archive(state, self.keeper)
        self.publisher = Publisher(state, folder, page)
        self._actions = Actions(automation=automation, rollouts=rollouts, retrainer=retrainer)
        self._intake = Intake(
            project.endpoints, secret=secret, queue=queue, monitor=monitor, rollouts=rollouts,
            rollout_at=self.publisher.rollout_at,
        )  # fmt: skip
        self._schemas = SchemaStore(folder / "schemas")
        self._run = fresh_u64()
        self._spool = SpoolWriter(
            folder / "spool", "controller", self._run, segment_bytes=settings.segment_bytes,
            segment_s=settings.segment_s, durability="process", clock=state.clock,
        )  # fmt: skip
        self._encoders: dict[str, Encoder] = {}
        self._sampler = ProcessSampler()
        self._sampled_ns = 0
        self._levelled: dict[str, tuple[tuple[RolloutRouting, tuple[Level, ...]], int]] = {}
        self._exported_ns = 0
        self._retrain_later: tuple[str, str] | None = None
        self._deciding = Lock()
        self._in_doubt = False
        self._lost_place = False
        self._wake = Event()
        self._stop = Event()

    # Life

    def start(self) -> None:
        """Take up where the last controller ended and publish the first table; a hang is noticed from then on."""
        self.archive.recover()
        self._retrainer.recover()
        self._principals.export(self._folder / "tokens.json")
        self.tick()
        self._page.beat()

    def run(self) -> None:
        """Tick until `stop`; a failed tick is rolled back, logged and tried again."""
        chores = Thread(target=self._chores, name="chores", daemon=True)
        chores.start()
        sealing = self.archive.work()
        due_ns, period_ns = 0, int(self._settings.tick_s * 1e9)
        while not self._stop.is_set():
            self._page.beat()
            try:
                if self._clock.monotonic_ns() >= due_ns:
                    due_ns = 0  # again at once when it fails
                    start_ns = self._clock.monotonic_ns()
                    behind = self.tick()
                    self._slowly()
                    due_ns = start_ns + (0 if behind else period_ns)
                else:
                    self.deliver()
            except Exception:  # noqa: BLE001  # the control plane must outlive any single fault
                _log.exception("a tick of the controller failed; it is done again")
            self._wake.wait(self._pause_s(due_ns))
            self._wake.clear()
        self._spool.close()
        self._retrainer.close()
        self.archive.rest(sealing, 10)
        chores.join(timeout=10)

    def wake(self) -> None:
        """Deliver decisions now rather than at the end of the period: a client waits for each."""
        self._wake.set()

    def deliver(self) -> None:
        """Write the decisions that people made to the log; the workers answer with them."""
        with self._change() as conn:
            self._deliver(conn, self._state.now_us())

    def react(self) -> None:
        """Publish what a command changed at once, in the caller's thread: a roll-back waits for no tick."""
        try:
            with self._change() as conn:
                self._reconcile(conn, self._state.now_us(), at_once=True)
            self._show()
        except Exception:  # noqa: BLE001  # the command is committed; the next tick publishes it
            _log.exception("cannot publish at once; the next tick does")
        self.wake()

    def _pause_s(self, due_ns: int) -> float:
        left_s = (due_ns - self._clock.monotonic_ns()) / 1e9 if due_ns else self._settings.tick_s
        return min(max(0.0, left_s), self._settings.tick_s)

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()

    # One tick

    def tick(self) -> bool:
        """Read, reconcile, decide, publish; after a tick that raised, the next one does its work too.

        Returns whether there is more to read at once.
        """
        now_us = self._state.now_us()
        if self._lost_place:
            self.archive.rewind()
        self._lost_place = True
        reads = self.keeper.poll(_POLL_BYTES)
        behind, frames = weight(reads) >= _POLL_BYTES, [read.frame for read in reads]
        for fault in self.keeper.take_faults():
            _log.error("bad bytes in the log were put aside: %s", fault)
        with self._change() as conn:
            self._intake.take(conn, frames)
            self._sample(conn)
            self._queue.expire(conn, now_us)
            if behind:  # a pane may only be closed when all its rows were read
                self._monitor.flush(conn)
            else:
                self._monitor.reconcile(conn, now_us - _GRACE_US)
            for sentence in self._actions.perform(conn, now_us):
                _log.warning("%s", sentence)
            self._reconcile(conn, now_us)
            self._deliver(conn, now_us)
            positions = self.archive.store(conn)
        self.archive.committed(positions)
        self._lost_place = False
        self._page.controller_ns = self._clock.now_ns()  # first: who sees the table must see who watches it
        self._show()
        self._spool.tick()
        return behind

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        """Open the one transaction that may decide; what a failed one left in memory is read anew."""
        with self._deciding:
            if self._in_doubt:
                self.publisher.reload()
                self._rollouts.forget()
                self._monitor.forget()
                self._levelled.clear()
                self._in_doubt = False
            try:
                with self._state.begin() as conn:
                    yield conn
            except BaseException:
                self._in_doubt = True
                raise

    def _show(self) -> None:
        with self._deciding:  # never a table whose transaction is still open
            self.publisher.show()

    def _reconcile(self, conn: Connection, now_us: int, *, at_once: bool = False) -> None:
        """Let rollouts and levels move, then put the routing that follows from them."""
        causes: list[str] = []
        routes: dict[str, Endpoint] = {}
        for name in self._project.endpoints:
            causes += [
                f"{name}: {move.kind}: {move.reason}" for move in self._rollouts.reconcile(conn, name, now_us)
            ]
            routing = self._rollouts.routing(conn, name)
            causes += self._move_level(conn, name, now_us, routing=routing, at_once=at_once)
            routes[name] = Endpoint(
                stable=routing.stable,
                policy=self._automation.policy(conn, name),
                segments={
                    s: self._automation.policy(conn, name, s) for s in self._automation.segments(name) if s
                },
                candidate=routing.candidate,
                share=routing.share,
                shadows=routing.shadows,
                shadow=routing.shadow or 1.0,
                assign=routing.assign,
                salt=routing.salt,
                epoch_s=routing.epoch_s,
                warm=routing.warm,
                rollout=routing.rollout,
            )
            due = self._retrainer.due(conn, name, now_us)
            if due is not None:
                self._retrain_later = (name, due)
        if self.publisher.put(conn, routes, "; ".join(causes) or "start"):
            for name, route in routes.items():
                self._registry.set_live(conn, name, route.stable)
            _log.info("routing table %d: %s", self.publisher.table.version if self.publisher.table else 0, causes)

    def _move_level(
        self, conn: Connection, name: str, now_us: int, *, routing: RolloutRouting, at_once: bool
    ) -> list[str]:
        """Let the level move: each second suffices for evidence; other versions and commands do not wait."""
        now_ns, known = self._clock.monotonic_ns(), self._levelled.get(name)
        seen = routing, self._levels(conn, name)  # an operator may command in another process
        if known is not None and known[0] == seen and now_ns - known[1] < _LEVELS_NS and not at_once:
            return []
        live = _live(routing.stable, routing.candidate, routing.shadows)
        moves = self._automation.reconcile(
            conn, name, now_us, live=live, in_rollout=routing.rollout is not None, granted=routing.granted
        )
        self._levelled[name] = (routing, self._levels(conn, name)), now_ns
        return [f"{name}{f'/{m.segment}' if m.segment else ''}: {m.sentence}" for m in moves]

    def _levels(self, conn: Connection, name: str) -> tuple[Level, ...]:
        return tuple(self._automation.level_in(conn, name, s) for s in self._automation.segments(name))

    def _deliver(self, conn: Connection, now_us: int) -> None:
        """Write people's decisions to the log; the workers read them there."""
        due = self._queue.undelivered(conn, now_us)
        fallen = self._queue.fallen_back(conn, now_us)
        for decision in due + self._orphans(fallen):
            self._spool.append(self._decision_frame(decision))
        self._queue.mark_logged(conn, [decision.id for decision in due + fallen])

    def _orphans(self, fallen: Sequence[DueDecision]) -> list[DueDecision]:
        """Return the fallback's decisions whose worker died before the deadline; a living one wrote its own."""
        alive = {slot.run for slot in self._page.slots() if slot.state in ("ready", "draining")}
        runs = {due.id: decode_id(due.id, self._secret) for due in fallen}
        return [due for due in fallen if (key := runs[due.id]) is not None and key[0] not in alive]

    def _decision_frame(self, due: DueDecision) -> bytes:
        encoder = self._encoders.get(due.endpoint)
        if encoder is None:
            schema = plain_schema(Kind.DECISION, due.endpoint)
            self._schemas.put(schema)
            encoder = self._encoders[due.endpoint] = Encoder(schema)
        key = decode_id(due.id, self._secret)
        assert key is not None
        columns = {
            "run": (key[0],), "seq": (key[1],), "t_ns": (due.at_us * 1000,), "by": (int(_BY[due.by]),),
            "policy": (due.policy,),
        }  # fmt: skip
        return encoder.encode(
            run=self._run, first_seq=0, t_ns=self._clock.now_ns(), columns=columns, var=(_said(due),)
        )

    def _sample(self, conn: Connection) -> None:
        now = self._clock.monotonic_ns()
        if now - self._sampled_ns < _SAMPLE_NS:
            return
        self._sampled_ns = now
        pids = [slot.pid for slot in self._page.slots() if slot.state in ("ready", "draining")]
        self._monitor.sample(conn, self._sampler.sample(pids))

    # Now and then

    def _slowly(self) -> None:
        """Do what follows a tick, outside its transaction."""
        now = self._clock.monotonic_ns()
        if now - self._exported_ns >= _EXPORT_NS:  # a revoked token ends within this time
            self._exported_ns = now
            self._principals.export(self._folder / "tokens.json")
        self.archive.seal()
        self._train()

    def _chores(self) -> None:
        """Notify, merge, delete: in a thread of its own, because a webhook or a disk may be slow."""
        tidied_ns = self._clock.monotonic_ns()
        while not self._stop.wait(1.0):
            try:
                notify.deliver(self._state, self._state.now_us())
                if waiting.resume(self._state, self._queue):
                    self.wake()
                if self._clock.monotonic_ns() - tidied_ns >= _TIDY_NS:
                    tidied_ns = self._clock.monotonic_ns()
                    self._tidy()
            except Exception:  # noqa: BLE001  # tried again; the control plane must outlive any single fault
                _log.exception("a chore of the controller failed; it is done again")

    def _tidy(self) -> None:
        payloads = [spec.log.payloads for spec in self._project.endpoints.values()]
        self.archive.tidy(
            retention_s=max((p.retention for p in payloads), default=0.0),
            quota_bytes=sum(p.quota for p in payloads),
            protected=self._open_items(),
        )
        Claims(self._folder).forget(self._settings.idempotency_s, self._clock.now_ns() / 1e9)
        with self._state.begin() as conn:
            for name in self._project.endpoints:
                panes.prune(conn, name, self._state.now_us() - int(self._settings.panes_s * 1e6))

    def _train(self) -> None:
        due, self._retrain_later = self._retrain_later, None
        if due is not None:
            self._retrainer.start(due[0], due[1], "tenure")

    def _open_items(self) -> set[tuple[int, int]]:
        """Payloads of open items outlive any quota: a person has still to see them."""
        ids = self._queue.open_ids()
        return {key for key in (decode_id(item, self._secret) for item in ids) if key is not None}


def _live(stable: str | None, candidate: str | None, shadows: Sequence[str]) -> tuple[str, ...]:
    named = (stable, candidate, *shadows)
    return tuple(dict.fromkeys(version for version in named if version is not None))


def _said(due: DueDecision) -> bytes:
    value: Mapping[str, object] = {
        "value": due.value,
        "regions": [to_builtins(box) for box in due.regions] or None,
        "reader": due.reader or None,
        "item": due.id,
    }
    return msgpack.encode({k: v for k, v in value.items() if v is not None})
