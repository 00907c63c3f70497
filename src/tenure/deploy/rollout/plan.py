"""What a rollout does: its steps and gates as one immutable value, and whether such a plan can show anything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from tenure.deploy.router import Assign
from tenure.scope import gates as rules
from tenure.scope.project import Case, EndpointSpec, GateSpec, LossSpec, RolloutSpec, SliceSpec, Step, Strategy

MIN_UNITS = 100
"""Units (or unit-epochs) that a step must expect in the candidate's arm before it can pass."""

WRONG = "wrong_decision"
_REACTION = "reaction:"
WHOLE = 0.5
"""Part of a gate's weight that is for all requests where there are slices; these share the rest alike."""
SAME = 1e-5
"""Shares that differ by less are one share: the log keeps them as 32-bit floats."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout's plan; it never changes once the rollout has started.

    Attributes:
        steps: at most one shadow step, which is the first; then rising shares up to 1.
        gates: what is compared; each bad outcome counts at most once.
        slices: parts of the traffic in which every gate is also judged apart.
        assign: what is drawn: each request, each unit once, or each unit once per epoch.
        epoch: seconds of an epoch.
        candidate: `earned`: it automates only what its own certificate covers; `granted`: it takes over the
            stable version's thresholds for the time of the rollout.
        advance: what lets a step pass: that harm is not seen, or that the absence of harm is shown.
        keep_warm: seconds that the old version stays loaded after completion.
        deadline: seconds after the start at which it pauses; 0 never.
        operator_silence: seconds without an operator's look at which it pauses while it asks for one; 0 never.
        second_person: whoever started it may not approve, promote or jump up.
        loss: what makes a decision wrong, as the endpoint's `automation.loss` said at the start.
        format: version of this value as it is stored.
    """

    steps: tuple[Step, ...]
    gates: tuple[GateSpec, ...] = ()
    slices: tuple[SliceSpec, ...] = ()
    assign: Assign = "request"
    epoch: float = 600.0
    candidate: Literal["earned", "granted"] = "earned"
    advance: Literal["not_contradicted", "shown"] = "not_contradicted"
    keep_warm: float = 86_400.0
    deadline: float = 0.0
    operator_silence: float = 0.0
    second_person: bool = False
    loss: LossSpec = LossSpec()
    format: int = 1

    @property
    def alpha(self) -> float:
        """Chance that a candidate that is no worse is ever rolled back by the gates together."""
        return max((gate.alpha for gate in self.gates), default=0.0)

    @property
    def places(self) -> int:
        """How many slices are judged apart at most."""
        return sum(spec.each or len(spec.values) for spec in self.slices)

    def weight(self, gate: GateSpec, part: str) -> float:
        """Return the part of `alpha` that a gate has over all requests, or in one slice.

        In proportion to the gates' own alpha. With slices half of it is for all requests and every place for a
        slice has the same part of the other half, so that all of them sum to 1 and nothing seen changes one.
        """
        whole = gate.alpha / sum(g.alpha for g in self.gates)
        if not self.slices:
            return whole
        return whole * (1.0 - WHOLE) / self.places if part else whole * WHOLE

    def advance_of(self, part: str) -> Literal["not_contradicted", "enough", "shown"]:
        """Return what lets a step pass where all requests count, or in one slice."""
        if not part:
            return self.advance
        return next((s.advance for s in self.slices if part.startswith(f"{s.by}=")), "not_contradicted")

    def share(self, step: int) -> float:
        """Return the chance that the candidate answers a request in this step; 0 in shadow."""
        return self.steps[step].share or 0.0

    def is_shadow(self, step: int) -> bool:
        return self.steps[step].share is None

    def step_of(self, rho: float) -> int | None:
        """Return the step in which the candidate's chance was `rho`, or None: shares are unique in a plan."""
        return next((i for i in range(len(self.steps)) if abs(self.share(i) - rho) < SAME), None)


def reaction_of(gate: GateSpec) -> str | None:
    """Return the name of the reaction that a gate counts or averages, or None.

    Example:
        >>> reaction_of(GateSpec(bad="reaction:redo")), reaction_of(GateSpec(bad="failed"))
        ('redo', None)
    """
    what = gate.bad or gate.mean
    return what.removeprefix(_REACTION) if what.startswith(_REACTION) else None


