"""The state machine of a rollout: what the verdicts and the step's needs say, it does, one step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from tenure.deploy.rollout.counts import unsliced
from tenure.deploy.rollout.plan import Plan
from tenure.types import Outcome

State = Literal["draft", "running", "paused", "completed", "rolled_back", "cancelled"]
ACTIVE: tuple[State, ...] = ("running", "paused")
DEADLINE = "deadline"


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout as it stands; the row of `rollouts`."""

    id: str
    endpoint: str
    candidate: str
    stable: str | None
    plan: Plan
    evidence_key: str
    state: State
    step: int
    step_started_us: int
    salt: str
    attempt: int
    reason: str
    created_us: int
    updated_us: int
    created_by: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate says, with the numbers and a sentence that holds them.

    `holds` pauses the rollout once, until an operator has looked: the comparison itself is in doubt.
    """

    gate: str
    outcome: Outcome
    sentence: str
    numbers: dict[str, Any] = {}
    holds: bool = False


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the current step is.

    Attributes:
        requests: of both versions in this step.
        labels: judged requests of the candidate in this step.
        behind: judged ones that do not count yet, since an older request is still to be judged.
        approved: an operator approved this step, and nothing moved since (R7).
        accepted: gates whose hold an operator has answered by resuming.
        silence_us: since an operator last looked at the rollout.
    """

    requests: int = 0
    labels: int = 0
    behind: int = 0
    approved: bool = False
    accepted: frozenset[str] = frozenset()
    silence_us: int = 0


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One transition, with the numbers that caused it."""

    state: State
    step: int
    reason: str
    numbers: dict[str, Any] = {}


def advance(rollout: Rollout, verdicts: Sequence[Verdict], progress: Progress, now_us: int) -> Move | None:
    """Say what happens now: at most one move; None holds.

    A failed gate rolls back, also while paused. A verdict that holds pauses. A pass advances one step once all of
    the step's needs are met. Wait and no_data never advance.
    """
    if rollout.state not in ACTIVE:
        return None
    if failed := [v for v in verdicts if v.outcome == Outcome.FAIL]:
        return _move(rollout, "rolled_back", failed[0].sentence, verdicts, progress)
    if rollout.state == "paused":
        return None
    if doubts := [v for v in verdicts if v.holds and v.gate not in progress.accepted]:
        move = _move(rollout, "paused", doubts[0].sentence, verdicts, progress)
        return msgspec.structs.replace(move, numbers=move.numbers | {"held_by": [v.gate for v in doubts]})
    if held := _late(rollout, verdicts, progress, now_us) or _unseen(rollout, verdicts, progress, now_us):
        return held
    if waits(rollout, verdicts, progress, now_us):
        return None
    reason = _met(rollout, progress)
    if rollout.step + 1 == len(rollout.plan.steps):
        return _move(rollout, "completed", reason, verdicts, progress)
    return _move(rollout, "running", reason, verdicts, progress, step=rollout.step + 1)


def _late(rollout: Rollout, verdicts: Sequence[Verdict], progress: Progress, now_us: int) -> Move | None:
    """Pause past the deadline, once."""
    limit = rollout.plan.deadline
    if not limit or DEADLINE in progress.accepted or now_us < rollout.created_us + int(limit * 1e6):
        return None
    reason = f"not done within the {limit:,.0f} s of its deadline; an operator decides what follows"
    move = _move(rollout, "paused", reason, verdicts, progress)
    return msgspec.structs.replace(move, numbers=move.numbers | {"held_by": [DEADLINE]})


def _unseen(rollout: Rollout, verdicts: Sequence[Verdict], progress: Progress, now_us: int) -> Move | None:
    """Pause when the rollout asks for an operator and none looked."""
    limit = rollout.plan.operator_silence
    if not limit or progress.silence_us < limit * 1e6 or not asks(rollout, verdicts, progress, now_us):
        return None
    return _move(
        rollout, "paused", f"it asks for an operator; none looked for {limit:,.0f} s", verdicts, progress
    )


def asks(rollout: Rollout, verdicts: Sequence[Verdict], progress: Progress, now_us: int) -> bool:
    """Say whether only a person can take it on: an approval is all that is missing, or there is a doubt."""
    if any(v.holds for v in verdicts):
        return True
    approval = rollout.plan.steps[rollout.step].approve and not progress.approved
    return approval and len(waits(rollout, verdicts, progress, now_us)) == 1


def waits(rollout: Rollout, verdicts: Sequence[Verdict], progress: Progress, now_us: int) -> list[str]:
    """Return what the current step still waits for, each as a sentence with a number; empty when nothing."""
    step, share = rollout.plan.steps[rollout.step], weight(rollout)
    found = []
    if progress.requests * share < step.min:
        missing = -(-(step.min - progress.requests * share) // share)
        found.append(
            f"{missing:,.0f} more requests of both versions (the step wants {step.min:,} times its share)"
        )
    if progress.labels < step.min_labels:
        wanted = f"{step.min_labels - progress.labels:,} more judged requests of {rollout.candidate}"
        late = f" ({progress.behind:,} judged ones wait for an older request that is still to be judged)"
        found.append(wanted + (late if progress.behind else ""))
    left = step.bake - max(0, now_us - rollout.step_started_us) / 1e6
    if left > 0:
        found.append(f"{left:,.0f} s more of the {step.bake:,.0f} s that the step lasts")
    found += [v.sentence for v in of_gates(rollout, verdicts) if v.outcome != Outcome.PASS]
    judged = {v.gate for v in verdicts}
    found += [f"{g.name} has no verdict yet" for g in rollout.plan.gates if g.name not in judged]
    if step.approve and not progress.approved:
        who = f"somebody other than {rollout.created_by}" if rollout.plan.second_person else "an operator"
        found.append(f"the approval of this step by {who}")
    return found


def weight(rollout: Rollout) -> float:
    """Return the share of this step's requests that the candidate answers, seen or unseen."""
    return rollout.plan.share(rollout.step) or 1.0


def of_gates(rollout: Rollout, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that a step needs: of every gate, and within slices that want more than no harm."""
    plan = rollout.plan
    gates = {gate.name for gate in plan.gates}
    found = []
    for verdict in verdicts:
        gate, part = unsliced(verdict.gate)
        if gate in gates and (not part or plan.advance_of(part) != "not_contradicted"):
            found.append(verdict)
    return found


def _met(rollout: Rollout, progress: Progress) -> str:
    said = [f"{progress.requests:,} requests"]
    if progress.labels:
        said.append(f"{progress.labels:,} judged of {rollout.candidate}")
    if progress.approved:
        said.append("approved")
    how = "shown" if rollout.plan.advance == "shown" else "not contradicted"
    gates = f"every gate {how}" if rollout.plan.gates else "no gates"
    return f"{', '.join(said)}; {gates}"


def _move(
    rollout: Rollout,
    state: State,
    reason: str,
    verdicts: Sequence[Verdict],
    progress: Progress,
    *,
    step: int | None = None,
) -> Move:
    numbers = {
        "requests": progress.requests,
        "labels": progress.labels,
        "gates": {v.gate: {"outcome": v.outcome.value, **v.numbers} for v in verdicts},
    }
    return Move(state=state, step=rollout.step if step is None else step, reason=reason, numbers=numbers)
