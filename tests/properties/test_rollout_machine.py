"""The invariants R1-R10 of rollouts, for any order of commands, traffic, reactions, alarms, looks and deaths.

The ledger, the publisher and the control page are the real ones. A death is an error at the n-th write of a
transaction; what follows is a new process on the same database and folder. Workers may lag behind for good, two
people give every command in every state, and time passes.
"""

from __future__ import annotations

import json
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

from rollout_machine_rig import ENDS, PLANS, REDO, DiedError, Reactors, Strike, may
from rollout_rig import NAME, V1, V2, V3, VERSIONS, feed, ledger, rows
from tenure.clock import ManualClock
from tenure.controller.publisher import Publisher
from tenure.data import tables as t
from tenure.data.state import State, verify_audit
from tenure.deploy.rollout import evidence
from tenure.deploy.rollout.advance import DEADLINE, Rollout
from tenure.deploy.rollout.ledger import SYSTEM, Rollouts
from tenure.deploy.rollout.plan import Plan, evidence_key
from tenure.deploy.router import Endpoint, Policy, Table
from tenure.deploy.serving.control_page import ControlPage
from tenure.errors import ConflictError, MissingError
from tenure.types import Level

_CLOCK = ManualClock()
_FOLDER = tempfile.TemporaryDirectory()
_STATE = State.open(Path(_FOLDER.name) / "state.db", _CLOCK)
_TABLES = (
    t.rollouts, t.rollout_moves, t.evidence, t.verdicts, t.rollout_units, t.versions, t.meta, t.audit,
    t.routing_tables,
)  # fmt: skip

COMMANDS = ("pause", "resume", "approve", "approve", "promote", "jump", "rollback", "cancel")
STRIKE = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 6])
"""The write at which the process dies; 0 = it lives."""
HARM = st.sampled_from([0.0, 0.0, 0.0, 0.02, 0.5])
"""Share of the candidate's answers that fail; of the stable version's it is 2 %."""
PEOPLE = st.sampled_from(["ann", "bob"])