def plan_from_spec(spec: RolloutSpec, case: Case = "assist") -> Plan:
    """Return the plan that a project file asks for; without steps, the ladder of its strategy or of the case."""
    default = default_plan(case) if spec.strategy is None else strategy_plan(spec.strategy)
    return Plan(
        steps=spec.steps or default.steps,
        gates=spec.gates if spec.steps or spec.gates else default.gates,
        slices=spec.slices,
        assign=spec.assign,
        epoch=spec.epoch,
        candidate=spec.candidate,
        advance=spec.advance,
        keep_warm=spec.keep_warm,
        deadline=spec.deadline,
        operator_silence=spec.operator_silence,
        second_person=spec.second_person,
    )


def strategy_plan(strategy: Strategy) -> Plan:
    """Return the ladder that goes by this name.

    `canary`: rising shares. `shadow`: unseen until people have judged 300 cases and one of them approves, then
    rising shares. `blue_green`: unseen until it is warm and somebody approves, then everything at once.
    """
    ladder = default_plan("new")
    if strategy == "canary":
        return msgspec.structs.replace(ladder, steps=ladder.steps[1:])
    if strategy == "shadow":
        first = Step(shadow=1.0, min=1000, min_labels=300, approve=True)
        return msgspec.structs.replace(ladder, steps=(first, *ladder.steps[1:]))
    return blue_green(min_requests=1000)


def default_plan(case: Case) -> Plan:
    """Return a ladder that fits why the model is there.

    A new product starts with little traffic. Where people did the task, the version runs in their shadow first.
    Where a version replaces an older system, both see the same traffic in shadow and then share it.
    """
    ramp = (Step(share=0.05, min=200), Step(share=0.25, min=500), Step(share=1.0))
    ladders: dict[Case, tuple[Step, ...]] = {
        "new": (Step(share=0.01, min=100), *ramp),
        "assist": (Step(shadow=1.0, min_labels=300), *ramp),
        "replace": (Step(shadow=1.0, min=1000), *ramp[:2], Step(share=0.5, min=1000), ramp[2]),
    }
    gates = (GateSpec(bad="wrong_decision"), GateSpec(bad="over_latency"), GateSpec(bad="failed", alpha=0.01))
    return Plan(steps=ladders[case], gates=gates)


def blue_green(
    *,
    min_labels: int = 0,
    min_requests: int = 0,
    bake: float = 0.0,
    approve: bool = True,
    keep_warm: float = 86_400.0,
) -> Plan:
    """Return the two-step plan: the new version answers unseen, then takes all traffic at once.

    Nothing is split, so the only gate is the paired one: on the same judged cases, which version was wrong.
    """
    first = Step(shadow=1.0, min=min_requests, min_labels=min_labels, bake=bake, approve=approve)
    gates = (GateSpec(bad="wrong_decision"),) if min_labels else ()
    return Plan(steps=(first, Step(share=1.0)), gates=gates, keep_warm=keep_warm)


def alone(plan: Plan) -> Plan:
    """Return a plan for a first version: a shadow step and then everything, compared with constants at most."""
    steps = tuple(s for s in plan.steps if s.share is None or s.share == 1.0)
    return msgspec.structs.replace(
        plan, steps=steps, gates=tuple(g for g in plan.gates if g.constant is not None), slices=()
    )


def evidence_key(candidate: str, stable: str | None, gates: Sequence[GateSpec]) -> str:
    """Return what evidence is bound to: another candidate, stable version or gate starts anew (R5).

    Example:
        >>> evidence_key("b", "a", ()) == evidence_key("a", "b", ())
        False
    """
    text = msgspec.json.encode([candidate, stable, gates], order="sorted")
    return hashlib.sha256(text).hexdigest()[:32]


Fault = tuple[str, str]
"""(where in the plan, as a project file's `rollout` section spells it; what is wrong there and what to do)."""


def problems(plan: Plan, *, units: int | None = None, endpoint: EndpointSpec | None = None) -> list[str]:
    """Return why this plan cannot be run or can show nothing, each with what to do; empty for a good one."""
    return [text for _, text in faults(plan, units=units, endpoint=endpoint)]


def faults(plan: Plan, *, units: int | None = None, endpoint: EndpointSpec | None = None) -> list[Fault]:
    """Return the problems of a plan with their places.

    Args:
        plan: what is asked for.
        units: how many units (lines, users) there are, where that is known.
        endpoint: whose traffic it is, where that is known.
    """
    return [*_of_steps(plan), *_of_gates(plan), *_of_slices(plan, endpoint), *_of_units(plan, units)]


