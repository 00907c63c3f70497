"""Load on a server for some seconds: `wrk` for closed loops where it is there, `load.py` for all else.

On two cores the generator shares one with our controller. `load.py` costs about 25 microseconds a request, which
makes it the limit of a fast server, and of no other; `wrk` costs about 5. It reads status codes only, so while it
runs `load.py` asks the same server over one connection more, 25 times a second, and its answers are compared.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from serving_bench.loads import Cell

LOAD = Path(__file__).resolve().parents[1] / "load.py"
SCRIPT = Path(__file__).resolve().with_name("closed.lua")
_SAMPLED = 25.0
Found = dict[str, Any]


class GeneratorError(Exception):
    """A generator ended without a result; the message is its last words."""


class Job(NamedTuple):
    """What is asked of a server on this machine: requests in turn, seconds, and seconds before them."""

    port: int
    requests: Sequence[bytes]
    seconds: float
    warmup: float


def load(job: Job, cell: Cell) -> Found:
    """Load a server once, as `load.py` tells it.

    Raises:
        GeneratorError: the generator failed, or did not end.
    """
    if cell.rate or closed_by() == "load.py":
        return _read(_start(job, connections=cell.connections, rate=cell.rate), job)
    with tempfile.NamedTemporaryFile(prefix="bench-requests-") as file:
        file.write(" ".join(str(len(r)) for r in job.requests).encode() + b"\n" + b"".join(job.requests))
        file.flush()
        return _closed(job, cell, file.name)


def closed_by() -> str:
    """Return which generator drives closed loops on this machine."""
    return "load.py" if shutil.which("wrk") is None else "wrk"


def _closed(job: Job, cell: Cell, file: str) -> Found:
    """Run `wrk`, and `load.py` beside it for answers to compare; both count in the generators' own costs."""
    before = _children_s()
    warm = _wrk(job, cell, file, seconds=job.warmup)
    sampler = _start(job._replace(warmup=0.0), connections=1, rate=_SAMPLED)
    told = _wrk(job, cell, file, seconds=job.seconds)
    sampled = _read(sampler, job)
    cpu_s, seconds = _children_s() - before, told["us"] / 1e6
    all_ = warm["answers"] + told["answers"] + sampled["all"]
    return {
        "answers": told["answers"],
        "in_time": told["answers"],
        "all": all_,
        "seconds": seconds,
        "bad": told["refused"] + told["failed"] + sampled["bad"],
        "closed": sampled["closed"],
        "unanswered": sampled["unanswered"],
        "ms": {q: round(told[q] / 1e3, 4) for q in ("p50", "p90", "p99", "max")},
        "late_ms": {},
        "cpu_us": round(cpu_s / max(1, all_) * 1e6, 2),
        "busy": round(cpu_s / (seconds + warm["us"] / 1e6), 3),
        "samples": sampled["samples"],
    }


def _wrk(job: Job, cell: Cell, file: str, *, seconds: float) -> Found:
    whole = f"{max(1, round(seconds))}s"
    command = [
        "wrk", "--threads", "1", "--connections", str(cell.connections), "--duration", whole,
        "--script", str(SCRIPT), f"http://127.0.0.1:{job.port}", "--", file,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 + seconds)
        found: Found = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise GeneratorError(f"wrk: {error}") from error
    return found


def _start(job: Job, *, connections: int, rate: float) -> subprocess.Popen[bytes]:
    told = {
        "host": "127.0.0.1", "port": job.port, "connections": connections, "seconds": job.seconds,
        "warmup": job.warmup, "rate": rate, "seed": 1, "lengths": [len(r) for r in job.requests],
    }  # fmt: skip
    started = subprocess.Popen(
        [sys.executable, str(LOAD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert started.stdin is not None
    started.stdin.write(json.dumps(told).encode() + b"\n" + b"".join(job.requests))
    started.stdin.flush()
    return started


def _read(started: subprocess.Popen[bytes], job: Job) -> Found:
    try:
        out, err = started.communicate(timeout=60 + job.seconds)
    except subprocess.TimeoutExpired as error:
        started.kill()
        started.communicate()
        raise GeneratorError(str(error)) from error
    if started.returncode:
        raise GeneratorError(err.decode()[-300:])
    found: Found = json.loads(out)
    return found


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
