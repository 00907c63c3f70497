"""What an alarm says: what moved, where, by how much, how, since when, and what cannot be known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from tenure.monitor import metrics
from tenure.monitor.detector import Effect, Watch
from tenure.stats.shape import Shape

CANNOT_KNOW = (
    "Whether the relation between input and truth changed too (concept drift) cannot be known without labels."
)
NAMED = 4
"""Metrics that an alarm names beside the first one."""

INPUT_CHANGED = "The input board has an open alarm: these answers may have changed only because their input did."
INPUT_QUIET = "The input board has seen no change; the cause may be an input that is not measured, or the model."


def drift(watch: Watch, effect: Effect, also: Sequence[str], when: str, causes: Sequence[str]) -> str:
    """Return the message of a drift alarm; the effect stands first."""
    titles = [metrics.find(m).title for m in also[:NAMED]]
    rest = [f"{len(also) - NAMED} more"] if len(also) > NAMED else []
    more = f" Moved too: {', '.join([*titles, *rest])}." if also else ""
    return " ".join([f"{headline(watch, effect)}{more}", when, *causes])


def headline(watch: Watch, effect: Effect) -> str:
    """Return what moved and how far: the mean in the metric's unit, then the share of rows.

    Example: `Input brightness fell from 118 to 53 grey levels: 98% of the rows are below 104, 10% were.`
    """
    metric = metrics.find(watch.metric, watch.stage)
    name = f"{watch.stage.capitalize()} {metric.title}"
    if effect.bet == "missing":
        return f"{name} is missing in {effect.share_now:.0%} of the rows, before in {effect.share_before:.0%}."
    verb = "fell" if effect.mean_now < effect.mean_before else "rose"
    moved = f"{name} {verb} from {_amount(effect.mean_before, metric)} to {_amount(effect.mean_now, metric)}"
    unit = "" if metric.unit == "share" else f" {metric.unit}".rstrip()
    if is_yes_or_no(watch):
        return f"{moved}."
    if effect.bet == "unseen":
        span = f"{watch.low:.4g} to {watch.high:.4g}"
        return f"{moved}{unit}: {effect.share_now:.0%} of the rows are outside what the reference saw ({span})."
    return f"{moved}{unit}: {effect.share_now:.0%} of the rows are {effect.bet}, {effect.share_before:.0%} were."


def is_yes_or_no(watch: Watch) -> bool:
    """Say whether a metric is 0 or 1 per row: its mean is a share of rows and needs no second number."""
    name = watch.metric
    return watch.stage == metrics.OUTPUT and (name == "empty" or name.startswith(metrics.CLASS_PREFIX))


def _amount(value: float, metric: metrics.Metric) -> str:
    return f"{value:.1%}" if metric.unit == "share" else f"{value:.4g}"


def when(shape: Shape, starts_us: Sequence[int]) -> str:
    """Return how and since when, from the shape of the pane means and the panes' starts."""
    if shape.earliest is None or shape.latest is None:
        return "Too early to tell how it began."
    first, last = (clock(starts_us[min(i, len(starts_us) - 1)]) for i in (shape.earliest, shape.latest))
    between = f"at {first}" if first == last else f"between {first} and {last}"
    if shape.verdict == "too early to tell":
        return f"Too early to tell whether sudden or gradual; began {between} (about 95 %)."
    return f"{shape.verdict.capitalize()}, began {between} (about 95 %)."


def threshold(metric: str, value: float, side: str, bound: float, lasted_s: float) -> str:
    """Return the message of a plain threshold."""
    known = metrics.find(metric)
    unit = "" if known.unit == "share" else f" {known.unit}"
    lasting = f", for {lasted_s:.4g} s" if lasted_s else ""
    return f"{known.title.capitalize()} is {value:.4g}{unit}, {side} the threshold of {bound:.4g}{lasting}."


def clock(at_us: int) -> str:
    """Return a time as people and logs read it, in UTC."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
