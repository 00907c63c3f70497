"""Print what a tick of the controller costs, part by part, while a real server gets requests and people judge.

python benchmarks/controller.py [--rate 50] [--seconds 60] [--reviewers 4] [--state URL] [--profile FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import functools
import http.client
import json
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tenure import system
from tenure.clock import SystemClock
from tenure.console import process
from tenure.data.access import Access
from tenure.data.records import Kind
from tenure.data.state import State
from tenure.deploy.rollout.ledger import Rollouts
from tenure.model.registry import Registry
from tenure.scope import project as p
from tenure.settings import Settings

_clock = time.perf_counter
MODEL = """
from tenure.types import Prediction


def predict(rows):
    return [Prediction("big" if row["a"] > 1 else "small", 0.97) for row in rows]
"""
HEADERS = {"content-type": "application/json", "accept": "application/json"}


# The controller's process, with a stop-watch around each part


class Watch:
    """Times of the calls of one process, by part, in seconds."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self.cpu: dict[str, float] = defaultdict(float)
        self.lags: list[float] = []

    def around(self, owner: Any, name: str, part: str) -> None:
        call = getattr(owner, name)

        @functools.wraps(call)
        def timed(*args: Any, **more: Any) -> Any:
            start, cpu = _clock(), time.thread_time()
            try:
                return call(*args, **more)
            finally:
                self.times[part].append(_clock() - start)
                self.cpu[part] += time.thread_time() - cpu

        setattr(owner, name, timed)

    def lag(self, keeper: Any) -> None:
        poll = keeper.poll

        def measured(limit: int = 8 << 20) -> Any:
            found, now = poll(limit), time.time_ns()
            ages = [now - read.frame.t_ns for read in found if read.frame.kind == Kind.PREDICTION]
            if ages:
                self.lags.append(max(ages) / 1e9)
            return found

        keeper.poll = measured


def control(folder: Path, fd: int, seconds: float, warmup: float, profile: str | None) -> None:
    """Run the controller and the console as `tenure.system` does, and print what it cost as JSON."""
    launch = msgspec.json.decode((folder / "launch.json").read_bytes(), type=system.Launch)
    sys.path.insert(0, launch.project.root)
    controller, services = system.control(launch.project, folder, clock=SystemClock(), settings=Settings())
    watch, profiler = Watch(), cProfile.Profile()
    parts = {
        "read the log": (controller.keeper, "poll"),
        "take the rows": (controller._intake, "take"),
        "sample": (controller, "_sample"),
        "expire": (controller._queue, "expire"),
        "monitor": (controller._monitor, "reconcile"),
        "actions": (controller._actions, "perform"),
        "rollouts": (controller._rollouts, "reconcile"),
        "levels": (controller._automation, "reconcile"),
        "retraining": (controller._retrainer, "due"),
        "deliver": (controller, "_deliver"),
        "positions": (controller.archive, "store"),
        "tick": (controller, "tick"),
        "seal, tokens": (controller, "_slowly"),
    }
    watch.lag(controller.keeper)
    for part, (owner, name) in parts.items():
        watch.around(owner, name, part)
    if profile:
        inner = controller.tick
        controller.tick = lambda: profiler.runcall(inner)  # type: ignore[method-assign]
    used: dict[str, float] = {}

    def measure() -> None:
        time.sleep(warmup)
        watch.times.clear()
        watch.cpu.clear()
        watch.lags.clear()
        before, start = _cpu(), _clock()
        time.sleep(seconds)
        used["cpu"] = (_cpu() - before) / (_clock() - start)
        used["seconds"] = _clock() - start
        answer = {"times": dict(watch.times), "cpu_of": dict(watch.cpu), "lags": list(watch.lags), **used}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    threading.Thread(target=measure, daemon=True).start()
    sock = socket.socket(fileno=fd)
    controller.start()
    asyncio.run(process.serve(controller, services, sock, open_loopback=True, parent=None))
    if profile:
        profiler.dump_stats(profile)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# Clients and reviewers


def load(host: str, port: int, rate: float, seconds: float) -> None:
    """Send requests at an even rate over eight connections; prints how many were answered."""
    asyncio.run(_load(host, port, rate, seconds))


async def _load(host: str, port: int, rate: float, seconds: float) -> None:
    answered = await asyncio.gather(*[_line(host, port, rate / 8, seconds, i) for i in range(8)])
    sys.stdout.write(f"{sum(answered)}\n")


async def _line(host: str, port: int, rate: float, seconds: float, number: int) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    start, sent, good = _clock() + number / (8 * rate), 0, 0
    while (due := start + sent / rate) < start + seconds:
        await asyncio.sleep(max(0.0, due - _clock()))
        body = json.dumps({"a": float(sent % 3)}).encode()
        head = f"POST /v1/e/predict HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        writer.write(head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.split(b"content-length: ")[1].split(b"\r")[0]))
        good += answer.startswith(b"http/1.1 202")
        sent += 1
    return good


