"""What operators and alarms may do to a rollout, and in which state."""

from __future__ import annotations

from typing import Literal

from tenure.deploy.rollout.advance import ACTIVE, Move, Rollout, State

Command = Literal["start", "pause", "resume", "approve", "promote", "jump", "rollback", "cancel"]
Kind = Literal["started", "advanced", "jumped", "paused", "resumed", "completed", "rolled_back", "cancelled"]

_FROM: dict[Command, tuple[State, ...]] = {
    "start": ("draft",),
    "pause": ("running",),
    "resume": ("paused",),
    "approve": ("running",),
    "promote": ("running",),
    "jump": ACTIVE,
    "rollback": ACTIVE,
    "cancel": ("draft", *ACTIVE),
}
_TO: dict[Command, State] = {
    "start": "running",
    "pause": "paused",
    "resume": "running",
    "rollback": "rolled_back",
    "cancel": "cancelled",
}


def commanded(rollout: Rollout, name: Command, reason: str) -> Move | None:
    """Return the move that a command makes, or None where the state does not allow it; a jump is `jumped`.

    `promote` is the operator's word for the step at hand: one step on, whatever it still waits for. It is also
    the approval that a step with `approve` waits for, so an approval never outlives its step (R7).
    """
    if rollout.state not in _FROM[name] or name in ("approve", "jump"):
        return None
    if name != "promote":
        return Move(state=_TO[name], step=rollout.step, reason=reason)
    if rollout.step + 1 < len(rollout.plan.steps):
        return Move(state="running", step=rollout.step + 1, reason=reason)
    return Move(state="completed", step=rollout.step, reason=reason)


def jumped(rollout: Rollout, step: int, reason: str) -> Move | None:
    """Return the move to another step, running or paused as before; None where the state does not allow it.

    Raises:
        ValueError: there is no such step, or the rollout is in it.
    """
    if not 0 <= step < len(rollout.plan.steps) or step == rollout.step:
        raise ValueError(
            f"rollout {rollout.id} is at step {rollout.step + 1} of {len(rollout.plan.steps)}; "
            f"step {step + 1} is no other one of them"
        )
    return Move(state=rollout.state, step=step, reason=reason) if rollout.state in _FROM["jump"] else None


def allowed(name: Command) -> str:
    """Return the states in which a command works, for messages."""
    return " or ".join(_FROM[name])


def kind_of(rollout: Rollout, move: Move) -> Kind:
    """Return the name of a transition."""
    if move.state == "completed" or move.state == "rolled_back" or move.state == "cancelled":
        return move.state
    if move.step < rollout.step or move.step > rollout.step + 1 or rollout.state == move.state == "paused":
        return "jumped"
    if move.state == "paused":
        return "paused"
    if rollout.state == "paused":
        return "resumed"
    return "started" if rollout.state == "draft" else "advanced"
