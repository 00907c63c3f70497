"""Looking at a rollout's evidence: labels are counted and gates judged only when something changed."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.engine import Connection

from tenure.deploy.rollout import evidence, judge, labels, moments, store
from tenure.deploy.rollout.advance import Rollout, Verdict
from tenure.deploy.rollout.counts import Count, Moments
from tenure.deploy.rollout.plan import WRONG

_Key = tuple[str, int, tuple[Count, ...], tuple[Moments, ...]]


class Looks:
    """What the last look at each rollout was based on; only saves work, so that a restart loses nothing."""

    def __init__(self) -> None:
        self._judged: dict[str, tuple[_Key, list[Verdict]]] = {}
        self._labelled: dict[str, tuple[str, tuple[int, ...]]] = {}

    def count_labels(self, conn: Connection, rollout: Rollout, now_us: int) -> None:
        """Count wrong decisions anew where labels came, were taken back or matured."""
        if not any(g.bad == WRONG for g in rollout.plan.gates):
            return
        mark = (rollout.salt, (rollout.step, *labels.signature(conn, rollout, now_us)))
        if self._labelled.get(rollout.id) != mark:
            evidence.replace(conn, rollout.id, labels.GATES, labels.counted(conn, rollout, now_us))
            self._labelled[rollout.id] = mark

    def verdicts(self, conn: Connection, rollout: Rollout, now_us: int) -> list[Verdict]:
        """Return the verdicts of the step at hand; new ones are stored."""
        self.count_labels(conn, rollout, now_us)
        key = (rollout.salt, rollout.step, evidence.read(conn, rollout.id), self._means(conn, rollout, now_us))
        known = self._judged.get(rollout.id)
        if known is not None and known[0] == key:
            return known[1]
        old = store.verdicts(conn, rollout.id)
        found = judge.judge(rollout, key[2], reached(old.values()), moments=key[3])
        store.save_verdicts(conn, rollout, found, old, now_us=now_us)
        self._judged[rollout.id] = (key, found)
        return found

    def _means(self, conn: Connection, rollout: Rollout, now_us: int) -> tuple[Moments, ...]:
        if not any(gate.mean for gate in rollout.plan.gates):
            return ()
        moments.look(conn, rollout.id, now_us)
        return moments.read(conn, rollout.id)

    def forget(self, number: str) -> None:
        """Drop what is remembered of a rollout that ended."""
        self._judged.pop(number, None)
        self._labelled.pop(number, None)


def reached(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Return the largest evidence that each gate had at any look: a fail stays one (R6)."""
    top: dict[str, float] = {}
    for verdict in verdicts:
        named = ((verdict.gate, "max_log_e"), (f"shown:{verdict.gate}", "max_shown_log_e"))
        for name, number in named:
            if number in verdict.numbers:
                top[name] = max(top.get(name, 0.0), verdict.numbers[number])
    return top