def review(url: str, token: str, stop: threading.Event, made: list[int]) -> None:
    """Judge what is in the queue as fast as the server lets one, twenty items at a time."""
    parts, headers = urlsplit(url), HEADERS | {"authorization": f"Bearer {token}"}
    line = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)

    def call(path: str, body: Any) -> Any:
        line.request("POST", path, json.dumps(body), headers)
        answer = line.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {data.decode()}")
        return json.loads(data)

    while not stop.is_set():
        leased = call("/api/reviews/lease?n=20", {})["items"]
        entries = [
            {
                "item": one["item"], "token": one["token"], "key": one["token"], "seconds": 1.0,
                "value": "big" if one["record"]["a"] > 1 else "small",
            }
            for one in leased
        ]  # fmt: skip
        if not entries:
            stop.wait(0.1)
            continue
        told = call("/api/reviews/judgements", {"judgements": entries})["results"]
        made.append(sum("judgement" in one for one in told))


# The measurement


def project(folder: Path, state: str | None) -> p.Project:
    (folder / "sizes.py").write_text(MODEL)
    spec = p.EndpointSpec(
        input="record",
        fields={"a": p.Field(type="float")},
        serve=p.Serve(on_timeout=p.Fallback(decide="small", after=60.0)),
        automation=p.Automation(max="partial", errors=0.02),
        monitor=p.Monitor(pane=1.0),
    )
    return p.Project(
        project="load",
        root=str(folder),
        scope=p.Scope(y=p.Output(labels=("big", "small"))),
        server=p.Server(port=0, console_port=0, workers=1, state=state),
        endpoints={"e": spec},
    )


def prepared(made: p.Project, reviewers: int) -> tuple[p.Project, list[str]]:
    """Register one version and put it in force; returns the project and a token for each reviewer."""
    ready = system.resolved(made)
    system.prepare(ready.folder())
    sys.path.insert(0, made.root)
    predict: Callable[..., Any] = __import__("sizes").predict
    state = State.open(system.state_url(ready), SystemClock())
    spec = ready.endpoints["e"]
    version = Registry(state, ready.folder()).register(
        "e", predict, spec=spec, output=made.scope.y, sample={"a": 2.0}
    )
    with state.begin() as conn:
        Rollouts(state, ready.endpoints).set_stable(conn, "e", version, "bench")
    access = Access(state)
    tokens = [access.create(f"reviewer{i}", "reviewer", by="bench") for i in range(reviewers)]
    state.close()
    return ready, tokens


def measure(told: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ready, tokens = prepared(project(Path(folder), told.state), told.reviewers)
        server = system.Server(ready, open_loopback=True)
        # The controller is ours to start: it carries the stop-watches.
        server.supervisor._children = [c for c in server.supervisor._children if c.role.worker is not None]
        fd = server._console.fileno()
        arguments = [str(ready.folder()), str(fd), str(told.seconds), str(told.warmup), told.profile or ""]
        child = subprocess.Popen(
            [sys.executable, __file__, "control", *arguments], pass_fds=(fd,), stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        stop, made = threading.Event(), [[] for _ in range(told.reviewers)]
        threads = [
            threading.Thread(target=review, args=(server.console_url, token, stop, mine))
            for token, mine in zip(tokens, made, strict=True)
        ]
        try:
            with server:
                at, whole = urlsplit(server.url), told.seconds + told.warmup
                clients = subprocess.Popen(
                    [
                        sys.executable,
                        __file__,
                        "load",
                        str(at.hostname),
                        str(at.port),
                        str(told.rate),
                        str(whole),
                    ],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for thread in threads:
                    thread.start()
                found = json.loads(child.stdout.readline())
                judged = sum(sum(mine) for mine in made)
                answered, _ = clients.communicate(timeout=60)
                stop.set()
                for thread in threads:
                    thread.join()
        finally:
            stop.set()
            child.terminate()
            child.wait(timeout=30)
    show(found, rate=told.rate, answered=int(answered), judged=judged, seconds=told.seconds + told.warmup)


def show(found: dict[str, Any], *, rate: float, answered: int, judged: int, seconds: float) -> None:
    ticks, out = found["times"]["tick"], sys.stdout
    out.write(
        f"{rate:g} requests/s asked, {answered / seconds:.1f} answered, {judged / seconds:.1f} judgements/s\n"
    )
    out.write(f"{len(ticks)} ticks in {found['seconds']:.0f} s; controller {found['cpu']:.1%} of a core; ")
    out.write(f"log read {median(found['lags']):.3f} s behind (p99 {_p99(found['lags']):.3f})\n")
    out.write(f"{'part':<14} {'p50 ms':>8} {'p99 ms':>8} {'cpu ms':>8} {'of a core':>10}\n")
    for part, times in sorted(found["times"].items(), key=lambda each: -found["cpu_of"][each[0]]):
        used = found["cpu_of"][part]
        out.write(f"{part:<14} {median(times) * 1e3:>8.2f} {_p99(times) * 1e3:>8.2f} ")
        out.write(f"{used / len(times) * 1e3:>8.2f} {used / found['seconds']:>10.1%}\n")


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else values[0]


def main() -> None:
    if sys.argv[1:2] == ["control"]:
        folder, fd, seconds, warmup, profile = sys.argv[2:7]
        control(Path(folder), int(fd), float(seconds), float(warmup), profile or None)
        return
    if sys.argv[1:2] == ["load"]:
        host, port, rate, seconds = sys.argv[2:6]
        load(host, int(port), float(rate), float(seconds))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warmup", type=float, default=5.0)
    parser.add_argument("--reviewers", type=int, default=4)
    parser.add_argument("--state", help="SQLAlchemy URL; SQLite by default")
    parser.add_argument("--profile", help="write a cProfile of the ticks to this file")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