def _of_steps(plan: Plan) -> list[Fault]:
    found: list[Fault] = []
    last = f"steps[{len(plan.steps) - 1}]" if plan.steps else "steps"
    shares = [(n, step.share) for n, step in enumerate(plan.steps) if step.share is not None]
    if not shares or plan.steps[-1].share != 1.0:
        found.append((last, "the last step must be share: 100%, so that the rollout can complete"))
    for (_, a), (n, b) in pairwise(shares):
        if b <= a:
            found.append((f"steps[{n}]", f"shares must rise, got {b:.4g} after {a:.4g}"))
    for n, step in enumerate(plan.steps):
        if why := _of_step(n, step):
            found.append((f"steps[{n}]", f"step {n + 1} {why}"))
    return found


def _of_step(number: int, step: Step) -> str:
    if (step.share is None) == (step.shadow is None):
        return "needs either shadow or share"
    if step.shadow is not None and number > 0:
        return "is a shadow step; only the first step can be one"
    if step.shadow is not None and step.shadow != 1.0:
        return f"shadows {step.shadow:.0%} of requests; write shadow: 100%"
    return ""


def _of_gates(plan: Plan) -> list[Fault]:
    found: list[Fault] = []
    names = [gate.name for gate in plan.gates]
    doubled = sorted({n for n in names if names.count(n) > 1})
    found += [("gates", f"two gates count {name}; keep one") for name in doubled]
    split = any(0.0 < (step.share or 0.0) < 1.0 for step in plan.steps)
    for n, gate in enumerate(plan.gates):
        if why := _unfit(gate, plan):
            found.append((f"gates[{n}]", why))
        if gate.constant is None and not split and not _paired(gate, plan):
            why = (
                f"gate {gate.name} compares both versions at one time, but no step splits the traffic; "
                "remove the gate or add a step such as share: 25%"
            )
            found.append((f"gates[{n}]", why))
    return found


def _paired(gate: GateSpec, plan: Plan) -> bool:
    """Say whether both versions answer the same judged cases, so that nothing has to be split."""
    return gate.name == WRONG and bool(plan.steps) and plan.is_shadow(0)


def _unfit(gate: GateSpec, plan: Plan) -> str:
    if (fault := rules.gate_fault(gate)) is not None:
        return f"gate {gate.name}: {fault[1]}"
    if gate.constant is not None and plan.assign != "request":
        return (
            f"gate {gate.name} counts requests against a constant, and those of one unit go together: "
            "use assign: request"
        )
    if gate.constant is not None and plan.advance == "shown" and gate.constant * gate.ratio >= 1:
        return f"gate {gate.name}: 1 + margin times {gate.constant:g} is no rate; choose a smaller margin"
    return ""


def _of_slices(plan: Plan, endpoint: EndpointSpec | None) -> list[Fault]:
    found: list[Fault] = []
    for n, spec in enumerate(plan.slices):
        at = f"slices[{n}]"
        fault = rules.slice_fault(spec, None if endpoint is None else endpoint.fields)
        if fault is not None:
            found.append((at, f"slices by {spec.by}: {fault[1]}"))
        elif spec.by == "unit" and plan.assign == "unit":
            why = (
                "slices by unit: with assign: unit one unit has one version, so that it cannot be compared; "
                "use assign: request or unit_epoch"
            )
            found.append((at, why))
    return found


def _of_units(plan: Plan, units: int | None) -> list[Fault]:
    if plan.assign != "unit" or units is None or not plan.gates:
        return []
    split = [(n, s.share) for n, s in enumerate(plan.steps) if s.share is not None and s.share < 1.0]
    few = [(n, share) for n, share in split if units * share < MIN_UNITS]
    if few and units < 2 * MIN_UNITS:
        why = (
            f"{units} units split by unit cannot show anything: use assign: request or unit_epoch "
            f"(a step needs {MIN_UNITS} units of the candidate)"
        )
        return [("assign", why)]
    return [
        (
            f"steps[{n}]",
            f"{share:.3g} of {units:,} units are {units * share:.0f} of the candidate and a step needs "
            f"{MIN_UNITS}: begin at a share of {MIN_UNITS / units:.3g} or use assign: request or unit_epoch",
        )
        for n, share in few
    ]
