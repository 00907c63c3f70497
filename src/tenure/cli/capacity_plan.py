"""Carry out `tenure plan`: measure what a request costs, then say what the project file's promises need."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import msgspec
import psutil
from rich.console import Console

from tenure.cli import capacity_report as report
from tenure.cli import capacity_run as run
from tenure.cli.office import Office
from tenure.clock import SystemClock
from tenure.data.view import Log
from tenure.deploy.capacity import costs, forecast, people, trial, volume
from tenure.deploy.capacity.costs import Cost
from tenure.deploy.capacity.drive import Watch, drive, generate
from tenure.deploy.capacity.forecast import Machine
from tenure.deploy.capacity.generator import Load
from tenure.deploy.capacity.samples import varied
from tenure.deploy.capacity.target import Target
from tenure.deploy.capacity.volume import DAY_S, RowSize
from tenure.model.bundle import Sample
from tenure.scope.project import Project
from tenure.types import Level

PROBE_S, CONNECTIONS, PROBES, OPEN_SHARE = 1.5, 64, 3, 0.7
_FILE, _MEASURED, _ASSUMED = "from the file", "measured", "assumed"
_WEEK_S = 7 * DAY_S


class Line(NamedTuple):
    """One number of the plan and where it comes from."""

    name: str
    value: str
    origin: str


class Own(NamedTuple):
    """What the server itself costs: CPU seconds of worker, controller and generator for a request; log rows."""

    request_s: float
    controller_s: float
    sender_s: float
    row: RowSize


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan found; `lines` are for people, the rest for programs."""

    endpoint: str
    holds: bool
    enough_people: bool | None
    machine: Machine
    highest: float
    highest_beside_generator: float
    machines: int
    workers: int
    log_bytes_a_day: float
    payload_bytes_a_day: float
    reviews_an_hour: float
    people: float
    lines: tuple[tuple[str, str, str], ...]


# Measuring


def probe(desk: Office, endpoint: str, samples: Sequence[Sample], *, cores: int | None = None) -> Machine:
    """Measure an endpoint's version in this process, and the server's own cost on a temporary server."""
    return _probe(desk, endpoint, samples, cores)[0]


def _probe(desk: Office, endpoint: str, samples: Sequence[Sample], cores: int | None) -> tuple[Machine, Own]:
    found = trial.live_bundle(desk.project, desk.state, endpoint)
    model = costs.measure(
        found, samples, clock=SystemClock(), cpu_ns=time.process_time_ns, trusted=desk.project.trust
    )
    own = own_cost(desk.project, desk, endpoint, samples, model)
    machine = Machine(
        model=model, request_s=own.request_s, controller_s=own.controller_s, sender_s=own.sender_s,
        cores=cores or len(psutil.Process().cpu_affinity() or ()) or 1,
        inline=trial.placement(found, desk.spec(endpoint)) == "inline",
    )  # fmt: skip
    return machine, own


def own_cost(project: Project, desk: Office, endpoint: str, samples: Sequence[Sample], model: Cost) -> Own:
    """Measure the CPU that a request costs beside its model, on a server whose model answers at once.

    A closed loop tells how much the server can take, but not what a request costs: requests that are answered
    together come back together, and are cheaper than those of callers who do not know of each other. So the cost
    is measured by open loops below that rate.
    """
    with trial.with_constant(project, desk.state, endpoint, scores=model.scores) as made:
        with run.served(made) as target:
            load = Load(
                host="", port=0, requests=(), closed=True, connections=CONNECTIONS, seconds=PROBE_S, warmup=0.0
            )
            inputs = varied(samples, trial.live_bundle(project, desk.state, endpoint).manifest.input)
            ready = run.aimed(load, target, endpoint, inputs, spec=made.endpoints[endpoint])
            closed = drive(ready, pids={}, clock=SystemClock())
            rate = max(1.0, OPEN_SHARE * closed.achieved)
            usual = msgspec.structs.replace(ready, closed=False, rate=rate, connections=512)
            turns = [_turn(usual, target) for _ in range(PROBES)]
        row = volume.of_segments(made.folder(), endpoint)
    worker, controller, sender = (median(turn[i] for turn in turns) for i in range(3))
    return Own(worker, controller, sender, row)


