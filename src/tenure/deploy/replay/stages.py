"""What a replay says: what happened in each step, and how it ended."""

from __future__ import annotations

from typing import Any

import msgspec


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in one step.

    Attributes:
        requests: that came while the step lasted.
        drawn: of them, those that the plan would have given to the candidate.
        shown: of these, those whose answer by the candidate is in the log.
        bad: gate -> estimated bad answers of the candidate among `drawn` (those in the log, each divided by its
            chance to be there); `wrong_decision` only among those with a truth.
        outcome: `advanced`, `completed`, `rolled_back`, `paused` or `still here`.
        reason: the sentence of the move, or what the step still waited for.
        verdicts: gate -> outcome, sentence and numbers at the last look.
    """

    step: int
    share: float | None
    began_us: int
    ended_us: int
    requests: int
    drawn: int
    shown: int
    bad: dict[str, float]
    outcome: str
    reason: str
    approval: bool
    verdicts: dict[str, dict[str, Any]]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan would have done.

    Attributes:
        state: `completed`, `rolled_back`, `paused`, or `running` when the log ended first.
        at_us: when it got there.
        look_s: seconds between two looks.
        log: share of requests of which the log shows both versions' answers, only one's, or neither's.
    """

    candidate: str
    stable: str
    state: str
    at_us: int
    requests: int
    look_s: float
    log: dict[str, float]
    bad: dict[str, float]
    stages: tuple[Stage, ...]
    format: int = 1
