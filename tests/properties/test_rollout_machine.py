"""The invariants R1-R10 on the real ledger, for any order of commands, traffic, alarms, looks and crashes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rollout_rig import FAILED, LATE, NAME, V1, V2, V3, feed, ledger
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.rollout.ledger import Moved, Rollouts
from tenure.deploy.rollout.plan import Plan, evidence_key
from tenure.errors import ConflictError
from tenure.scope.project import Step

_CLOCK = ManualClock()
_FOLDER = tempfile.TemporaryDirectory()
_STATE = State.open(Path(_FOLDER.name) / "state.db", _CLOCK)
_TABLES = (t.rollouts, t.rollout_moves, t.evidence, t.verdicts, t.rollout_units, t.versions, t.meta, t.audit)

ENDS = ("completed", "rolled_back", "cancelled")
WORKS = {
    "pause": {"running"},
    "resume": {"paused"},
    "promote": {"running"},
    "rollback": {"running", "paused", "rolled_back"},
    "cancel": {"running", "paused", "cancelled"},
}
PLANS = (
    Plan(
        steps=(Step(share=0.05, min=5), Step(share=0.5, min=50, approve=True), Step(share=1.0, bake=30.0)),
        gates=(FAILED, LATE),
        keep_warm=120.0,
    ),
    Plan(steps=(Step(shadow=1.0, min=20), Step(share=0.25, min=10), Step(share=1.0)), gates=(FAILED,)),
)

HARM = st.sampled_from([0.0, 0.0, 0.0, 0.02, 0.5])
"""Share of the candidate's answers that fail; of the stable version's it is 2 %."""


class RolloutMachine(RuleBasedStateMachine):
    @initialize()
    def fresh(self) -> None:
        with _STATE.begin() as conn:
            for table in _TABLES:
                conn.execute(table.delete())
        self.rollouts: Rollouts = ledger(_STATE)
        self.ids: list[str] = []
        self.shares: dict[str, list[float]] = {}
        self.ended: dict[str, Any] = {}

    @rule(candidate=st.sampled_from([V1, V2, V3]), plan=st.sampled_from(PLANS))
    def start(self, candidate: str, plan: Plan) -> None:
        with _STATE.read() as conn:
            busy, stable = self.rollouts.active(conn, NAME), self.rollouts.stable(conn, NAME)
        try:
            self.ids.append(self.rollouts.start(NAME, candidate, by="ann", plan=plan))
        except ConflictError as error:
            refused = error.message
            assert busy is not None or candidate == stable
            assert busy is None or busy.state in refused
        else:
            assert busy is None
            got = self.rollouts.get(self.ids[-1])
            assert (got.state, got.step, got.stable) == ("running", 0, stable)
            assert got.evidence_key == evidence_key(candidate, stable, plan.gates)

    @precondition(lambda self: self.ids)
    @rule(which=st.integers(0, 5), name=st.sampled_from(sorted(WORKS)))
    def command(self, which: int, name: str) -> None:
        number = self.ids[-1 - which % len(self.ids)]
        before = self.row(number)
        try:
            getattr(self.rollouts, name)(number, by="ann", reason="for the test")
        except ConflictError as error:
            refused = error.message
            assert before["state"] not in WORKS[name]
            assert before["state"] in refused
            assert self.row(number) == before
        else:
            assert before["state"] in WORKS[name]  # R8 among them: rollback from every state that is no end
            after = self.row(number)
            assert after["step"] - before["step"] in ((0, 1) if name == "promote" else (0,))

    @rule(
        batches=st.lists(st.tuples(st.sampled_from([40, 400, 400]), HARM), min_size=1, max_size=5),
        candidate=st.sampled_from([V2, V3]),
        plan=st.sampled_from(PLANS),
        seconds=st.sampled_from([1.0, 40.0]),
    )
    def drive(self, batches: list[tuple[int, float]], candidate: str, plan: Plan, seconds: float) -> None:
        """Let requests come and the controller look, some times; begin a rollout where none is active."""
        if self.rollouts.active(None, NAME) is None:
            self.start(candidate, plan)
        for n, bad1 in batches:
            self.traffic(n, bad1)
            _CLOCK.advance(seconds)
            self.look()
            self.routing_holds()

    def traffic(self, n: int, bad1: float) -> None:
        now = self.rollouts.active(None, NAME)
        if now is not None:
            n1 = round(n * now.plan.share(now.step))
            feed(self.rollouts, bad1=round(bad1 * n1), n1=n1, bad0=(n - n1) // 50, n0=n - n1)

    @rule()
    def look(self) -> None:
        before = {i: self.row(i) for i in self.ids}
        with _STATE.begin() as conn:
            moved = self.rollouts.reconcile(conn, NAME, _STATE.now_us())
        self.at_most_one(before, moved)

    @rule()
    def look_that_crashes(self) -> None:
        """The transaction of a look is lost: as if it had never been."""
        before = {i: self.row(i) for i in self.ids}
        conn = _STATE.engine.connect()
        transaction = conn.begin()
        self.rollouts.reconcile(conn, NAME, _STATE.now_us())
        transaction.rollback()
        conn.close()
        assert {i: self.row(i) for i in self.ids} == before
        self.crash()

    @rule()
    def crash(self) -> None:
        """R9, R10: another process sees the same routing and goes on from the rows."""
        with _STATE.read() as conn:
            before = self.rollouts.routing(conn, NAME)
            self.rollouts = Rollouts(_STATE, self.rollouts.endpoints)
            assert self.rollouts.routing(conn, NAME) == before

    @rule(force=st.booleans())
    def alarm(self, force: bool) -> None:
        with _STATE.begin() as conn:
            busy = self.rollouts.active(conn, NAME)
            act = self.rollouts.force_rollback if force else self.rollouts.hold
            moved = act(conn, NAME, "drift", "tenure")
            again = act(conn, NAME, "drift", "tenure")
        assert again is None
        assert (moved is not None) == (busy is not None and (force or busy.state == "running"))

    @rule(seconds=st.sampled_from([1.0, 40.0, 200.0]))
    def wait(self, seconds: float) -> None:
        _CLOCK.advance(seconds)

    def at_most_one(self, before: dict[str, Any], moved: list[Moved]) -> None:
        changed = [i for i in self.ids if self.row(i) != before[i]]
        assert len(moved) == len(changed) <= 1  # R9
        for number in changed:
            old, new = before[number], self.row(number)
            assert old["state"] in ("running", "paused")
            assert new["step"] - old["step"] == (1 if moved[0].kind == "advanced" else 0)
            step = json.loads(old["plan"])["steps"][old["step"]]
            if moved[0].kind in ("advanced", "completed"):
                assert old["state"] == "running"
                assert not step["approve"]  # R7: only an operator goes on from here
                assert not self.failed(number, old["step"])  # R6
            numbers = self.moves(number)[-1]["numbers"]
            assert json.loads(numbers)["gates"]  # the numbers that caused it are kept

    @invariant()
    def one_active(self) -> None:
        states = [self.row(i)["state"] for i in self.ids]
        assert sum(s in ("draft", "running", "paused") for s in states) <= 1  # R1

    @invariant()
    def routing_holds(self) -> None:
        with _STATE.read() as conn:
            route, now = self.rollouts.routing(conn, NAME), self.rollouts.active(conn, NAME)
        assert 0.0 <= route.share <= 1.0
        if now is None:
            assert (route.candidate, route.share, route.shadows) == (None, 0.0, ())  # R3
            return
        assert (route.candidate, route.rollout, route.stable) == (now.candidate, now.id, now.stable)
        seen = self.shares.setdefault(now.id, [])
        seen.append(route.share)
        assert seen == sorted(seen)  # R2: inside one salt shares never shrink except to 0

    @invariant()
    def ends_stay(self) -> None:
        for number in self.ids:
            row = self.row(number)
            if number in self.ended:
                assert row == self.ended[number]
            elif row["state"] in ENDS:
                self.ended[number] = row
        with _STATE.read() as conn:
            stable = self.rollouts.stable(conn, NAME)
        done = [self.row(i) for i in self.ids if self.row(i)["state"] == "completed"]
        assert stable == (done[-1]["candidate"] if done else V1)  # R3

    @invariant()
    def moves_chain(self) -> None:
        for number in self.ids:
            moves = self.moves(number)
            assert [m["from_state"] for m in moves] == ["draft", *(m["to_state"] for m in moves[:-1])]
            assert [m["from_step"] for m in moves[1:]] == [m["to_step"] for m in moves[:-1]]
            assert all(m["to_step"] - m["from_step"] in (0, 1) for m in moves)
            salts = [self.row(i)["salt"] for i in self.ids]
            assert len(set(salts)) == len(salts)  # R5: new evidence has a new salt

    def row(self, number: str) -> dict[str, Any]:
        with _STATE.read() as conn:
            return dict(conn.execute(sa.select(t.rollouts).where(t.rollouts.c.id == number)).mappings().one())

    def moves(self, number: str) -> list[dict[str, Any]]:
        m = t.rollout_moves.c
        with _STATE.read() as conn:
            query = sa.select(t.rollout_moves).where(m.rollout == number).order_by(m.id)
            return [dict(row) for row in conn.execute(query).mappings()]

    def failed(self, number: str, step: int) -> bool:
        v = t.verdicts.c
        with _STATE.read() as conn:
            query = sa.select(v.outcome).where(v.rollout == number, v.step == step)
            return "fail" in conn.execute(query).scalars().all()


RolloutMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRollouts = RolloutMachine.TestCase
