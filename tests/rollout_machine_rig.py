"""What the state machine of rollouts needs beside the ledger: plans, a process that dies, a count by hand."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from rollout_rig import FAILED, LATE, VERSIONS, failing, rows
from tenure.data.state import State
from tenure.deploy.rollout.advance import Rollout
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.plan import Plan
from tenure.deploy.rollout.reactions import SLACK_US
from tenure.scope.project import GateSpec, Step

REDO = GateSpec(bad="reaction:redo", maturity=60.0)
PLANS = (
    Plan(
        steps=(Step(share=0.05, min=5), Step(share=0.5, min=50, approve=True), Step(share=1.0, bake=30.0)),
        gates=(FAILED, LATE),
        keep_warm=120.0,
    ),
    Plan(
        steps=(Step(shadow=1.0, min=20), Step(share=0.25, min=10), Step(share=1.0)),
        gates=(FAILED,),
        deadline=200.0,
    ),
    Plan(
        steps=(Step(share=0.1, approve=True), Step(share=0.5, min=20, approve=True), Step(share=1.0)),
        gates=(REDO, FAILED),
        second_person=True,
        operator_silence=100.0,
    ),
    Plan(
        steps=(Step(shadow=1.0, approve=True), Step(share=0.25, min=10), Step(share=1.0, min=40)),
        gates=(REDO,),
        deadline=300.0,
        operator_silence=50.0,
    ),
)

ENDS = ("completed", "rolled_back", "cancelled")
WORKS = {
    "pause": {"running"}, "resume": {"paused"}, "promote": {"running"}, "approve": {"running"},
    "jump": {"running", "paused"}, "rollback": {"running", "paused", "rolled_back"},
    "cancel": {"running", "paused", "cancelled"},
}  # fmt: skip


class DiedError(Exception):
    """The process is gone."""


class Strike:
    """Let the n-th write die; 0 lets all of them live."""

    def __init__(self, state: State, at: int) -> None:
        self._state, self._left = state, at

    def __enter__(self) -> None:
        sa.event.listen(self._state.engine, "before_cursor_execute", self._hit)

    def __exit__(self, *_: object) -> None:
        sa.event.remove(self._state.engine, "before_cursor_execute", self._hit)

    def _hit(self, conn: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            self._left -= 1
            if self._left == 0:
                raise DiedError


def may(now: Rollout, name: str, *, by: str, step: int) -> bool:
    """Say whether a command is allowed, from what the documentation says and nothing of the ledger."""
    if now.state not in WORKS[name]:
        return False
    up = name in ("approve", "promote") or (name == "jump" and step > now.step)
    if up and now.plan.second_person and by == now.created_by:
        return False
    if name == "jump":
        return step != now.step
    return name != "approve" or now.plan.steps[now.step].approve


class Reactors:
    """The requests that one process remembers, and what its reaction gates have to show, counted one by one."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, int], list[int]] = {}  # (rollout, salt, step) -> x1, x0, n1, n0
        self.serial = 0
        self.restart()

    def restart(self) -> None:
        """Lose what is only in memory."""
        self.waiting: list[dict[str, Any]] = []
        self.front_us = 0

    def ask(self, rollouts: Rollouts, conn: sa.Connection, now: Rollout, *, n1: int, n0: int) -> None:
        """Let the log show good answers, and the process remember whom they are from."""
        columns = rows([True] * n1 + [False] * n0, now.plan.share(now.step), rollouts.state.clock.now_ns())
        columns["version"] = columns["role"] * VERSIONS.index(now.candidate)
        columns["version"] += (1 - columns["role"]) * VERSIONS.index(now.stable or VERSIONS[0])
        columns["status"] = columns["status"] * 0 + failing([False])[0]
        columns["seq"] = columns["unit"] + range(self.serial, self.serial + n1 + n0)
        rollouts.observe(conn, rollouts.observed(now.endpoint, now, columns, VERSIONS))
        rollouts.saw(now, 1, columns, VERSIONS)

    def asked(self, now: Rollout, now_us: int, *, n1: int, n0: int) -> None:
        """Note by hand what `ask` did, once it is committed."""
        key = (now.id, now.salt)
        self.waiting = [w for w in self.waiting if w["key"] == key]
        for i in range(n1 + n0):
            made = {
                "key": key,
                "seq": self.serial + i,
                "t_us": now_us,
                "step": now.step,
                "new": i < n1,
                "at": None,
            }
            self.waiting.append(made)
        self.serial += n1 + n0
        self.front_us = max(self.front_us, now_us if n1 + n0 else 0)

    def react(self, rollouts: Rollouts, endpoint: str, *, n: int, new: bool, now_us: int) -> None:
        """Let `n` clients of one version say that they had to do it again."""
        for w in [w for w in self.waiting if w["new"] == new][:n]:
            rollouts.heard(endpoint, (1, w["seq"]), "redo", True, now_us)
            w["at"] = now_us if w["at"] is None else w["at"]
            self.front_us = max(self.front_us, now_us)

    def ripen(self, now: Rollout, now_us: int) -> None:
        """Count by hand what a look counts: requests older than the gate's maturity, each once."""
        if now.plan.is_shadow(now.step) and not self.waiting:
            return
        last = int(REDO.maturity * 1e6)
        for w in self.waiting:
            if w["key"] == (now.id, now.salt) and w["t_us"] <= min(now_us, self.front_us) - SLACK_US - last:
                cell = self.counts.setdefault((*w["key"], w["step"]), [0, 0, 0, 0])
                cell[2 if w["new"] else 3] += 1
                cell[0 if w["new"] else 1] += w["at"] is not None and w["at"] <= w["t_us"] + last
                w["key"] = None
        self.waiting = [w for w in self.waiting if w["key"] is not None]

    def shown(self, now: Rollout) -> dict[int, list[int]]:
        """Return what the evidence of the reaction gate has to be, by step."""
        return {step: cell for (i, salt, step), cell in self.counts.items() if (i, salt) == (now.id, now.salt)}

    def outstanding(self, now: Rollout) -> int:
        return sum(w["key"] == (now.id, now.salt) for w in self.waiting)