def _turn(load: Load, target: Target) -> tuple[float, float, float]:
    clock = SystemClock()
    with Watch(target.pids, clock=clock) as watch:
        raw = generate(load)
        run.rest(target, clock)  # so that the controller's work on these requests is counted too
    used, count = watch.cpu_s(), max(1, len(raw.arrays()[0]))
    return used["worker 0"] / count, used.get("controller", 0.0) / count, raw.cpu_s / count


def automated_share(desk: Office, endpoint: str, told: float | None) -> tuple[float, str]:
    """Return the share of requests that the model decides, and where that comes from."""
    if told is not None:
        return told, "from the command"
    level = desk.automation.level(endpoint)
    if level != Level.PARTIAL:
        return (1.0 if level == Level.FULL else 0.0), f"level {level.name.lower()} in force"
    log = Log(desk.folder)
    since = desk.state.clock.now_ns() - _WEEK_S * 10**9
    query = (
        "SELECT count(*) AS n, avg(CASE WHEN route = 'auto' THEN 1.0 ELSE 0.0 END) AS share FROM predictions "
        f"WHERE endpoint = '{endpoint}' AND t_ns > {since} AND route <> 'refused'"
    )
    try:
        (row,) = log.query(query).to_pylist()
    finally:
        log.close()
    if not row["n"]:
        return 0.0, f"{_ASSUMED}: level partial, and no requests in a week to count"
    return float(row["share"]), f"{_MEASURED}: {row['n']} requests of a week"


# The plan


def make(
    desk: Office, endpoint: str, samples: Sequence[Sample], *, mean_qps: float | None = None,
    automated: float | None = None, cores: int | None = None,
) -> Plan:  # fmt: skip
    """Measure and predict; see the command."""
    spec, project = desk.spec(endpoint), desk.project
    machine, own = _probe(desk, endpoint, samples, cores)
    serve, workers = spec.serve, project.server.workers
    alone = msgspec.structs.replace(machine, sender_s=0.0)
    highest = forecast.highest(alone, workers=workers, latency=serve.latency)
    beside = forecast.highest(machine, workers=workers, latency=serve.latency)
    machines, each = forecast.enough(alone, rate=serve.qps, latency=serve.latency)
    mean, mean_origin = mean_qps or serve.qps, f"{_ASSUMED}: serve.qps all day"
    mean_origin = "from the command" if mean_qps else mean_origin
    share, share_origin = automated_share(desk, endpoint, automated)
    lines = [
        *_promises(serve.qps, serve.latency, workers), *_costs(machine),
        Line("highest rate here", f"{highest:.0f}/s, {_count(workers)}", "predicted"),
        Line("  as tenure load measures", f"{beside:.0f}/s, generator on the same cores", "predicted"),
        Line("  controller keeps up to", f"{forecast.keeps_up(machine):.0f}/s", "predicted"),
        Line("needed for serve.qps", _needed(machines, each), "predicted"),
        Line("mean rate", f"{mean:g}/s", mean_origin),
        Line("automated share", f"{share:.1%}", share_origin),
    ]  # fmt: skip
    day = _day(desk, endpoint, samples, own.row, mean=mean, share=share)
    need, review_lines = _reviews(desk, endpoint, per_second=mean, share=share)
    lines += [*day[2], *review_lines]
    return Plan(
        endpoint=endpoint, holds=highest >= serve.qps, enough_people=need.is_enough, machine=machine,
        highest=highest, highest_beside_generator=beside, machines=machines, workers=each, log_bytes_a_day=day[0],
        payload_bytes_a_day=day[1], reviews_an_hour=need.per_hour, people=need.people,
        lines=tuple(tuple(line) for line in lines),  # type: ignore[misc]
    )  # fmt: skip


def show(plan: Plan, console: Console) -> None:
    """Print the plan with the origin of each number, and its two verdicts."""
    report.print_table(console, ("", "value", "origin"), plan.lines)
    word = "is" if plan.holds else "is NOT"
    console.print(f"- serve.qps {word} within what this machine holds", highlight=False)
    people = {True: "are enough", False: "are NOT enough", None: "cannot be judged: scope.budget names none"}
    console.print(f"- people for review {people[plan.enough_people]}", highlight=False)


