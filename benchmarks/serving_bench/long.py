"""Memory over time: at full load, and while versions are swapped under load."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np

from serving_bench.contenders import Running
from serving_bench.loads import Cell
from serving_bench.models import Truth
from serving_bench.turns import Pace, Served, VoidError
from tenure.scope.project import EndpointSpec

LOADED = Cell("record", 64)
SWAPPED = Cell("record", 4)
_STRETCH_S = 10.0
_IN_FORCE_S = 15.0


def soak(server: Running, truth: Truth, *, minutes: float) -> dict[str, Any]:
    """Load without a break for so many minutes; return memory by process and its slope over the second half."""
    side, start, rows = Served(server, truth), time.perf_counter(), []
    rows.append(_sample(server, 0.0))
    while (at := time.perf_counter() - start) < minutes * 60:
        found = side.turn(LOADED, Pace(min(_STRETCH_S, minutes * 60 - at + 1), 0.0, 1))
        rows.append(_sample(server, time.perf_counter() - start) | {"answers": found["all"]})
        print(f"{rows[-1]}", flush=True)
    out = {"samples": rows, "answers": sum(row.get("answers", 0) for row in rows)}
    half = rows[len(rows) // 2 :] if len(rows) > 3 else rows
    for role in ("worker", "controller"):
        out[f"{role}_mb_per_minute"] = round(_slope(half, role) * 60, 3)
        print(
            f"{role}: {rows[0][role]:.0f} -> {rows[-1][role]:.0f} MB, {out[f'{role}_mb_per_minute']} MB a minute"
        )
    return out


def _sample(server: Running, at: float) -> dict[str, float]:
    """Return the resident megabytes of workers and controller."""
    found, out = server.memory()["processes"], {"at_s": round(at, 1)}
    for role in ("worker", "controller"):
        out[role] = round(sum(mb for name, mb in found.items() if name.startswith(role)), 1)
    return out


def _slope(rows: list[dict[str, float]], role: str) -> float:
    """Return megabytes a second by least squares."""
    x, y = (np.array([row[key] for row in rows]) for key in ("at_s", role))
    return float(np.polyfit(x, y, 1)[0]) if len(rows) > 1 else 0.0


def swaps(server: Running, truth: Truth, *, times: int) -> dict[str, Any]:
    """Put two versions in force in turn, under load; each swap loads one anew and drops the other.

    Returns the worker's resident megabytes after each swap and their slope over the second half.

    Raises:
        RuntimeError: a swap was not in force in time, or an answer failed.
    """
    from tenure.clock import SystemClock
    from tenure.data.state import State
    from tenure.deploy.rollout.ledger import Rollouts

    data = server.folder / "tenure-data"
    launch = json.loads((data / "launch.json").read_bytes())
    versions = json.loads((server.folder / "versions.json").read_bytes())
    state = State.open(data / "state.db", SystemClock())
    rollouts = Rollouts(state, dict.fromkeys(launch["project"]["endpoints"], EndpointSpec(input="record")))
    rows = [_sample(server, 0.0)]
    with _under_load(server, truth) as failures:
        for number in range(1, times + 1):
            with state.begin() as conn:
                rollouts.set_stable(conn, "risk", versions[number % 2], "benchmark")
            _wait_for(server, truth, versions[number % 2])
            rows.append(_sample(server, float(number)))
            if failures:
                break
    state.close()
    if failures:
        raise RuntimeError(f"an answer failed while versions were swapped: {failures[0]}")
    slope = round(_slope(rows[len(rows) // 2 :], "worker"), 4)
    print(f"worker over {times} swaps: {rows[0]['worker']:.0f} -> {rows[-1]['worker']:.0f} MB, {slope} MB a swap")
    return {"swaps": times, "samples": rows, "worker_mb_per_swap": slope}


@contextlib.contextmanager
def _under_load(server: Running, truth: Truth) -> Iterator[list[str]]:
    """Load the server in short turns until the block ends; yields what failed."""
    stop, failures = threading.Event(), list[str]()

    def load() -> None:
        while not stop.is_set() and not failures:
            try:
                Served(server, truth).turn(SWAPPED, Pace(1.0, 0.0, 1))
            except VoidError as error:
                failures.append(str(error))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        yield failures
    finally:
        stop.set()
        thread.join()


def _wait_for(server: Running, truth: Truth, version: str) -> None:
    """Wait until this version decides."""
    end, form = time.perf_counter() + _IN_FORCE_S, server.form(SWAPPED)
    ask = form.ask(truth, SWAPPED, 0)
    while time.perf_counter() < end:
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{ask.path}", ask.body, ask.headers)
        decided = json.loads(urllib.request.urlopen(request, timeout=10).read())["decision"]["version"]
        if decided == version:
            return
        time.sleep(0.02)
    raise RuntimeError(f"{version} was not in force within {_IN_FORCE_S:g} s")
