"""Who decides what ran: the pure rules of `deploy.decide`, applied to the works of one lane."""

from __future__ import annotations

from collections.abc import Sequence

from tenure.data.records import Flag, Status
from tenure.deploy.decide import Draws, decide, decide_scores, draws
from tenure.deploy.serving.predict.desk import answer_flags
from tenure.deploy.serving.predict.work import Lane, Work
from tenure.errors import CaseError
from tenure.model.answer import Scores
from tenure.types import Route

AUDITED, BLIND, LOTTERY = int(Flag.AUDITED), int(Flag.BLIND), int(Flag.LOTTERY)
LATE, DEGRADED = int(Flag.OVER_BUDGET), int(Flag.DEGRADED)
"""Bits as plain numbers: combining flags of an enum costs a microsecond a request."""
AUDIT = AUDITED | LOTTERY


def rule_scores(lane: Lane, works: Sequence[Work], scores: Scores, *, run: int) -> None:
    """Rule on a classifier's answers at `partial` and `full`, without an object per answer."""
    policy, desk = lane.policy, works[0].desk
    automated, reasons = decide_scores(scores, version=lane.version, level=lane.level, policy=policy)
    base = 0 if lane.watched else DEGRADED
    for i, work in enumerate(works):
        flags = base
        if desk.is_late(work.latency_us):
            flags |= LATE
        if automated is None or automated[i]:
            work.route, work.deadline_ns = Route.AUTO, 0
            flags |= BLIND
            if work.audited:
                flags |= AUDIT
        else:
            work.route = Route.PENDING
            if work.audited:
                flags |= LOTTERY
            if work.audited or draws(policy, (run, work.seq)).blind:
                flags |= BLIND
        work.flags = flags
        if reasons is not None:
            work.reason = reasons[i]


def rule(lane: Lane, work: Work, *, run: int) -> None:
    """Rule on one answer, or on none."""
    drawn = draws(lane.policy, (run, work.seq)) if lane.version else Draws(work.audited, True)
    ruling = decide(work.prediction, version=lane.version, level=lane.level, policy=lane.policy, drawn=drawn)
    work.route, work.reason = ruling.route, ruling.reason
    flags = 0 if lane.watched else DEGRADED
    if ruling.audited:
        flags |= AUDITED
    if ruling.blind:
        flags |= BLIND
    if work.audited:
        flags |= LOTTERY
    if ruling.route == Route.AUTO:
        work.deadline_ns = 0
    elif work.status == Status.EXPIRED:
        _overrun(work)
    work.flags = flags | answer_flags(work.desk, work)


def _overrun(work: Work) -> None:
    """Apply what the project wants of a request whose model was too late."""
    how = work.desk.spec.serve.on_overrun
    if how == "refuse":
        work.route = Route.REFUSED
        work.error = CaseError(
            "the model did not answer in time", code="deadline_exceeded", at=work.desk.name, status=504
        )
        work.deadline_ns, work.reason = 0, f"{work.error.code}: {work.error.message}"
    elif how == "fallback" and work.desk.spec.serve.on_timeout is not None:
        work.route, work.deadline_ns = Route.FALLBACK, 0
