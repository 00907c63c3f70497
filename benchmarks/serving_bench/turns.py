"""One turn: load on one server for some seconds. And pairs of turns, whose ratios are the result."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psutil

from serving_bench import generators
from serving_bench.contenders import SERVERS, Running, pinned
from serving_bench.loads import Cell
from serving_bench.models import Truth
from serving_bench.wire import WrongError, decode_head, unchunked

Turn = dict[str, Any]
_REQUESTS = 64
_TRIES = 2
_SETTLE_S, _IDLE_PERCENT = 6.0, 15.0


class VoidError(Exception):
    """A turn that does not count: a failed or wrong answer; the message is the reason."""


class Pace(NamedTuple):
    """How long is measured: seconds a turn, seconds before them that do not count, and pairs of turns."""

    seconds: float = 2.0
    warmup: float = 0.5
    rounds: int = 3
    client_cores: frozenset[int] = frozenset()


class Side(Protocol):
    """What can take a turn."""

    @property
    def name(self) -> str: ...

    def turn(self, cell: Cell, pace: Pace) -> Turn: ...


class Served(NamedTuple):
    """A running server as a side."""

    server: Running
    truth: Truth

    @property
    def name(self) -> str:
        return self.server.contender.name

    def turn(self, cell: Cell, pace: Pace) -> Turn:
        """Load the server once; raises VoidError."""
        server = self.server
        machine, before = _busy_s(), server.cpu_s()
        found = _load(server, self.truth, cell, pace)
        _check(server, self.truth, cell, found)
        settle(server)
        used = {role: s - before.get(role, 0.0) for role, s in server.cpu_s().items()}
        client_s, all_ = found["cpu_us"] * found["all"] / 1e6, found["all"]
        others = _busy_s() - machine - sum(used.values()) - client_s
        parts: dict[str, float] = {}
        for role, seconds in used.items():
            part = role.rpartition(" ")[0]
            parts[part] = round(parts.get(part, 0.0) + seconds / all_ * 1e6, 2)
        found |= {
            "client_cpu_us": found.pop("cpu_us"),
            "cpu_us": round(sum(used.values()) / all_ * 1e6, 2),
            "cpu_us_parts": parts,
            "others_s": round(max(0.0, others), 2),
        }
        return found


class Bare(NamedTuple):
    """ONNX Runtime in a loop as a side."""

    models: Path
    name: str = "bare ONNX Runtime"

    def turn(self, cell: Cell, pace: Pace) -> Turn:
        command = [
            sys.executable,
            str(SERVERS / "bare_loop.py"),
            str(self.models),
            str(cell.rows),
            str(pace.seconds),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 + pace.seconds)
        if done.returncode:
            raise VoidError(done.stderr[-300:])
        found: Turn = json.loads(done.stdout)
        return found | {"ms": {}}


def compare(reference: Side, contender: Side, cell: Cell, pace: Pace) -> dict[str, Any]:
    """Take pairs of turns, the reference first; return medians and the ratios of neighbours.

    A pair with a void turn is taken once more; when that one is void too, the cell has no result but `void`.
    """
    pairs: list[tuple[Turn, Turn]] = []
    for _ in range(pace.rounds):
        try:
            pairs.append(_again(lambda: (reference.turn(cell, pace), contender.turn(cell, pace))))
        except VoidError as error:
            return _line(reference, contender, cell) | {"void": str(error)}
    return _line(reference, contender, cell) | {
        "reference": _medians([r for r, _ in pairs], cell),
        "contender": _medians([c for _, c in pairs], cell),
        "ratios": _ratios(pairs),
        "turns": pairs,
    }


def settle(server: Running) -> None:
    """Wait, bounded, until a server hardly works, so that its rest is not on the next one's account."""
    for _ in range(int(_SETTLE_S / 0.2)):
        processes = server.processes()
        for process in processes:
            _percent(process)
        psutil.cpu_percent(0.2)  # waits
        if sum(_percent(process) for process in processes) < _IDLE_PERCENT:
            return


