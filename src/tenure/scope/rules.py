"""What keys of a project file ask of each other: pure checks over the values, in the order of the file.

A project built in Python goes through the same rules; only the reader adds lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tenure.errors import ProjectError
from tenure.scope import gates
from tenure.scope.condition import fields_of
from tenure.scope.hosts import allowed
from tenure.scope.project import (
    Automation,
    EndpointSpec,
    Field,
    Output,
    Project,
    RolloutSpec,
    StageSpec,
    Threshold,
    Trust,
)

LEVELS = ("human_only", "shadow", "assist", "partial", "full")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
SHA256 = re.compile(r"[0-9a-f]{64}")
USES = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
REMOTE = re.compile(r"https?://[^\s/]+/v2/models/\S+")
JUDGEMENT_MARGIN_S = 0.25


@dataclass(frozen=True)
class Fault:
    """What is wrong at `place`; `needs`: other places whose values the rule used."""

    place: str
    message: str
    needs: tuple[str, ...] = ()


def check(project: Project) -> None:
    """Refuse a project built in Python that breaks a rule.

    Raises:
        ProjectError: `faults` holds every fault as `place: message`.
    """
    found = [f"{fault.place}: {fault.message}" for fault in faults(project)]
    if found:
        raise ProjectError(found)


def faults(project: Project) -> Iterator[Fault]:
    """Yield every fault of meaning."""
    yield from _top(project)
    yield from _output(project.scope.y, "scope.y")
    yield from _metrics(project)
    yield from _trust(project.trust)
    yield from _exchange(project.exchange.hosts)
    for name, spec in project.endpoints.items():
        yield from _endpoint(project, name, spec)


def _top(project: Project) -> Iterator[Fault]:
    if project.tenure != 1:
        yield Fault("tenure", f"expected 1, the version of this format, got {project.tenure}")
    if not NAME.fullmatch(project.project):
        yield Fault("project", f"{_NAMES}, got {project.project!r}")
    if not project.endpoints:
        yield Fault("endpoints", "expected at least one endpoint")
    server = project.server
    if server.port and server.port == server.console_port:
        yield Fault(
            "server.console_port", f"expected another port than server.port, {server.port}", ("server.port",)
        )
    if server.grpc_port and server.grpc_port in (server.port, server.console_port):
        yield Fault("server.grpc_port", f"expected a port of its own, got {server.grpc_port}", ("server.port",))
    if server.state is not None and not server.state.startswith(("sqlite:", "postgresql")):
        yield Fault("server.state", f"expected a postgresql://… or sqlite:///… URL, got {server.state!r}")


def _metrics(project: Project) -> Iterator[Fault]:
    for name, target in project.scope.metrics.items():
        place = f"scope.metrics.{name}"
        if target.max is None and target.min is None:
            yield Fault(place, "expected max or min")
        if target.max is not None and target.min is not None and target.min > target.max:
            yield Fault(place, f"min {target.min:g} is above max {target.max:g}")


def _exchange(hosts: tuple[str, ...]) -> Iterator[Fault]:
    try:
        allowed(hosts)
    except ValueError as error:
        yield Fault("exchange.hosts", str(error))


def _trust(trust: Trust) -> Iterator[Fault]:
    places = {f"trust.sha256[{i}]": digest for i, digest in enumerate(trust.sha256)}
    places |= {f"trust.skops.{digest}": digest for digest in trust.skops}
    for place, digest in places.items():
        if not SHA256.fullmatch(digest):
            yield Fault(place, f"expected a SHA-256 of 64 small hex digits, got {digest!r}")


def _endpoint(project: Project, name: str, spec: EndpointSpec) -> Iterator[Fault]:
    place = f"endpoints.{name}"
    output = spec.output or project.scope.y
    needs = (f"{place}.output", "scope.y")
    if spec.output is not None:
        yield from _output(spec.output, f"{place}.output")
    if output.kind == "label" and not output.labels:
        yield Fault(
            place, "expected the labels of its answers, in scope.y.labels or here in output.labels", needs
        )
    if output.regions is not None and spec.input != "image":
        yield Fault(place, f"regions need input: image, not {spec.input}", needs)
    if spec.decode.min_side is not None and spec.input != "image":
        where = (f"{place}.input",)
        yield Fault(f"{place}.decode.min_side", f"only pictures are decoded smaller, not {spec.input}", where)
    yield from _fields(spec, place)
    yield from _pipeline(spec, f"{place}.pipeline")
    yield from _rule_answers(spec, output, f"{place}.pipeline", needs)
    yield from _fallback(spec, output, place)
    yield from _automation(spec, output, place, case=project.scope.case)
    yield from _rollout(spec.rollout, project.data.unit, f"{place}.rollout", spec.fields)
    yield from _monitor(spec, place)
    if spec.retrain.auto_train and spec.retrain.command is None:
        yield Fault(f"{place}.retrain.auto_train", "expected retrain.command, the command that trains")
    if spec.retrain.auto_deploy and spec.retrain.command is None:
        yield Fault(f"{place}.retrain.auto_deploy", "expected retrain.command, the command that trains")
    if not NAME.fullmatch(name):
        yield Fault(place, f"{_NAMES}, got {name!r}")


def _output(output: Output, place: str) -> Iterator[Fault]:
    labels = f"{place}.labels"
    if output.kind != "label" and output.labels:
        yield Fault(labels, f"an output of kind {output.kind} has no labels", (f"{place}.kind",))
    if len(output.labels) == 1:
        yield Fault(labels, f"expected at least two labels, got only {output.labels[0]}")
    for label in _doubled(output.labels):
        yield Fault(labels, f"{label} stands there twice")


def _fields(spec: EndpointSpec, place: str) -> Iterator[Fault]:
    if spec.fields and spec.input != "record":
        yield Fault(f"{place}.fields", f"fields describe input: record, this endpoint takes {spec.input}")
    for name, field in spec.fields.items():
        yield from _field(field, f"{place}.fields.{name}")


def _field(field: Field, place: str) -> Iterator[Fault]:
    if field.values and field.type != "category":
        yield Fault(f"{place}.values", f"values are for type: category, not {field.type}")
    if field.type not in ("int", "float") and (field.min is not None or field.max is not None):
        yield Fault(place, f"min and max are for int and float, not {field.type}")
    if field.min is not None and field.max is not None and field.min > field.max:
        yield Fault(place, f"min {field.min:g} is above max {field.max:g}")


def _pipeline(spec: EndpointSpec, place: str) -> Iterator[Fault]:
    for i, stage in enumerate(spec.pipeline):
        yield from _stage(stage, spec, f"{place}[{i}]")
    for name in _doubled(tuple(stage.stage for stage in spec.pipeline)):
        yield Fault(place, f"two stages are called {name}; stages need names of their own")
    spent = sum(stage.budget or 0.0 for stage in spec.pipeline)
    if spent > spec.serve.latency:
        message = f"the stages' budgets sum to {spent:g} s, more than serve.latency, {spec.serve.latency:g} s"
        yield Fault(place, message, (f"{place.removesuffix('pipeline')}serve.latency",))


def _stage(stage: StageSpec, spec: EndpointSpec, place: str) -> Iterator[Fault]:
    if not NAME.fullmatch(stage.stage):
        yield Fault(f"{place}.stage", f"{_NAMES}, got {stage.stage!r}")
    if (stage.uses is None) == (stage.otherwise is None):
        yield Fault(place, "expected either uses, or otherwise for a rule or a constant")
    if stage.uses is not None and not (USES.fullmatch(stage.uses) or REMOTE.fullmatch(stage.uses)):
        message = f'expected "module:Name", such as "my:Scratch" for class Scratch in my.py, got {stage.uses!r}'
        yield Fault(f"{place}.uses", message)
    if stage.rule and stage.uses is not None:
        yield Fault(f"{place}.rule", "expected no uses beside a rule", (f"{place}.uses",))
    if stage.processes > 1 and stage.placement != "process":
        yield Fault(
            f"{place}.processes", f"needs placement: process, got {stage.placement}", (f"{place}.placement",)
        )
    if stage.rule and spec.input != "record":
        yield Fault(f"{place}.rule", f"rules need input: record, this endpoint takes {spec.input}")
    for i, case in enumerate(stage.rule):
        yield from _case(case.when, spec, f"{place}.rule[{i}].when")


def _rule_answers(spec: EndpointSpec, output: Output, place: str, needs: tuple[str, ...]) -> Iterator[Fault]:
    """Yield what the last stage, if it is a rule, answers beside the labels."""
    if not spec.pipeline or output.kind != "label":
        return
    at, last = f"{place}[{len(spec.pipeline) - 1}]", spec.pipeline[-1]
    said = {f"{at}.rule[{i}].answer": case.answer for i, case in enumerate(last.rule)}
    for where, answer in {**said, f"{at}.otherwise": last.otherwise}.items():
        if answer is not None and answer not in output.labels:
            yield Fault(where, f"expected one of the labels {', '.join(output.labels)}, got {answer}", needs)


def _case(when: str, spec: EndpointSpec, place: str) -> Iterator[Fault]:
    try:
        named = fields_of(when)
    except ValueError as error:
        yield Fault(place, str(error))
        return
    for name in named:
        if spec.fields and name not in spec.fields:
            yield Fault(place, f"expected one of the fields {', '.join(spec.fields)}, got {name}")


def _fallback(spec: EndpointSpec, output: Output, place: str) -> Iterator[Fault]:
    fallback, at = spec.serve.on_timeout, f"{place}.serve.on_timeout"
    if fallback is None:
        if spec.serve.on_overrun == "fallback":
            told = "fallback needs on_timeout: it names the decision"
            yield Fault(f"{place}.serve.on_overrun", told, (f"{place}.serve",))
        return
    if output.kind == "label" and output.labels and fallback.decide not in output.labels:
        got, labels = fallback.decide, ", ".join(output.labels)
        needs = (f"{place}.output", "scope.y")
        yield Fault(f"{at}.decide", f"expected one of the labels {labels}, got {got}", needs)
    if output.kind == "number" and (isinstance(fallback.decide, (str, bool))):
        yield Fault(f"{at}.decide", f"expected a number, got {fallback.decide}", (f"{place}.output", "scope.y"))
    if fallback.after <= JUDGEMENT_MARGIN_S:
        yield Fault(f"{at}.after", "expected more than 250ms; people's judgements count until 250ms before it")


def _agreements(spec: EndpointSpec, at: str, review: str) -> Iterator[Fault]:
    """Yield what a claim against adjudicated truth lacks: it needs some of each bound, and second readings."""
    auto, key = spec.automation, f"{at}.certificate.agreements"
    if (bound := auto.certificate.agreements) is None:
        return
    parts = (auto, *(auto.segments.values.values() if auto.segments else ()))
    bounds = [s.errors for s in parts] + [side.errors for s in parts for side in s.sides.values()]
    if any(bound >= most for most in bounds if most is not None):
        message = "expected less than each bound on errors, of which it is a part"
        yield Fault(key, message, (f"{at}.errors", f"{at}.sides"))
    if auto.certificate.labels == "weighted":
        yield Fault(key, "expected labels: fair beside it; weights are not known for second readings")
    second = spec.review.second_reader
    if spec.review.readers < 2 and not min(second.agreements, second.disagreements):
        message = "needs agreements that are read again: second_reader with both shares above 0"
        yield Fault(key, message, (f"{review}.second_reader",))


def _automation(spec: EndpointSpec, output: Output, place: str, *, case: str) -> Iterator[Fault]:
    auto, at = spec.automation, f"{place}.automation"
    bounds = (f"{at}.sides", f"{at}.errors")
    if LEVELS.index(auto.start) > LEVELS.index(auto.max):
        yield Fault(f"{at}.start", f"{auto.start} is above max: {auto.max}", (f"{at}.max",))
    if auto.sides and auto.errors is not None:
        yield Fault(f"{at}.errors", "expected either errors (all answers) or sides (by label), not both", bounds)
    if auto.start == "full" and case != "new":
        message = (
            f"full from the first day is for case: new, which replaces nobody; expected assist, case is {case}"
        )
        yield Fault(f"{at}.start", message, ("scope.case",))
    if _earns(auto) and not auto.sides and auto.errors is None:
        message = f"max: {auto.max} needs a bound: errors for all automated answers, or sides by label"
        yield Fault(f"{at}.max", message, bounds)
    yield from _agreements(spec, at, f"{place}.review")
    yield from _loss(spec, output, place)
    near = (f"{place}.output", "scope.y")
    for key, table in ((f"{at}.sides", auto.sides), (f"{place}.review.costs", spec.review.costs)):
        yield from _labels(table, output, key, near)
    yield from _segments(spec, output, f"{at}.segments")


def _segments(spec: EndpointSpec, output: Output, at: str) -> Iterator[Fault]:
    segments = spec.automation.segments
    if segments is None:
        return
    yield from _segment_field(spec, segments.by, at)
    field = spec.fields.get(segments.by)
    for value, told in segments.values.items():
        place, promise = f"{at}.values.{value}", spec.automation.of(value)
        if field is not None and (why := _no_value(field, value)):
            yield Fault(place, why, (f"{at}.by",))
        if told.sides and told.errors is not None:
            yield Fault(f"{place}.errors", "expected either errors or sides, not both", (f"{place}.sides",))
        if LEVELS.index(promise.max) < LEVELS.index(promise.start):
            yield Fault(f"{place}.max", f"{promise.max} is below start: {promise.start}", ())
        if _earns(promise) and not promise.sides and promise.errors is None:
            yield Fault(f"{place}.max", f"max: {promise.max} needs a bound: errors or sides", ())
        yield from _labels(told.sides, output, f"{place}.sides", ())
    if not segments.values or "" in segments.values:
        yield Fault(f"{at}.values", "expected at least one value, and none that is empty")


def _labels(table: Iterable[str], output: Output, at: str, near: tuple[str, ...]) -> Iterator[Fault]:
    """Yield the keys of a table by label that are none of the labels."""
    for label in table:
        if output.labels and label not in output.labels:
            yield Fault(f"{at}.{label}", f"expected one of the labels {', '.join(output.labels)}", near)


def _segment_field(spec: EndpointSpec, by: str, at: str) -> Iterator[Fault]:
    if by in spec.fields:
        if spec.fields[by].type == "float":
            yield Fault(f"{at}.by", f"expected a field of few values; {by} is a float")
    elif by != "unit":
        known = [name for name, field in spec.fields.items() if field.type != "float"]
        where = f"one of the fields {', '.join(known)} or unit" if known else "unit: no field is declared"
        yield Fault(f"{at}.by", f"expected {where}, got {by!r}")


def _no_value(field: Field, value: str) -> str | None:
    """Say why a field can never have a value that is spelled so, or return None."""
    if field.type == "category" and field.values and value not in field.values:
        return f"expected one of the field's values {', '.join(field.values)}"
    if field.type == "bool" and value not in ("true", "false"):
        return "expected true or false"
    if field.type == "int" and not re.fullmatch(r"0|-?[1-9][0-9]*", value):
        return "expected a whole number"
    return None


def _loss(spec: EndpointSpec, output: Output, place: str) -> Iterator[Fault]:
    loss, at = spec.automation.loss, f"{place}.automation.loss"
    near = (f"{place}.output", "scope.y")
    given = [n for n in ("tolerance", "iou", "word_error", "costs") if getattr(loss, n) not in (None, {})]
    if len(given) > 1:
        yield Fault(at, f"expected one way to be wrong, got {', '.join(given)}", ())
    fits = {
        "tolerance": output.kind == "number",
        "iou": output.regions == "box",
        "word_error": output.kind == "text",
        "costs": bool(output.labels),
    }
    needs = {"tolerance": "kind: number", "iou": "regions: box", "word_error": "kind: text", "costs": "labels"}
    for name in given:
        if not fits[name]:
            yield Fault(f"{at}.{name}", f"needs an output with {needs[name]}", near)
    if loss.tolerance is not None and loss.tolerance < 0.0:
        yield Fault(f"{at}.tolerance", f"expected at least 0, got {loss.tolerance:g}", ())
    if _earns(spec.automation) and output.kind == "number" and loss.tolerance is None:
        yield Fault(
            f"{place}.automation.max", "a number needs automation.loss.tolerance: how far off is wrong", near
        )
    if spec.automation.sides and output.kind != "label":
        yield Fault(
            f"{place}.automation.sides", f"expected errors: an output of kind {output.kind} has no labels", near
        )
    for label in sorted({*loss.costs, *(said for row in loss.costs.values() for said in row)}):
        if output.labels and label not in output.labels:
            yield Fault(
                f"{at}.costs", f"expected one of the labels {', '.join(output.labels)}, got {label}", near
            )


def plan_faults(plan: RolloutSpec, unit: str | None, place: str) -> Iterator[Fault]:
    """Yield what is wrong in a plan that stands in a file of its own."""
    yield from _rollout(plan, unit, place, None)


def _rollout(
    plan: RolloutSpec, unit: str | None, place: str, fields: Mapping[str, Field] | None
) -> Iterator[Fault]:
    shares: list[float] = []
    for i, step in enumerate(plan.steps):
        at = f"{place}.steps[{i}]"
        if (step.shadow is None) == (step.share is None):
            yield Fault(at, "expected either shadow or share")
        elif step.share is None and shares:
            yield Fault(at, "a shadow step cannot follow a share; shadow first")
        elif step.share is not None:
            if shares and step.share <= shares[-1]:
                yield Fault(at, f"shares must rise, got {step.share:g} after {shares[-1]:g}")
            shares.append(step.share)
    if plan.steps and plan.strategy is not None:
        yield Fault(f"{place}.strategy", "steps say it all; keep strategy or steps", (f"{place}.steps",))
    if plan.steps and (not shares or shares[-1] != 1.0):
        yield Fault(f"{place}.steps", "expected the last step to be share: 100%")
    for i, gate in enumerate(plan.gates):
        if (wrong := gates.gate_fault(gate)) is not None:
            key = f".{wrong[0]}" if getattr(gate, wrong[0]) else ""
            yield Fault(f"{place}.gates[{i}]{key}", wrong[1])
    for name in _doubled(tuple(gate.name for gate in plan.gates)):
        yield Fault(f"{place}.gates", f"two gates count {name}; keep one")
    for i, part in enumerate(plan.slices):
        if (wrong := gates.slice_fault(part, fields)) is not None:
            key = f".{wrong[0]}" if getattr(part, wrong[0]) else ""
            yield Fault(f"{place}.slices[{i}]{key}", wrong[1])
    for by in _doubled(tuple(part.by for part in plan.slices)):
        yield Fault(f"{place}.slices", f"two slices are by {by}; join their values")
    if plan.assign != "request" and unit is None:
        yield Fault(
            f"{place}.assign", f"{plan.assign} needs data.unit, the key that requests share", ("data.unit",)
        )


def _monitor(spec: EndpointSpec, place: str) -> Iterator[Fault]:
    watch, at = spec.monitor, f"{place}.monitor"
    for i, threshold in enumerate(watch.thresholds):
        yield from _threshold(threshold, f"{at}.thresholds[{i}]")
    rules = [(f"{at}.thresholds[{i}].do", t.do) for i, t in enumerate(watch.thresholds)]
    rules += [(f"{at}.alarms[{i}].do", a.do) for i, a in enumerate(watch.alarms)]
    for where, actions in rules:
        if "drop_level" in actions and not _automates(spec):
            message = f"drop_level has nothing to drop below automation.max: partial, it is {spec.automation.max}"
            yield Fault(where, message, (f"{place}.automation",))
        if "open_retraining" in actions and spec.retrain.command is None:
            yield Fault(where, "open_retraining needs retrain.command", (f"{place}.retrain",))
    if watch.false_alarms <= watch.pane:
        yield Fault(f"{at}.false_alarms", "expected fewer than one per pane", (f"{at}.pane",))
    if watch.webhook is not None and not watch.webhook.startswith(("http://", "https://")):
        yield Fault(f"{at}.webhook", f"expected an http:// or https:// URL, got {watch.webhook!r}")


def _threshold(threshold: Threshold, place: str) -> Iterator[Fault]:
    if (threshold.above is None) == (threshold.below is None):
        yield Fault(place, "expected either above or below; write two thresholds for a band")


def _earns(auto: Automation) -> bool:
    """Say whether automation is to be earned; a new capability that starts at `full` replaces nobody."""
    return auto.max in ("partial", "full") and auto.start != "full"


def _automates(spec: EndpointSpec) -> bool:
    auto = spec.automation
    return any(auto.of(segment).max in ("partial", "full") for segment in auto.names())


def _doubled(names: tuple[str, ...]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


_NAMES = "expected a name of small letters, digits, - and _, at most 63"
