"""Everything at once, under load: swaps, canaries, roll-backs, ends, kills, a full log. Nothing answered is lost.

Clients keep sending, at times drawn beforehand and not when the last answer came. What they saw is then compared
with the log, row by row, and with the routing tables.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import resource
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import serving_models as models
from lifecycle_plant import wait
from serving_server import SIZES, Client, Reply, World, sizes_world

from tenure.data import tables as t
from tenure.data.records import decode_id
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.router import Table
from tenure.scope.project import RolloutSpec, Serve, Step
from tenure.system import secret

STEPS = (*(Step(share=share, min=10**9) for share in (0.1, 0.5, 0.9)), Step(share=1.0))
SERVE = Serve(max_queue=60.0, latency=60.0)  # shedding load, as on a busy machine, is not what is tested here
SPEC = msgspec.structs.replace(SIZES, rollout=RolloutSpec(steps=STEPS), serve=SERVE)
RATE = 40.0  # requests per second and client
KINDS = ("swap", "canary", "rollback", "term", "kill", "controller", "full", "renew")


class Answered(NamedTuple):
    id: str
    version: str
    value: str
    a: float


class Lost(NamedTuple):
    """A request without an answer: when it was sent and given up, and which run its connection had spoken to."""

    run: int
    opened: float
    ended: float
    why: str


class Caller(threading.Thread):
    """One keep-alive client, open loop: late requests are sent at once. With keys, it repeats what was lost."""

    def __init__(self, world: World, number: int, *, keyed: bool) -> None:
        super().__init__(name=f"caller {number}")
        self.world, self.keyed, self.stop = world, keyed, threading.Event()
        self.dice = random.Random(number)
        self.key = secret(world.folder)
        self.answered: list[Answered] = []
        self.lost: list[Lost] = []
        self.refused: list[tuple[float, float]] = []  # 503 log_full: from, to
        self.odd: list[str] = []
        self._client: Client | None = None
        self._run, self._opened = 0, 0.0

    def run(self) -> None:
        due, n = time.monotonic(), 0
        while not self.stop.is_set():
            due += self.dice.expovariate(RATE)
            self.stop.wait(max(0.0, due - time.monotonic()))
            n += 1
            try:
                while not self._ask(float(n % 4), f"{self.name} {n}") and self.keyed:
                    pass
            except Exception as error:
                self.odd.append(repr(error))
                return
        if self._client is not None:
            self._client.close()

    def _ask(self, a: float, key: str) -> bool:
        """Send one request; returns whether it is done with."""
        if self._client is not None:
            self._client.refresh()
        if self._client is None or self._client.connection.sock is None:
            self._client = self._client or Client(self.world.up.url, self.world.tokens["client"], timeout=90)
            self._run, self._opened = 0, time.monotonic()
        began, headers = time.monotonic(), {"Idempotency-Key": key} if self.keyed else {}
        try:
            reply = self._client.call("POST", "/v1/sizes/predict", {"a": a}, headers)
        except (OSError, http.client.HTTPException) as error:
            self._client.close()
            self._client = None
            self.lost.append(Lost(self._run, self._opened, time.monotonic(), repr(error)))
            return False
        return self._take(reply, a, began)

    def _take(self, reply: Reply, a: float, began: float) -> bool:
        said = reply.json()
        if reply.status == 200:
            decision = said["decision"]
            self.answered.append(Answered(said["id"], decision["version"], decision["value"], a))
            found = decode_id(said["id"], self.key)
            self._run = self._run if found is None else found[0]
            return True
        if reply.status == 503 and said["code"] == "log_full" and int(reply.headers["retry-after"]) >= 1:
            self.refused.append((began, time.monotonic()))
            time.sleep(0.02)
            return False
        if reply.status == 409 and said["code"] == "in_progress" and self.keyed:
            return False
        self.odd.append(f"{reply.status} {said}")
        return True


class Torture:
    """A world, its callers, and the blows that fall on it."""

    def __init__(self, world: World, versions: list[str], seed: int) -> None:
        self.world, self.versions, self.dice = world, versions, random.Random(seed)
        self.rollouts = Rollouts(world.state, world.project.endpoints)
        self.callers = [Caller(world, n, keyed=n % 2 == 0) for n in range(6)]
        self.done: Counter[str] = Counter()
        self.killed: list[tuple[int, float, float]] = []  # run of the worker, from when to when
        self.full: list[tuple[float, float]] = []

    def blows(self, n: int) -> list[str]:
        """Return every kind in equal parts, in an order that the seed decides."""
        order = [KINDS[i % len(KINDS)] for i in range(n)]
        self.dice.shuffle(order)
        return order

    def run(self, n: int) -> None:
        for caller in self.callers:
            caller.start()
        self._until(100)
        for blow in self.blows(n):
            getattr(self, f"_{blow}")()
            self._until(self.dice.randint(5, 120))
        self.world.up.supervisor.wait_ready(60)
        self._until(200)
        for caller in self.callers:
            caller.stop.set()
        for caller in self.callers:
            caller.join(60)

    def _until(self, more: int) -> None:
        """Wait for so many more answers; the next blow falls at no particular moment."""
        wanted = self._answers() + more
        wait(lambda: self._answers() >= wanted or any(c.odd for c in self.callers), f"{more} answers")
        assert [odd for c in self.callers for odd in c.odd] == []

    def _answers(self) -> int:
        return sum(len(c.answered) for c in self.callers)

    # Versions

    def _active(self) -> Any:
        return self.rollouts.active(None, "sizes")

    def _swap(self) -> None:
        self._rollback()
        with self.world.state.begin() as conn:
            chosen = self.dice.choice([v for v in self.versions if v != self.rollouts.stable(conn, "sizes")])
            self.rollouts.set_stable(conn, "sizes", chosen, "torture")
        self.done["swap"] += 1

    def _canary(self) -> None:
        """Start a canary, or raise its share; the last step makes it the stable version."""
        active = self._active()
        if active is not None:
            self.rollouts.promote(active.id, by="torture")
            self.done["canary: share raised"] += 1
            return
        with self.world.state.read() as conn:
            stable = self.rollouts.stable(conn, "sizes")
        self.rollouts.start("sizes", self.dice.choice([v for v in self.versions if v != stable]), by="torture")
        self.done["canary: started"] += 1

    def _rollback(self) -> None:
        active = self._active()
        if active is not None:
            self.rollouts.rollback(active.id, by="torture")
            self.done["rollback"] += 1

    # Processes

    def _hit(self, sig: int) -> tuple[int, int]:
        """Send a signal to a worker that is ready; returns its run and process id."""
        ready: list[Any] = []

        def any_ready() -> bool:
            ready[:] = [slot for slot in self.world.up.page.slots() if slot.state == "ready"]
            return bool(ready)

        wait(any_ready, "a worker that is ready")
        slot = self.dice.choice(ready)
        run, pid = slot.run, slot.pid
        with contextlib.suppress(ProcessLookupError):  # another blow was faster
            os.kill(pid, sig)
        return run, pid

    def _term(self) -> None:
        self._hit(signal.SIGTERM)
        self.done["SIGTERM of a worker"] += 1

    def _kill(self) -> None:
        start = time.monotonic()
        run, _ = self._hit(signal.SIGKILL)
        self.killed.append((run, start, time.monotonic()))
        self.done["SIGKILL of a worker"] += 1

    def _controller(self) -> None:
        pid = self.world.up.supervisor.pids().get("controller")
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.done["SIGKILL of the controller"] += 1

    def _renew(self) -> None:
        self.world.up.supervisor.wait_ready(60)
        self.world.up.supervisor.renew()
        self.done["renewal of all workers"] += 1

    # The disk

    def _full(self) -> None:
        """Let the log's files grow no more: in the middle of a record, as a full disk does. Then again."""
        start = time.monotonic()
        had, ready = sum(len(c.refused) for c in self.callers), []
        for slot in self.world.up.page.slots():
            if slot.state == "ready" and (size := self._spooled(slot.run)) is not None:
                limit, pid = size + self.dice.randint(0, 3000), slot.pid
                with contextlib.suppress(ProcessLookupError):  # the blow before has killed it
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, -1))
                    ready.append(pid)
        if ready:
            wait(lambda: sum(len(c.refused) for c in self.callers) >= had + 10, "refusals")
        for pid in ready:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (-1, -1))
        self.full.append((start, time.monotonic()))
        self.done["full disk"] += bool(ready)

    def _spooled(self, run: int) -> int | None:
        sizes = []
        for path in (self.world.folder / "spool").glob(f"worker-?-{run:016x}-*.seg"):
            with contextlib.suppress(FileNotFoundError):  # it was sealed meanwhile
                sizes.append(path.stat().st_size)
        return max(sizes, default=None)