def as_plain(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain values."""
    return dict(msgspec.to_builtins(plan))


def _promises(qps: float, latency: float, workers: int) -> list[Line]:
    return [
        Line("serve.qps", f"{qps:g}/s", _FILE), Line("serve.latency", f"{latency * 1e3:g} ms", _FILE),
        Line("workers", f"{workers}", _FILE),
    ]  # fmt: skip


def _costs(machine: Machine) -> list[Line]:
    model = machine.model
    sizes = ", ".join(str(size) for size, _ in model.points)
    where = "on the event loop" if machine.inline else "in a thread"
    probes = f"{_MEASURED} with a model that answers at once"
    return [
        Line("model", f"{_us(model.item)} an item + {_us(model.batch)} a batch, {where}",
             f"{_MEASURED} here at batches of {sizes}"),
        Line("  of that on a CPU", f"{model.busy:.0%}", _MEASURED),
        Line("server", f"{_us(machine.request_s)} CPU a request", probes),
        Line("controller", f"{_us(machine.controller_s)} CPU a request", probes),
        Line("cores", f"{machine.cores}", _MEASURED),
    ]  # fmt: skip


def _needed(machines: int, workers: int) -> str:
    if not machines:
        return "more than any number: a single request takes longer than serve.latency"
    return _count(workers) + (f" on each of {machines} machines like this" if machines > 1 else " here")


def _count(workers: int) -> str:
    return f"{workers} worker" + ("s" if workers > 1 else "")


def _day(
    desk: Office, endpoint: str, samples: Sequence[Sample], row: RowSize, *, mean: float, share: float
) -> tuple[float, float, list[Line]]:
    """Return (bytes of sealed log a day, bytes of kept inputs a day, lines)."""
    spec, requests = desk.spec(endpoint), mean * DAY_S
    with desk.state.read() as conn:
        own = volume.of_log(conn, endpoint)
    sealed, origin = own or row.sealed, f"{_MEASURED}: the project's own log"
    if not own:
        origin = f"{_MEASURED} on varied samples" if spec.input == "record" else "lower bound: few samples"
    kept = volume.kept_share(spec, share)
    payload = requests * kept * volume.input_bytes(samples)
    lines = [
        Line("log row", f"{row.frame:.0f} B, sealed {sealed:.0f} B", f"frame {_MEASURED}; sealed {origin}"),
        Line("log a day", f"{_gb(requests * sealed)} sealed, {_gb(requests * row.frame)} written", "predicted"),
    ]
    if spec.input in ("image", "audio"):
        lines.append(Line("inputs kept a day", f"{_gb(payload)}: {kept:.1%} of them", "log.payloads"))
    return requests * sealed, payload, lines


def _reviews(desk: Office, endpoint: str, *, per_second: float, share: float) -> tuple[people.Need, list[Line]]:
    spec, budget = desk.spec(endpoint), desk.project.scope.budget
    with desk.state.read() as conn:
        made = people.pace(conn, endpoint)
    seconds = made.seconds or people.SECONDS
    readings = made.readings or people.readings_of(spec)
    seen = people.reviewed_share(spec, share)
    need = people.need(per_second=per_second * seen, readings=readings, seconds=seconds, budget=budget)
    guess = f"{_ASSUMED}: people differ from the model in {people.DISAGREE:.0%}"
    able = "not in the file" if need.budget_per_hour is None else f"{need.budget_per_hour:.0f} an hour"
    return need, [
        Line("reviewed share", f"{seen:.1%}", f"1 - automated + audits of {spec.automation.audit.steady:.0%}"),
        Line("judgements of an item", f"{readings:.2f}", _MEASURED if made.readings else guess),
        Line("seconds of a judgement", f"{seconds:.1f}", _MEASURED if made.seconds else f"{_ASSUMED}"),
        Line("judgements", f"{need.per_hour:.0f} an hour: {need.people:.1f} people at work", "predicted"),
        Line("scope.budget", able, _FILE),
    ]  # fmt: skip


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def _gb(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
