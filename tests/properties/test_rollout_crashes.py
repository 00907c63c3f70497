"""R1-R10 when the process dies at any write, workers lag behind, and every command comes in every state.

The ledger, the publisher and the control page are the real ones. A crash is an error at the n-th write of a
transaction; what follows is a new process on the same database and folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rollout_rig import FAILED, LATE, NAME, V1, V2, V3, VERSIONS, feed, ledger, rows
from tenure.clock import ManualClock
from tenure.controller.publisher import Publisher
from tenure.data import tables as t
from tenure.data.state import State, verify_audit
from tenure.deploy.rollout import evidence, store
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.plan import Plan
from tenure.deploy.router import Endpoint, Policy, Table
from tenure.deploy.serving.control_page import ControlPage
from tenure.errors import ConflictError, MissingError, TenureError
from tenure.scope.project import Step
from tenure.types import Level

_CLOCK = ManualClock()
_FOLDER = tempfile.TemporaryDirectory()
_STATE = State.open(Path(_FOLDER.name) / "state.db", _CLOCK)
_TABLES = (
    t.rollouts, t.rollout_moves, t.evidence, t.verdicts, t.rollout_units, t.versions, t.meta, t.audit,
    t.routing_tables,
)  # fmt: skip

PLANS = (
    Plan(
        steps=(Step(share=0.05, min=5), Step(share=0.5, min=50, approve=True), Step(share=1.0)),
        gates=(FAILED, LATE),
    ),
    Plan(steps=(Step(shadow=1.0, min=20), Step(share=0.25, min=10), Step(share=1.0)), gates=(FAILED,)),
)
ENDS = ("completed", "rolled_back", "cancelled")
WORKS = {
    "pause": {"running"}, "resume": {"paused"}, "promote": {"running"}, "approve": {"running"},
    "jump": {"running", "paused"}, "rollback": {"running", "paused", "rolled_back"},
    "cancel": {"running", "paused", "cancelled"},
}  # fmt: skip
STRIKE = st.sampled_from([0, 0, 1, 2, 3, 4, 5, 6])
"""The write at which the process dies; 0 = it lives."""


class DiedError(Exception):
    """The process is gone."""


class Strike:
    """Let the n-th write die."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __enter__(self) -> None:
        sa.event.listen(_STATE.engine, "before_cursor_execute", self._hit)

    def __exit__(self, *_: object) -> None:
        sa.event.remove(_STATE.engine, "before_cursor_execute", self._hit)

    def _hit(self, conn: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            self._left -= 1
            if self._left == 0:
                raise DiedError


class CrashMachine(RuleBasedStateMachine):
    @initialize()
    def fresh(self) -> None:
        with _STATE.begin() as conn:
            for table in _TABLES:
                conn.execute(table.delete())
        self.folder = Path(tempfile.mkdtemp(dir=_FOLDER.name))
        (self.folder / "routing").mkdir()
        self.page = ControlPage.create(self.folder / "control.page", workers=2)
        self.tables: list[Table | None] = [None, None]  # what each worker routes by
        self.rollouts: Rollouts = ledger(_STATE)
        self.publisher = Publisher(_STATE, self.folder, self.page)
        self.publish(0, shown=True)

    # what may happen

    @rule(candidate=st.sampled_from([V1, V2, V3, "none@9"]), plan=st.sampled_from(PLANS), strike=STRIKE)
    def start(self, candidate: str, plan: Plan, strike: int) -> None:
        busy, stable = self.rollouts.active(None, NAME), self.stable()
        done = self.attempt(
            strike, lambda: self.rollouts.start(NAME, candidate, by="ann", plan=plan),
            allowed=busy is None and candidate not in (stable, "none@9"),
        )  # fmt: skip
        if done:
            got = self.rollouts.active(None, NAME)
            assert got is not None
            assert (got.candidate, got.stable, got.state, got.step) == (candidate, stable, "running", 0)

    @precondition(lambda self: self.numbers())
    @rule(
        which=st.integers(0, 3), name=st.sampled_from(sorted(WORKS)), by=st.sampled_from(["ann", "bob"]),
        step=st.integers(0, 2), strike=STRIKE,
    )  # fmt: skip
    def command(self, which: int, name: str, by: str, step: int, strike: int) -> None:
        numbers = self.numbers()
        before = self.rollouts.get(numbers[which % len(numbers)])
        may = before.state in WORKS[name]
        if name == "approve":
            may = may and before.plan.steps[before.step].approve
        if name == "jump":
            may = may and step != before.step
            call = lambda: self.rollouts.jump(before.id, step, by=by, reason="test")  # noqa: E731
        else:
            call = lambda: getattr(self.rollouts, name)(before.id, by=by, reason="test")  # noqa: E731
        done = self.attempt(strike, call, allowed=may)
        after = self.rollouts.get(before.id)
        if done and name in ("rollback", "cancel"):
            assert after.state in ("rolled_back", "cancelled")
        if done and name == "jump":
            assert (after.state, after.step) == (before.state, step)

    @rule(n=st.sampled_from([40, 400, 2000]), harm=st.sampled_from([0.0, 0.0, 0.02, 0.5]), strike=STRIKE)
    def traffic(self, n: int, harm: float, strike: int) -> None:
        now = self.rollouts.active(None, NAME)
        if now is not None:
            n1 = round(n * now.plan.share(now.step))
            counts = {"bad1": round(harm * n1), "n1": n1, "bad0": (n - n1) // 50, "n0": n - n1}
            self.attempt(strike, lambda: feed(self.rollouts, **counts), allowed=True)
        _CLOCK.advance(1.0)

    @rule(strike=STRIKE, shown=st.booleans())
    def tick(self, strike: int, shown: bool) -> None:
        """Look and publish in one transaction; the file and the page follow it, or do not."""
        before = self.rollouts.active(None, NAME)
        self.publish(strike, shown=shown)
        if before is None:
            return
        after = self.rollouts.get(before.id)
        assert after.step - before.step in (0, 1)  # R9
        if after.step != before.step:
            assert (before.state, after.state) == ("running", "running")
            assert "fail" not in self.outcomes(before.id, before.step)  # R6

    @rule(strike=STRIKE, force=st.booleans())
    def alarm(self, strike: int, force: bool) -> None:
        def raised() -> None:
            with _STATE.begin() as conn:
                act = self.rollouts.force_rollback if force else self.rollouts.hold
                act(conn, NAME, "drift", "tenure")

        busy = self.rollouts.active(None, NAME)
        if self.attempt(strike, raised, allowed=True) and force and busy is not None:
            assert self.rollouts.get(busy.id).state == "rolled_back"  # R8

    @rule()
    def restart(self) -> None:
        """R9, R10: the next process routes as the last one did, and goes on from the rows."""
        before = self.route()
        self.revive()
        assert self.route() == before

    @rule(worker=st.integers(0, 1))
    def follow(self, worker: int) -> None:
        """R4: a worker that acknowledges now swaps its table whole; the other may lag for good."""
        number = self.page.routing
        table = msgspec.json.decode((self.folder / "routing" / f"{number}.json").read_bytes(), type=Table)
        old = self.tables[worker]
        assert table.version == number
        assert old is None or table.version >= old.version
        self.tables[worker] = table

    @rule(worker=st.integers(0, 1))
    def answer_by_an_old_table(self, worker: int) -> None:
        """A worker that does not acknowledge goes on with its table: its rows are no evidence of another step."""
        table, now = self.tables[worker], self.rollouts.active(None, NAME)
        if table is None or now is None:
            return
        route = table.endpoints[NAME]
        if route.candidate == now.candidate and abs(route.share - now.plan.share(now.step)) < 1e-9:
            return  # the same step; or an earlier rollout of the same share, which the controller leaves out
        if now.plan.is_shadow(now.step) or route.candidate is None or route.share == 0.0:
            return
        columns = rows(
            [True] * 20, route.share, _CLOCK.now_ns(), status=[2] * 20,
            version=[VERSIONS.index(route.candidate)] * 20,
        )  # fmt: skip
        with _STATE.begin() as conn:
            before = evidence.read(conn, now.id)
            self.rollouts.observe(conn, self.rollouts.observed(NAME, now, columns, VERSIONS))
            assert evidence.read(conn, now.id) == before

    # what must hold

    @invariant()
    def one_active(self) -> None:
        with _STATE.read() as conn:
            states = conn.execute(sa.select(t.rollouts.c.state)).scalars().all()
        assert sum(s not in ENDS for s in states) <= 1  # R1
        assert "draft" not in states

    @invariant()
    def routing_follows(self) -> None:
        route, now = self.route(), self.rollouts.active(None, NAME)
        if now is None:
            assert (route.candidate, route.share, route.shadows) == (None, 0.0, ())  # R3
        else:
            assert (route.candidate, route.share) == (now.candidate, now.plan.share(now.step))
        with _STATE.read() as conn:
            query = sa.select(t.rollouts.c.candidate).where(t.rollouts.c.state == "completed")
            done = conn.execute(query.order_by(t.rollouts.c.updated_us.desc())).scalars().first()
            assert verify_audit(conn) is None
        assert route.stable == (done or V1)

    @invariant()
    def moves_say_where_it_stands(self) -> None:
        m = t.rollout_moves.c
        for number in self.numbers():
            with _STATE.read() as conn:
                moves = conn.execute(sa.select(m.to_state, m.to_step).where(m.rollout == number).order_by(m.id))
                last = moves.all()[-1]
            got = self.rollouts.get(number)
            assert (got.state, got.step) == (last.to_state, last.to_step)

    @invariant()
    def workers_know_all_that_they_need(self) -> None:
        for table in self.tables:
            if table is not None:
                route = table.endpoints[NAME]
                assert route.share == 0.0 or route.candidate in route.versions()
                assert route.stable in route.versions()

    # parts

    def attempt(self, strike: int, call: Callable[[], object], *, allowed: bool) -> bool:
        """Call; if it dies or is refused, all is as before. Says whether it was done."""
        before = self.everything()
        try:
            with Strike(strike):
                call()
        except DiedError:
            assert self.everything() == before
            self.revive()
            return False
        except (ConflictError, MissingError, ValueError, TenureError):
            assert not allowed
            assert self.everything() == before
            return False
        assert allowed
        return True

    def publish(self, strike: int, *, shown: bool) -> None:
        before = self.everything()
        try:
            with Strike(strike), _STATE.begin() as conn:
                self.rollouts.reconcile(conn, NAME, _STATE.now_us())
                got = self.rollouts.routing(conn, NAME)
                route = Endpoint(
                    got.stable, Policy(1, Level.FULL), candidate=got.candidate, share=got.share,
                    shadows=got.shadows, salt=got.salt, warm=got.warm, rollout=got.rollout,
                )  # fmt: skip
                self.publisher.put(conn, {NAME: route}, "test")
        except DiedError:
            assert self.everything() == before
            self.revive()
            return
        if shown:
            self.publisher.show()
        else:
            self.revive()  # died between the commit and the file: the next one shows it
            self.publisher.show()

    def revive(self) -> None:
        self.rollouts = Rollouts(_STATE, self.rollouts.endpoints)
        self.publisher = Publisher(_STATE, self.folder, self.page)

    def everything(self) -> list[list[tuple[Any, ...]]]:
        with _STATE.read() as conn:
            return [[tuple(r) for r in conn.execute(sa.select(table))] for table in _TABLES]

    def route(self) -> Any:
        with _STATE.read() as conn:
            return self.rollouts.routing(conn, NAME)

    def stable(self) -> str | None:
        with _STATE.read() as conn:
            return store.stable(conn, NAME)

    def numbers(self) -> list[str]:
        with _STATE.read() as conn:
            query = sa.select(t.rollouts.c.id).order_by(t.rollouts.c.created_us.desc(), t.rollouts.c.id)
            return list(conn.execute(query).scalars())

    def outcomes(self, number: str, step: int) -> list[str]:
        v = t.verdicts.c
        with _STATE.read() as conn:
            query = sa.select(v.outcome).where(v.rollout == number, v.step == step)
            return list(conn.execute(query).scalars())


USUAL = {"deadline": None, "suppress_health_check": list(HealthCheck)}
CrashMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, **USUAL)  # type: ignore[arg-type]
TestCrashes = CrashMachine.TestCase


class LongMachine(CrashMachine):
    """The same for long."""


LongMachine.TestCase.settings = settings(max_examples=600, stateful_step_count=50, **USUAL)  # type: ignore[arg-type]
TestCrashesForLong = pytest.mark.slow(LongMachine.TestCase)
