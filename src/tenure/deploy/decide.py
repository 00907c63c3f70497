"""Who decides one request: a pure function of the prediction, the policy and the draws."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from tenure.deploy.router import Policy
from tenure.model.answer import Scores
from tenure.seeds import request_draw
from tenure.types import Failed, Level, Prediction, Route


class Draws(msgspec.Struct, frozen=True):
    """The chance decisions about one request, made before its outcome is known."""

    audited: bool
    blind: bool


class Ruling(msgspec.Struct, frozen=True):
    """The result: the route, whether a person checks it, whether blind, and why."""

    route: Route
    audited: bool
    blind: bool
    reason: str


def draws(policy: Policy, request: tuple[int, int]) -> Draws:
    """Draw audit and blindness for a request (run, seq) by keyed hash, so that both can be recomputed."""
    return Draws(
        audited=request_draw(f"audit:{policy.salt}", *request) < policy.audit,
        blind=request_draw(f"blind:{policy.salt}", *request) < policy.blind,
    )


def level_in_force(policy: Policy, *, now_ns: int, watched: bool) -> Level:
    """Return the level that holds now: a lapsed certificate or a lost controller never leaves automation on.

    Args:
        policy: the policy in force.
        now_ns: wall time.
        watched: the controller is alive, or was within the time that the project allows.
    """
    if policy.level < Level.PARTIAL:
        return policy.level
    lapsed = 0 < policy.valid_until_ns <= now_ns
    return Level.ASSIST if lapsed or not watched else policy.level


def decide(
    prediction: Prediction | Failed | None, *, version: str | None, level: Level, policy: Policy, drawn: Draws
) -> Ruling:
    """Say who decides.

    Args:
        prediction: the model's answer; None where no model ran.
        version: the version that answered.
        level: the level in force (see `level_in_force`).
        policy: thresholds of the certified versions.
        drawn: the request's draws.

    Example:
        >>> p = Policy(1, Level.PARTIAL, {"m@1": {"*": 0.9}}, audit=0.0)
        >>> decide(Prediction("good", 0.62), version="m@1", level=Level.PARTIAL, policy=p,
        ...        drawn=Draws(False, False)).reason
        'confidence 0.620 < 0.900'
    """
    if level <= Level.SHADOW:
        return Ruling(Route.PENDING, False, True, f"level {level.word}")
    if prediction is None or isinstance(prediction, Failed):
        why = prediction.reason if isinstance(prediction, Failed) else "no model"
        return Ruling(Route.PENDING, False, True, f"no answer: {why}")
    if level == Level.ASSIST:
        return Ruling(Route.PENDING, False, drawn.blind, "level assist")
    if level == Level.FULL:
        return Ruling(Route.AUTO, drawn.audited, True, "level full")
    # The audit draw is made before the answer is known, so it is also the lottery: the fair sample that later
    # certificates are earned from. A drawn item is blind even where a person decides anyway.
    blind = drawn.blind or drawn.audited
    bound = threshold(policy, version, prediction)
    if bound is None:
        return Ruling(Route.PENDING, False, blind, "no certified threshold for this answer")
    confidence = prediction.confidence
    if confidence is None or math.isnan(confidence) or confidence < bound:
        shown = "none" if confidence is None else f"{confidence:.3f}"
        return Ruling(Route.PENDING, False, blind, f"confidence {shown} < {bound:.3f}")
    return Ruling(Route.AUTO, drawn.audited, True, f"confidence {confidence:.3f} >= {bound:.3f}")


def decide_scores(
    scores: Scores, *, version: str | None, level: Level, policy: Policy
) -> tuple[list[bool] | None, list[str] | None]:  # fmt: skip
    """Say of a classifier's answers at `partial` or `full` what `decide` says of each of them.

    Returns:
        (automated, reasons): whether the model decides each, None where it decides all; and why, None where the
        reason is the level.
    """
    if level == Level.FULL:
        return None, None
    sides = policy.thresholds.get(version or "") or {}
    bounds = np.array([sides.get(label, sides.get("*", math.nan)) for label in scores.labels])[scores.best]
    automated: list[bool] = (scores.confidence >= bounds).tolist()  # false for NaN
    reasons = [
        "no certified threshold for this answer" if bound != bound
        else f"confidence {c:.3f} {'>=' if auto else '<'} {bound:.3f}"
        for c, bound, auto in zip(scores.confidence.tolist(), bounds.tolist(), automated, strict=True)
    ]  # fmt: skip
    return automated, reasons


def threshold(policy: Policy, version: str | None, prediction: Prediction) -> float | None:
    """Return the least confidence at which this version may decide this answer, or None for never."""
    sides = policy.thresholds.get(version or "")
    if not sides:
        return None
    return sides.get(str(prediction.value), sides.get("*"))
