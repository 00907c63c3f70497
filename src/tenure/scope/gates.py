"""What makes a gate or a slice of a rollout's plan impossible, whatever the rest of the plan says."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tenure.scope.project import Field, GateSpec, SliceSpec

_REACTION = r"reaction:[A-Za-z0-9_.-]{1,64}"
BAD = re.compile(rf"wrong_decision|over_latency|empty_output|failed|{_REACTION}")
MEAN = re.compile(rf"number|confidence|latency_ms|{_REACTION}")
MOST_VALUES = 64
"""Most slices by one field: each takes its part of one alpha."""

Wrong = tuple[str, str]
"""(key, what is wrong with it)."""


def gate_fault(gate: GateSpec) -> Wrong | None:
    """Return the first key of a gate that cannot be, with the reason; None for a good one."""
    if bool(gate.bad) == bool(gate.mean):
        return "bad", "expected either bad, an outcome that is counted, or mean, a value that is averaged"
    if gate.bad and not BAD.fullmatch(gate.bad):
        known = "wrong_decision, over_latency, empty_output, failed or reaction:NAME"
        return "bad", f"expected {known}, got {gate.bad!r}"
    if gate.mean and not MEAN.fullmatch(gate.mean):
        return "mean", f"expected number, confidence, latency_ms or reaction:NAME, got {gate.mean!r}"
    if (gate.bad or gate.mean).startswith("reaction:") and not gate.maturity:
        return "maturity", "a reaction needs maturity, the time within which it comes"
    return _mean_fault(gate) if gate.mean else _count_fault(gate)


def _mean_fault(gate: GateSpec) -> Wrong | None:
    if gate.constant is not None:
        return "constant", "a mean is compared with the stable version; leave constant out"
    if gate.harm is None:
        return "harm", "a mean needs harm: up or down, the way that is worse"
    if gate.cap is None:
        return (
            "cap",
            "a mean needs cap, the most that one value counts: else a few huge ones decide",
        )
    if gate.cap <= gate.floor:
        return "cap", f"cap {gate.cap:g} must be above floor {gate.floor:g}"
    if gate.margin is None:
        return "margin", "a mean needs margin, the difference that matters, in the value's own unit"
    if max(gate.margin, gate.effect or 0.0) > gate.cap - gate.floor:
        return "margin", f"no difference above {gate.cap - gate.floor:g} fits between floor and cap"
    return None


def _count_fault(gate: GateSpec) -> Wrong | None:
    for key in ("harm", "cap", "effect"):
        if getattr(gate, key) is not None:
            return key, f"{key} belongs to a mean; {gate.bad} is counted"
    return ("floor", f"floor belongs to a mean; {gate.bad} is counted") if gate.floor else None


def slice_fault(spec: SliceSpec, fields: Mapping[str, Field] | None) -> Wrong | None:
    """Return the first key of a slice that cannot be, with the reason; None for a good one.

    Args:
        spec: the slice.
        fields: of the endpoint's records; None where the endpoint is not known.
    """
    if bool(spec.values) == bool(spec.each):
        return "values", "expected either values, a list, or each, the most values that are judged apart"
    if len(set(spec.values)) < len(spec.values) or "" in spec.values:
        return "values", "expected each value once, and none that is empty"
    if max(len(spec.values), spec.each or 0) > MOST_VALUES:
        return "values", f"expected at most {MOST_VALUES} values: each has its part of one alpha"
    if spec.by == "unit" or fields is None:
        return None
    known = [name for name, field in fields.items() if field.type != "float" and not field.masked]
    if spec.by in known:
        return None
    if spec.by in fields:
        why = "masked, and slices are printed" if fields[spec.by].masked else "a float; a slice needs few values"
        return "by", f"{spec.by} is {why}"
    return "by", f"expected unit{''.join(f', {name}' for name in known)}, got {spec.by!r}"
