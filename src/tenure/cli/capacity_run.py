"""Carry out a load test: find or start the server, send the load, judge, keep the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
from rich.console import Console

from tenure.cli import capacity_report as report
from tenure.cli.office import Office
from tenure.clock import Clock, SystemClock
from tenure.deploy.capacity import chart, plot, samples, trial
from tenure.deploy.capacity.arrivals import MOST
from tenure.deploy.capacity.chart import Chart
from tenure.deploy.capacity.drive import drive
from tenure.deploy.capacity.generator import Load
from tenure.deploy.capacity.measured import Measured, as_plain
from tenure.deploy.capacity.search import Found, search
from tenure.deploy.capacity.target import Target, ask_once, parse, refuse_remote, running
from tenure.deploy.capacity.trial import StartLevel
from tenure.deploy.capacity.verdict import SHARE, judge
from tenure.errors import CaseError, ConflictError
from tenure.model.bundle import Sample
from tenure.scope import units
from tenure.scope.project import EndpointSpec, Project, Serve
from tenure.system import Server

LONGEST_S = 3600.0
_HOLDS, _BREAKS, _INVALID = 0, 1, 2
_IDLE_PERCENT, _IDLE_TRIES = 15.0, 20


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which server is to be loaded, as the command's options say it."""

    url: str | None = None
    token: str = ""
    copy: bool = False
    against_live: bool = False
    yes_remote: bool = False
    workers: int | None = None
    level: StartLevel | None = None


class Done(NamedTuple):
    """The end of a test: exit code, figures as plain values, a chart of them."""

    code: int
    figures: dict[str, Any]
    chart: Chart


# What to send


def load_of(*, seconds: str, warmup: str, timeout: str, **rest: Any) -> Load:
    """Return the load that the options describe; where it goes is filled in by `aimed`."""
    return Load(
        host="", port=0, requests=(), seconds=duration(seconds, "--for"), timeout=duration(timeout, "--timeout"),
        warmup=duration(warmup, "--warmup", least=0.0), **rest,
    )  # fmt: skip


def duration(text: str, option: str, *, least: float = 0.1) -> float:
    """Return seconds; raises CaseError for what is no duration, or too short or long."""
    try:
        found = units.duration(text)
    except ValueError as error:
        raise CaseError(str(error), at=option) from error
    if not least <= found <= LONGEST_S:
        raise CaseError(f"expected {least:g} s to {LONGEST_S:g} s, got {text}", at=option)
    return found


def inputs(desk: Office, endpoint: str, path: Path | None) -> list[Sample]:
    """Return what to send, checked against the endpoint's schema."""
    live = trial.live_bundle(desk.project, desk.state, endpoint)
    if path is not None:
        found = samples.of_path(path)
    else:
        versions = [v.id for v in desk.registry.list(endpoint) if v.state != "retired"]
        found = samples.of_bundles(desk.registry.get(version) for version in versions)
    samples.check(found, live.manifest.input)
    return found


def aimed(load: Load, target: Target, endpoint: str, found: Sequence[Sample], *, spec: EndpointSpec) -> Load:
    """Return the load with its target and its requests, after one request has shown that it is answered.

    Raises:
        CaseError, BusyError: it is not; or the test would be too large.
    """
    rate = load.rate or spec.serve.qps
    if rate * (load.seconds + load.warmup) > MOST:
        raise CaseError(f"a test sends at most {MOST} requests; lower --qps or --for", at="--qps")
    ask_once(target, endpoint, found[0])
    requests = samples.as_requests(
        found, endpoint=endpoint, host=target.address, prefix=target.prefix, token=target.token
    )
    return msgspec.structs.replace(
        load, host=target.host, port=target.port, tls=target.tls, requests=requests, rate=rate,
        budget=spec.serve.latency,
    )  # fmt: skip


# Where to


@contextmanager
def target(desk: Office, place: Place, console: Console) -> Iterator[Target]:
    """Give the server to load: the named or running one where that was asked for, else one on a copy.

    Raises:
        ConflictError: a server runs or is named, and neither `--against-live` nor `--copy` was said.
        AccessError: it is on another machine.
    """
    live = _named(desk, place)
    if live is not None and place.against_live:
        refuse_remote(live, allowed=place.yes_remote)
        console.print(
            f"loading the running server at {live.address}: every request is logged, under the unit "
            f"{samples.UNIT}, and counts in its reviews, monitoring and evidence",
            style="bold yellow", markup=False,
        )  # fmt: skip
        yield live
        return
    if place.against_live:
        raise ConflictError("no server runs on this data folder; leave out --against-live", at="--against-live")
    if live is not None and (place.url or not place.copy):
        raise ConflictError(
            f"a server runs at {live.address}: say --copy to test a copy beside it (both then share the cores), "
            "or --against-live to load it itself (its log, reviews and monitoring will count every request)",
            code="live_server", at=live.address,
        )  # fmt: skip
    with trial.copied(desk.project, desk.state, workers=place.workers, level=place.level) as project:
        count = project.server.workers
        console.print(f"starting a temporary copy with {count} worker{'s' if count > 1 else ''}")
        with served(project) as found:
            yield found