def _percent(process: psutil.Process) -> float:
    try:
        return float(process.cpu_percent())
    except psutil.NoSuchProcess:
        return 0.0


def _again(pair: Callable[[], tuple[Turn, Turn]]) -> tuple[Turn, Turn]:
    for left in reversed(range(_TRIES)):
        try:
            return pair()
        except VoidError:
            if not left:
                raise
    raise AssertionError


def _load(server: Running, truth: Truth, cell: Cell, pace: Pace) -> Turn:
    form, count = server.form(cell), len(truth.photos) if cell.kind == "photo" else _REQUESTS
    requests = [form.ask(truth, cell, number).raw(server.port) for number in range(count)]
    job = generators.Job(server.port, requests, pace.seconds, pace.warmup)
    try:
        with pinned(set(pace.client_cores)):
            return generators.load(job, cell)
    except generators.GeneratorError as error:
        raise VoidError(f"{server.contender.name}: the load generator failed: {error}") from error


def _check(server: Running, truth: Truth, cell: Cell, found: Turn) -> None:
    for number, status, text, wire in found.pop("samples"):
        head = decode_head(text)
        body = unchunked(head, wire.encode("latin-1"))
        try:
            server.compare(truth, cell, number, status=status, head=head, body=body)
        except WrongError as error:
            raise VoidError(f"{server.contender.name}: {error}") from error
    failed = found["bad"] or not found["answers"] or (found["unanswered"] and not cell.rate)
    if failed:
        counts = {name: found[name] for name in ("answers", "bad", "closed", "unanswered")}
        raise VoidError(f"{server.contender.name}: {counts}")


def _line(reference: Side, contender: Side, cell: Cell) -> dict[str, Any]:
    return {"load": str(cell), "cell": cell._asdict(), "names": [reference.name, contender.name]}


def _medians(turns: list[Turn], cell: Cell) -> dict[str, Any]:
    def median(of: Callable[[Turn], float]) -> float:
        return round(statistics.median(of(t) for t in turns), 3)

    out = {
        "per_second": median(_rate),
        "rows_per_second": median(lambda t: _rate(t) * cell.rows),
        "ms": {q: median(lambda t, q=q: t["ms"][q]) for q in turns[0]["ms"]},  # type: ignore[misc]
        "cpu_us": median(lambda t: t["cpu_us"]),
    }
    if "busy" in turns[0]:
        out |= {
            "controller_cpu_us": median(lambda t: t["cpu_us_parts"].get("controller", 0.0)),
            "client_busy": median(lambda t: t["busy"]),
            "late_p99_ms": median(lambda t: t["late_ms"].get("p99", 0.0)),
            "unanswered": max(t["unanswered"] for t in turns),
            "due_per_second": median(lambda t: t["answers"] / t["seconds"]),
            "others_s": median(lambda t: t["others_s"]),
        }
    return out


def _rate(turn: Turn) -> float:
    """Return the answers a second that came within the window, also in an open loop that is not held."""
    return float(turn.get("in_time", turn["answers"]) / turn["seconds"])


def _ratios(pairs: list[tuple[Turn, Turn]]) -> dict[str, Any]:
    measures: dict[str, Callable[[Turn], float]] = {
        "rate": _rate,
        "cpu": lambda t: t["cpu_us"],
    }
    for q in ("p50", "p99"):
        if all(q in t["ms"] for pair in pairs for t in pair):
            measures[q] = lambda t, q=q: t["ms"][q]  # type: ignore[misc]
    out = {}
    for name, of in measures.items():
        each = [of(c) / of(r) for r, c in pairs if of(r)]
        if each:
            spread = {"median": statistics.median(each), "min": min(each), "max": max(each)}
            out[name] = {key: round(value, 4) for key, value in spread.items()}
    return out


def _busy_s() -> float:
    """Return the seconds that all cores have worked so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