class RolloutMachine(RuleBasedStateMachine):
    @initialize(plan=st.sampled_from(PLANS), by=PEOPLE)
    def fresh(self, plan: Plan, by: str) -> None:
        with _STATE.begin() as conn:
            for table in _TABLES:
                conn.execute(table.delete())
        self.folder = Path(tempfile.mkdtemp(dir=_FOLDER.name))
        (self.folder / "routing").mkdir()
        self.page = ControlPage.create(self.folder / "control.page", workers=2)
        self.tables: list[Table | None] = [None, None]  # what each worker routes by
        self.rollouts: Rollouts = ledger(_STATE)
        self.publisher = Publisher(_STATE, self.folder, self.page)
        self.reactors = Reactors()
        self.shares: dict[tuple[str, str], float] = {}  # (rollout, salt) -> the largest share so far
        self.ended: dict[str, Any] = {}
        self.seen_us: dict[str, int] = {}  # when a person last saw a rollout, or it changed its step
        self.approvals: dict[str, int] = {}  # rollout -> how many moves it had when somebody approved
        self.publish(0, shown=True)
        self.start(V2, plan, by, 0)

    # what may happen

    @rule(
        candidate=st.sampled_from([V2, V3, V3, V1, "none@9"]),
        plan=st.sampled_from(PLANS),
        by=PEOPLE,
        strike=STRIKE,
    )
    def start(self, candidate: str, plan: Plan, by: str, strike: int) -> None:
        busy, stable = self.now(), self.route().stable
        done = self.attempt(
            strike, lambda: self.rollouts.start(NAME, candidate, by=by, plan=plan),
            allowed=busy is None and candidate not in (stable, "none@9"),
        )  # fmt: skip
        if done:
            got = self.now()
            assert got is not None
            assert (got.candidate, got.stable, got.state, got.step) == (candidate, stable, "running", 0)
            assert got.evidence_key == evidence_key(candidate, stable, plan.gates)  # R5
            self.seen_us[got.id] = _STATE.now_us()

    @precondition(lambda self: self.numbers())
    @rule(
        which=st.sampled_from([0, 0, 0, 1, 2]), name=st.sampled_from(COMMANDS), by=PEOPLE, step=st.integers(0, 2),
        strike=STRIKE,
    )  # fmt: skip
    def command(self, which: int, name: str, by: str, step: int, strike: int) -> None:
        numbers = self.numbers()
        before = self.rollouts.get(numbers[which % len(numbers)])
        more = (step,) if name == "jump" else ()
        call = lambda: getattr(self.rollouts, name)(before.id, *more, by=by, reason="test")  # noqa: E731
        if self.attempt(strike, call, allowed=may(before, name, by=by, step=step)):
            self.commanded(before, name, step)

    def commanded(self, before: Rollout, name: str, step: int) -> None:
        """Check what a command did that was allowed and did not die."""
        after, last = self.rollouts.get(before.id), before.step + 1 == len(before.plan.steps)
        wanted = {
            "pause": ("paused", before.step), "resume": ("running", before.step),
            "approve": (before.state, before.step), "jump": (before.state, step),
            "promote": ("completed", before.step) if last else ("running", before.step + 1),
            "rollback": ("rolled_back", before.step), "cancel": ("cancelled", before.step),
        }  # fmt: skip
        assert (after.state, after.step) == wanted[name]
        assert (after.salt != before.salt) == (name == "jump" and step < before.step)
        if after.salt != before.salt:
            assert (self.evidence_of(after), after.attempt) == ([], before.attempt + 1)
        self.seen_us[before.id] = _STATE.now_us()
        if name == "approve":
            self.approvals[before.id] = len(self.moves(before.id))

    @rule(n=st.sampled_from([40, 400, 400, 2000]), harm=HARM, strike=STRIKE, seconds=st.sampled_from([1.0, 40.0]))
    def traffic(self, n: int, harm: float, strike: int, seconds: float) -> None:
        if (now := self.now()) is not None:
            n1 = round(n * now.plan.share(now.step))
            counts = {"bad1": round(harm * n1), "n1": n1, "bad0": (n - n1) // 50, "n0": n - n1}
            self.attempt(strike, lambda: feed(self.rollouts, **counts), allowed=True)
        _CLOCK.advance(seconds)

    @rule(n=st.sampled_from([20, 60]), new=st.integers(0, 8), old=st.integers(0, 3), strike=STRIKE)
    def watched(self, n: int, new: int, old: int, strike: int) -> None:
        """Requests whose clients may still react, `new` of the candidate's and `old` of the stable version's."""
        now = self.now()
        if now is None or REDO not in now.plan.gates:
            return
        pair = {"n1": round(n * now.plan.share(now.step)), "n0": n - round(n * now.plan.share(now.step))}

        def took() -> None:
            with _STATE.begin() as conn:
                self.reactors.ask(self.rollouts, conn, now, **pair)

        if self.attempt(strike, took, allowed=True):
            if not now.plan.is_shadow(now.step):
                self.reactors.asked(now, _STATE.now_us(), **pair)
            _CLOCK.advance(1.0)
            for count, candidate in ((new, True), (old, False)):
                self.reactors.react(self.rollouts, NAME, n=count, new=candidate, now_us=_STATE.now_us())

    @rule(strike=STRIKE, shown=st.sampled_from([True, True, False]))
    def tick(self, strike: int, shown: bool) -> None:
        """Look and publish in one transaction; the file and the page follow it, or do not."""
        before = self.now()
        if self.publish(strike, shown=shown) and before is not None:
            self.looked_at(before)

    def looked_at(self, before: Rollout) -> None:
        """Check what a look did that did not die: at most one move, and never against what holds."""
        after, now_us = self.rollouts.get(before.id), _STATE.now_us()
        moves = [m for m in self.moves(before.id) if m["author"] == SYSTEM and m["at_us"] == after.updated_us]
        if (before.state, before.step) != (after.state, after.step):
            self.moved_alone(before, after, json.loads(moves[-1]["numbers"]))
        if after.state != "running":
            return
        if after.plan.deadline and now_us >= after.created_us + after.plan.deadline * 1e6:
            assert self.resumed_past_deadline(after)
        asks = after.step == before.step and self.waits_for_approval_alone(after.id)
        if after.plan.operator_silence and asks and before.state == "running":
            assert now_us - self.seen_us[after.id] < after.plan.operator_silence * 1e6

    def moved_alone(self, before: Rollout, after: Rollout, numbers: dict[str, Any]) -> None:
        assert "gates" in numbers  # the numbers that caused it are kept
        assert after.salt == before.salt
        if after.state == "rolled_back":
            assert "fail" in self.outcomes(before.id, before.step)
            return
        assert before.state == "running"
        if after.state == "paused":
            assert after.step == before.step
            return
        done = after.state == "completed"
        assert after.step - before.step == (0 if done else 1)  # R9
        assert "fail" not in self.outcomes(before.id, before.step)  # R6
        if before.plan.steps[before.step].approve:
            assert self.approvals.get(before.id) == len(self.moves(before.id)) - 1  # R7
        self.seen_us[before.id] = _STATE.now_us()

    @rule(strike=STRIKE, force=st.sampled_from([False, False, True]))
    def alarm(self, strike: int, force: bool) -> None:
        def raised() -> None:
            with _STATE.begin() as conn:
                act = self.rollouts.force_rollback if force else self.rollouts.hold
                moved = act(conn, NAME, "drift", SYSTEM)
                assert act(conn, NAME, "drift", SYSTEM) is None
                assert (moved is not None) == (busy is not None and (force or busy.state == "running"))

        busy = self.now()
        if self.attempt(strike, raised, allowed=True) and force and busy is not None:
            assert self.rollouts.get(busy.id).state == "rolled_back"  # R8

    @precondition(lambda self: self.now() is not None)
    @rule()
    def operator_looks(self) -> None:
        now = self.now()
        assert now is not None
        before = self.everything()
        self.rollouts.looked(now.id)
        if _STATE.now_us() - self.seen_us[now.id] > 60_000_000:
            self.seen_us[now.id] = _STATE.now_us()
        else:
            assert self.everything() == before

    @rule()
    def restart(self) -> None:
        """R9, R10: the next process routes as the last one did, and goes on from the rows."""
        before = self.route()
        self.revive()
        assert self.route() == before

    @rule(seconds=st.lists(st.sampled_from([1.0, 40.0, 75.0, 200.0]), min_size=1, max_size=3))
    def time_passes(self, seconds: list[float]) -> None:
        for some in seconds:
            _CLOCK.advance(some)
            self.tick(0, True)

    @rule(batches=st.lists(st.tuples(st.sampled_from([40, 400, 2000]), HARM), min_size=1, max_size=4))
    def serve(self, batches: list[tuple[int, float]]) -> None:
        """Let requests come and the controller look, some times, and nobody dies."""
        for n, harm in batches:
            self.traffic(n, harm, 0, 40.0)
            self.watched(20, 0, 0, 0)
            self.tick(0, True)
            self.routing_follows()

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
        table, now = self.tables[worker], self.now()
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
        states = [self.row(number)["state"] for number in self.numbers()]
        assert sum(s not in ENDS for s in states) <= 1  # R1
        assert "draft" not in states

    @invariant()
    def routing_follows(self) -> None:
        route, now = self.route(), self.now()
        done = [row for row in map(self.row, self.numbers()) if row["state"] == "completed"]
        assert route.stable == (max(done, key=lambda r: r["updated_us"])["candidate"] if done else V1)
        with _STATE.read() as conn:
            assert verify_audit(conn) is None
        if now is None:
            assert (route.candidate, route.share, route.shadows) == (None, 0.0, ())  # R3
            return
        assert (route.candidate, route.share, route.salt) == (now.candidate, now.plan.share(now.step), now.salt)
        assert (route.stable, route.rollout) == (now.stable, now.id)
        top = self.shares.setdefault((now.id, now.salt), 0.0)
        assert route.share >= top  # R2: shares never shrink but by an end, or by a jump back that draws anew
        self.shares[now.id, now.salt] = route.share

    @invariant()
    def old_versions_stay_warm(self) -> None:
        """R3: as long as an end's plan says, the version that it took out of force is kept loaded."""
        route, now_us = self.route(), _STATE.now_us()
        in_use = {route.stable, route.candidate}
        for row in map(self.row, self.numbers()):
            left = row["stable"] if row["state"] == "completed" else row["candidate"]
            keep_us = json.loads(row["plan"])["keep_warm"] * 1e6
            if row["state"] in ENDS and now_us < row["updated_us"] + keep_us:
                assert left in in_use or left in route.warm

    @invariant()
    def ends_stay(self) -> None:
        for row in map(self.row, self.numbers()):
            if row["state"] in ENDS:
                assert self.ended.setdefault(row["id"], row) == row

    @invariant()
    def moves_chain(self) -> None:
        salts = set()
        for number in self.numbers():
            moves, row = self.moves(number), self.row(number)
            assert [m["from_state"] for m in moves] == ["draft", *(m["to_state"] for m in moves[:-1])]
            assert [m["from_step"] for m in moves[1:]] == [m["to_step"] for m in moves[:-1]]
            assert (row["state"], row["step"]) == (moves[-1]["to_state"], moves[-1]["to_step"])
            salts.add(row["salt"])
        assert len(salts) == len(self.numbers())  # R5: new evidence has a new salt

    @invariant()
    def reactions_are_counted_once(self) -> None:
        now = self.now()
        if now is not None:
            found = {c.step: [c.x1, c.x0, c.n1, c.n0] for c in self.evidence_of(now) if c.gate == REDO.bad}
            assert found == self.reactors.shown(now)

    @invariant()
    def the_page_can_tell(self) -> None:
        """What the console shows can be said in every state, and says whose word is wanted."""
        now = self.now()
        if now is None:
            return
        told = self.rollouts.describe(now.id)
        assert told["outstanding"].get(REDO.bad, 0) == self.reactors.outstanding(now)
        noted = self.approvals.get(now.id) == len(self.moves(now.id))
        assert (told["approved_by"] is not None) == noted  # R7: any move makes an approval void
        assert told["waits"] or now.state == "running"

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
            with Strike(_STATE, strike):
                call()
        except DiedError:
            assert self.everything() == before
            self.revive()
            return False
        except (ConflictError, MissingError):
            assert not allowed
            assert self.everything() == before
            return False
        assert allowed
        return True

    def publish(self, strike: int, *, shown: bool) -> bool:
        before, now, now_us = self.everything(), self.now(), _STATE.now_us()
        try:
            with Strike(_STATE, strike), _STATE.begin() as conn:
                self.rollouts.reconcile(conn, NAME, now_us)
                got = self.rollouts.routing(conn, NAME)
                route = Endpoint(
                    got.stable, Policy(1, Level.FULL), candidate=got.candidate, share=got.share,
                    shadows=got.shadows, salt=got.salt, warm=got.warm, rollout=got.rollout,
                )  # fmt: skip
                self.publisher.put(conn, {NAME: route}, "test")
        except DiedError:
            assert self.everything() == before
            self.revive()
            return False
        if now is not None:
            self.reactors.ripen(now, now_us)
        if not shown:
            self.revive()  # died between the commit and the file: the next one shows it
        self.publisher.show()
        return True

    def revive(self) -> None:
        self.rollouts = Rollouts(_STATE, self.rollouts.endpoints)
        self.publisher = Publisher(_STATE, self.folder, self.page)
        self.reactors.restart()

    def everything(self) -> list[list[tuple[Any, ...]]]:
        with _STATE.read() as conn:
            return [[tuple(r) for r in conn.execute(sa.select(table))] for table in _TABLES]

    def now(self) -> Rollout | None:
        return self.rollouts.active(None, NAME)

    def route(self) -> Any:
        with _STATE.read() as conn:
            return self.rollouts.routing(conn, NAME)

    def evidence_of(self, rollout: Rollout) -> list[Any]:
        with _STATE.read() as conn:
            return list(evidence.read(conn, rollout.id))

    def resumed_past_deadline(self, rollout: Rollout) -> bool:
        held = [m for m in self.moves(rollout.id) if DEADLINE in json.loads(m["numbers"]).get("held_by", ())]
        return bool(held)

    def waits_for_approval_alone(self, number: str) -> bool:
        waits = self.rollouts.describe(number)["waits"]
        return len(waits) == 1 and "approval of this step" in waits[0]

    def numbers(self) -> list[str]:
        """Return the ids of all rollouts, newest first."""
        with _STATE.read() as conn:
            query = sa.select(t.rollouts.c.id).order_by(t.rollouts.c.created_us.desc(), t.rollouts.c.id)
            return list(conn.execute(query).scalars())

    def row(self, number: str) -> dict[str, Any]:
        with _STATE.read() as conn:
            return dict(conn.execute(sa.select(t.rollouts).where(t.rollouts.c.id == number)).mappings().one())

    def moves(self, number: str) -> list[dict[str, Any]]:
        m = t.rollout_moves.c
        with _STATE.read() as conn:
            query = sa.select(t.rollout_moves).where(m.rollout == number).order_by(m.id)
            return [dict(row) for row in conn.execute(query).mappings()]

    def outcomes(self, number: str, step: int) -> list[str]:
        v = t.verdicts.c
        with _STATE.read() as conn:
            query = sa.select(v.outcome).where(v.rollout == number, v.step == step)
            return list(conn.execute(query).scalars())


USUAL = {"deadline": None, "suppress_health_check": list(HealthCheck)}
RolloutMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, **USUAL)  # type: ignore[arg-type]
TestRollouts = RolloutMachine.TestCase


class LongMachine(RolloutMachine):
    """The same for long."""


LongMachine.TestCase.settings = settings(max_examples=600, stateful_step_count=50, **USUAL)  # type: ignore[arg-type]
TestRolloutsForLong = pytest.mark.slow(LongMachine.TestCase)