@contextmanager
def served(project: Project) -> Iterator[Target]:
    """Serve a trial's project while the `with` block runs."""
    with Server(project, open_loopback=True) as server:
        yield parse(server.url, pids=server.supervisor.pids())


def _named(desk: Office, place: Place) -> Target | None:
    here = running(desk.folder, token=place.token)
    if place.url is None:
        return here
    found = parse(place.url, token=place.token)
    same = here is not None and (here.host, here.port) == (found.host, found.port)
    return msgspec.structs.replace(found, pids=here.pids) if here is not None and same else found


# The tests


def once(load: Load, target: Target, console: Console, *, serve: Serve) -> Done:
    """Send one load, print what was measured and the verdict."""
    found = drive(load, pids=target.pids, clock=SystemClock())
    verdict = judge(found, serve)
    report.print_load(console, found)
    report.print_verdict(console, verdict)
    code = _INVALID if verdict.holds is None else _HOLDS if verdict.holds else _BREAKS
    figures = {"verdict": msgspec.to_builtins(verdict), "measured": as_plain(found), "cores": psutil.cpu_count()}
    return Done(code, figures, plot.percentiles(found, title="latency from the intended send time"))


def find(load: Load, target: Target, console: Console, *, step: str, ceiling: float) -> Done:
    """Search the highest rate that holds and print the curve."""
    found = highest(load, target, step_s=duration(step, "--step", least=1.0), ceiling=ceiling, console=console)
    budget_ms = load.budget * 1e3
    report.print_found(console, found, budget_ms=budget_ms)
    steps = [{"rate": s.rate, "held": s.held, "measured": as_plain(s.measured)} for s in found.steps]
    figures = {"highest": found.highest, "knee": found.knee, "limit": found.limit, "steps": steps}
    code = _HOLDS if found.highest else _INVALID if found.limit == "generator" else _BREAKS
    return Done(code, figures, plot.curve(found, title="p99 by rate", budget_ms=budget_ms))


def highest(
    load: Load, target: Target, *, step_s: float, ceiling: float, console: Console | None = None,
    before: Callable[[], None] | None = None,
) -> Found:  # fmt: skip
    """Return the highest rate that holds the load's budget; each step begins when the server rests.

    `before` is called before each step.
    """
    clock, ready = SystemClock(), msgspec.structs.replace
    most = min(ceiling, MOST / (step_s + 1.0))

    def measure(rate: float) -> Measured:
        rest(target, clock)
        if before is not None:
            before()
        late = int(rate * step_s * (1 - SHARE)) + 1
        short = ready(
            load, rate=rate, seconds=step_s, warmup=1.0, ramp=False, give_up=late,
            timeout=min(load.timeout, max(2.0, 5 * load.budget)),
        )  # fmt: skip
        found = drive(short, pids=target.pids, clock=clock)
        if console is not None:
            console.print(f"  {rate:.0f} a second: p99 {found.latency_ms['p99']:.3g} ms", style="dim")
        return found

    return search(measure, start=load.rate, ceiling=most)


def rest(target: Target, clock: Clock) -> None:
    """Wait, bounded, until the server's processes hardly work: what is queued must not burden the next step."""
    processes = [psutil.Process(pid) for pid in target.pids.values() if psutil.pid_exists(pid)]
    for _ in range(_IDLE_TRIES):
        if sum(p.cpu_percent(0.1) for p in processes) < _IDLE_PERCENT:
            return


def keep(done: Done, *, json: Path | None, plot: Path | None, title: str) -> None:
    """Write the figures and the chart where the user wants them."""
    write_json(done.figures, json, title=title)
    if plot is not None:
        chart.save(msgspec.structs.replace(done.chart, title=f"{title}: {done.chart.title}"), plot)


def write_json(figures: dict[str, Any], path: Path | None, *, title: str) -> None:
    """Write figures to a file, or to stdout for `-`; nowhere for None."""
    if path is None:
        return
    text = msgspec.json.format(msgspec.json.encode({"format": 1, "title": title, **figures}), indent=2)
    if str(path) == "-":
        print(text.decode())
    else:
        path.write_bytes(text)
