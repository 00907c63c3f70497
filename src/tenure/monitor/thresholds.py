"""Plain thresholds on pane means, such as `server_load` above 0.91 for 2 minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tenure.monitor import message, metrics
from tenure.monitor.alarms import Draft, Sign
from tenure.monitor.profile import Profile
from tenure.scope.project import Threshold

SILENT_PANES = 3
"""After so many panes without a value the rule says `no_data` rather than what it said last."""


class Rule(msgspec.Struct, frozen=True):
    """Where one threshold stands: since when it is crossed, and its last value."""

    state: Literal["inactive", "pending", "firing", "no_data"] = "inactive"
    since_us: int | None = None
    seen_us: int | None = None
    value: float | None = None


class Rules(msgspec.Struct, frozen=True):
    """All thresholds of an endpoint; stored as JSON in `detectors` under the board `thresholds`."""

    next_us: int = 0
    rules: dict[str, Rule] = {}


def name(threshold: Threshold) -> str:
    """Return the rule's name, as it stands in the alarm."""
    side, bound = _bound(threshold)
    return f"threshold:{threshold.metric} {side} {bound:g}"


def judge(
    rule: Rule, threshold: Threshold, value: float | None, *, start_us: int, end_us: int
) -> tuple[Rule, Sign]:
    """Return the rule after one pane and the sign for its alarm.

    Args:
        rule: where it stood.
        threshold: the promise.
        value: the pane's mean; None without a value in this pane.
        start_us: start of the pane.
        end_us: its end.
    """
    if value is None:
        silent = rule.seen_us is None or end_us - rule.seen_us >= SILENT_PANES * (end_us - start_us)
        if not silent:
            return rule, "true" if rule.state == "pending" else "lasting" if rule.state == "firing" else "false"
        return Rule("no_data", None, rule.seen_us, None), "no_data"
    if not crossed(threshold, value):
        return Rule("inactive", None, end_us, value), "false"
    since = start_us if rule.since_us is None else rule.since_us
    lasting = end_us - since >= threshold.lasting * 1e6
    return Rule("firing" if lasting else "pending", since, end_us, value), "lasting" if lasting else "true"


def crossed(threshold: Threshold, value: float) -> bool:
    """Say whether a pane mean is beyond the threshold."""
    if threshold.above is not None and value > threshold.above:
        return True
    return threshold.below is not None and value < threshold.below


def value_of(metric: str, pane: Mapping[tuple[str, str], Profile], pane_s: float) -> float | None:
    """Return a metric's mean in a pane, whatever its stage; `time_ms` of a stage is named `<stage>.time_ms`."""
    if metric == "throughput":
        rows = pane.get((metrics.SOFTWARE, "error_share"))
        return rows.rows / pane_s if rows is not None else None
    for (stage, found), profile in pane.items():
        if metric in (found, f"{stage}.{found}") and profile.n:
            return profile.mean
    return None


def draft(endpoint: str, threshold: Threshold, rule: Rule, version: str, *, end_us: int) -> Draft:
    """Return what the alarm of a rule says now."""
    side, bound = _bound(threshold)
    metric = metrics.find(threshold.metric)
    lasted = 0.0 if rule.since_us is None else (end_us - rule.since_us) / 1e6
    value = rule.value if rule.value is not None else float("nan")
    return Draft(
        endpoint=endpoint,
        rule=name(threshold),
        kind="software" if metric.board is None else metric.board,
        metric=threshold.metric,
        stage=metric.stage,
        version=version,
        message=message.threshold(threshold.metric, value, side, bound, lasted),
        numbers={"value": rule.value, side: bound, "lasted_s": lasted},
        do=threshold.do,
        onset_us=rule.since_us,
    )


def silent_panes(next_us: int, boundary_us: int, pane_us: int) -> Sequence[int]:
    """Return the panes to judge in order of time; a long gap is judged at its end only."""
    first = max(next_us, boundary_us - 2 * SILENT_PANES * pane_us)
    return range(first, boundary_us, pane_us)


def _bound(threshold: Threshold) -> tuple[str, float]:
    if threshold.above is not None:
        return "above", threshold.above
    return "below", threshold.below if threshold.below is not None else float("nan")
