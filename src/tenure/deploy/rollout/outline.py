"""A plan in words, before anything starts."""

from __future__ import annotations

from tenure.deploy.rollout.plan import WRONG, Plan
from tenure.scope.project import GateSpec, Step


def in_words(plan: Plan) -> list[str]:
    """Return a sentence per step, then what is compared and what stops it.

    Example:
        >>> in_words(Plan(steps=(Step(share=0.05, min=200), Step(share=1.0))))[0]
        '1. answers 5% of requests, until 4,000 requests of both versions'
    """
    steps = [f"{n}. {_step(step)}" for n, step in enumerate(plan.steps, 1)]
    return [*steps, _gates(plan), *_slices(plan), *_limits(plan)]


def _step(step: Step) -> str:
    share = step.share or step.shadow or 0.0
    head = f"answers {share * 100:.4g}% of requests" + ("" if step.share else " unseen")
    needs = []
    if step.min:
        needs.append(f"{-(-step.min // share):,.0f} requests of both versions")
    if step.min_labels:
        needs.append(f"{step.min_labels:,} labels")
    if step.bake:
        needs.append(span(step.bake))
    if step.approve:
        needs.append("an approval")
    return head + (f", until {' and '.join(needs)}" if needs else "")


def _gates(plan: Plan) -> str:
    if not plan.gates:
        return "no gates: nothing is compared"
    names = ", ".join(_gate(gate, plan) for gate in plan.gates)
    how = "shown to be no worse" if plan.advance == "shown" else "not contradicted"
    return f"gates: {names}; a step passes when every gate is {how}; one alpha of {plan.alpha:.3g} for all"


def _gate(gate: GateSpec, plan: Plan) -> str:
    if gate.mean:
        cap = 1.0 if gate.cap is None else gate.cap
        unit = f", found from {gate.effect:g} on" if gate.effect else ""
        return (
            f"mean {gate.mean} (worse when {'higher' if gate.harm == 'up' else 'lower'}, from {gate.floor:g} to "
            f"{cap:g}, margin {gate.margin or 0.0:g}{unit}; about 95 %)"
        )
    if gate.bad == WRONG:
        how = "the worst that it can be" if gate.missing == "worst_case" else "missing by chance"
        return f"{gate.bad} (a missing label counts as {how})"
    return gate.bad


def _slices(plan: Plan) -> list[str]:
    said = {
        "not_contradicted": "harm in one rolls back, too little of one does not hold a step",
        "enough": "harm in one rolls back, and a step waits until there is enough of each",
        "shown": "a step waits until each is shown to be no worse",
    }
    return [
        f"judged apart by {spec.by}: {', '.join(spec.values) or f'each value, the first {spec.each}'}; "
        f"{said[spec.advance]}"
        for spec in plan.slices
    ]


def _limits(plan: Plan) -> list[str]:
    found = [f"drawn by {plan.assign.replace('_', ' ')}; the old version stays warm for {span(plan.keep_warm)}"]
    if plan.deadline:
        found.append(f"pauses {span(plan.deadline)} after its start")
    if plan.operator_silence:
        found.append(f"pauses when it asks for an operator and none looked for {span(plan.operator_silence)}")
    if plan.second_person:
        found.append("whoever starts it may not approve, promote or jump up")
    return found


def span(seconds: float) -> str:
    """Return a duration in the largest unit that it is a multiple of.

    Example:
        >>> span(7_200.0), span(86_400.0), span(90.0)
        ('2 h', '24 h', '90 s')
    """
    for unit, name in ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit and seconds % unit == 0:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds:,.0f} s"