def check(torture: Torture) -> None:
    world, callers = torture.world, torture.callers
    _check_refusals(torture)
    lost = [lost for c in callers for lost in c.lost]
    for each in lost:
        assert _is_excused(each, torture.killed), f"no process was killed that had it in hand: {each}"
    rows = world.rows()
    by_key = {(r["run"], r["seq"]): r for r in rows}
    assert len(by_key) == len(rows), "no row twice"
    tables = _tables(world)
    answered = [answer for c in callers for answer in c.answered]
    assert len({a.id for a in answered}) == len(answered), "no answer twice"
    for answer in answered:
        row = by_key.pop(world.key(answer.id))  # KeyError: an answer that is not in the log
        assert (row["version"], msgspec.json.decode(row["value"])) == (answer.version, answer.value)
        assert msgspec.json.decode(row["record"])["a"] == answer.a
        route = tables[row["routing"]].endpoints["sizes"]
        role = {"stable": route.stable, "candidate": route.candidate}[row["role"]]
        assert role == answer.version, "the version stood in the table of that time, in that role"
    unkeyed = [each for c in callers if not c.keyed for each in c.lost]
    assert len(by_key) <= len(unkeyed), "a row without an answer was in hand when its process was killed"
    assert all(r["key_hash"] == 0 for r in by_key.values()), "what was repeated under its key was answered"
    _report(torture, answered=len(answered), lost=len(lost), unanswered=len(by_key))


def _check_refusals(torture: Torture) -> None:
    for caller in torture.callers:
        for began, ended in caller.refused:
            assert any(began <= to and ended >= start for start, to in torture.full), "503 with room on the disk"


def _is_excused(lost: Lost, killed: list[tuple[int, float, float]]) -> bool:
    """Say whether the connection's own worker was killed, or, where it had not answered yet, any worker."""
    if lost.run:
        return any(run == lost.run for run, _, _ in killed)
    return any(lost.opened - 1.0 <= to and start <= lost.ended for _, start, to in killed)


def _tables(world: World) -> dict[int, Table]:
    with world.state.read() as conn:
        bodies = conn.execute(t.routing_tables.select()).fetchall()
    return {row.version: msgspec.json.decode(row.body, type=Table) for row in bodies}


def _report(torture: Torture, **counts: int) -> None:
    counts["refused while the log was full"] = sum(len(c.refused) for c in torture.callers)
    counts["versions that answered"] = len({a.version for c in torture.callers for a in c.answered})
    print(f"\n{dict(sorted(torture.done.items()))}\n{counts}")


def torture(root: Path, *, blows: int, seed: int) -> None:
    world = sizes_world(root, spec=SPEC)
    limits = [1.1 + i / 10 for i in range(7)]
    versions = [world.register("sizes", models.Size(limit=limit), stable=False) for limit in limits]
    made = Torture(world, versions, seed)
    with world.running():
        made.run(blows)
    check(made)
    assert len(made.done) >= len(KINDS), "every kind of blow fell"


def test_nothing_answered_is_lost_whatever_happens(tmp_path: Path) -> None:
    torture(tmp_path, blows=24, seed=20_261_125)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_answered_is_lost_in_minutes_of_it(tmp_path: Path) -> None:
    torture(tmp_path, blows=480, seed=7)
