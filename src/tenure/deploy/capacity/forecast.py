"""How many requests a server holds within a latency: simulated from what a request and a batch cost."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from tenure.deploy.capacity.arrivals import arrivals
from tenure.deploy.capacity.costs import Cost
from tenure.deploy.serving.predict.runner import MAX_BATCH

_ARRIVALS = 20_000
_STEPS = 24
_LOWEST = 0.01


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a server and its machine.

    Attributes:
        model: cost of a batch.
        request_s: CPU seconds of a worker for one request, without the model.
        controller_s: CPU seconds of the controller for one request.
        sender_s: CPU seconds of the load generator for one request, where it runs on the same machine; else 0.
        cores: CPUs that the server may use.
        inline: the model runs on the worker's event loop rather than in a thread.
    """

    model: Cost
    request_s: float
    controller_s: float
    sender_s: float
    cores: int
    inline: bool


class Worker(msgspec.Struct, frozen=True):
    """One worker as a queue with one server that takes all that waits, at most `MAX_BATCH`, at once.

    A batch of n takes `item * n + batch` seconds. `extra` is what a request takes elsewhere, meanwhile.
    """

    item: float
    batch: float
    extra: float = 0.0

    def most(self) -> float:
        """Return the requests a second at which it is always busy."""
        return MAX_BATCH / (self.item * MAX_BATCH + self.batch)


def worker(machine: Machine) -> Worker:
    """Return the queue that limits one worker.

    The event loop does the server's own work, and what Python there is in a model shares it with the loop (one
    interpreter lock): so the CPU time of a model counts there, and where it waits the loop is free. Nothing is
    known of how much of a model's CPU time runs without the lock; all of it is counted, which errs on the safe
    side for models in ONNX that run in a thread.
    """
    model = machine.model
    if machine.inline:
        return Worker(machine.request_s + model.item, model.batch)
    loop = Worker(machine.request_s + model.busy * model.item, model.busy * model.batch)
    thread = Worker(model.item, model.batch, machine.request_s)
    return min(loop, thread, key=lambda queue: queue.most())


def waits(queue: Worker, rate: float, *, seed: int = 0, count: int = _ARRIVALS) -> float:
    """Return the p99 latency in seconds of Poisson arrivals at a rate, by simulation of `count` of them."""
    due = arrivals(rate, count / rate, seed=seed).tolist()
    done: list[float] = []
    free, at = 0.0, 0
    while at < len(due):
        free = max(free, due[at])
        end = at
        while end < len(due) and end - at < MAX_BATCH and due[end] <= free:
            end += 1
        free += queue.item * (end - at) + queue.batch
        done += [free - d for d in due[at:end]]
        at = end
    return float(np.quantile(done, 0.99)) + queue.extra


def highest(machine: Machine, *, workers: int, latency: float) -> float:
    """Return the highest rate at which p99 stays within the latency, and every process gets the CPU it needs."""
    queue = worker(machine)
    top = queue.most()
    low, high = _LOWEST, top
    if waits(queue, low, count=200) > latency:
        return 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if waits(queue, middle) <= latency:
            low = middle
        else:
            high = middle
        if high - low < 0.002 * top:
            break
    return _allowed(machine, workers, low)


def keeps_up(machine: Machine) -> float:
    """Return the rate above which the controller falls behind the log; infinite where it costs nothing."""
    return 1.0 / machine.controller_s if machine.controller_s > 0 else float("inf")


def enough(machine: Machine, *, rate: float, latency: float) -> tuple[int, int]:
    """Return (machines, workers on each) that hold a rate, as few as suffice; (0, 0) when none do."""
    best, most = 0.0, 0
    for workers in range(1, 2 * machine.cores + 1):
        found = highest(machine, workers=workers, latency=latency)
        if found >= rate:
            return 1, workers
        if found <= best * 1.02:
            break
        best, most = found, workers
    return (-int(-rate // best), most) if best > 0 else (0, 0)


def shares(demands: Sequence[float], cores: float) -> list[float]:
    """Return what each process gets of the cores when all want at once: the fair scheduler's max-min shares.

    Args:
        demands: cores that each would use, at most 1 for a process that runs on one at a time.
        cores: how many there are.
    """
    out = [0.0] * len(demands)
    left, todo = cores, sorted(range(len(demands)), key=lambda i: demands[i])
    for position, i in enumerate(todo):
        out[i] = min(demands[i], left / (len(todo) - position))
        left -= out[i]
    return out


def _allowed(machine: Machine, workers: int, each: float) -> float:
    """Return the highest rate, at most `workers * each`, at which workers and generator get the CPU they need."""
    low, high = 0.0, workers * each
    if _get_enough(machine, workers, high):
        return high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _get_enough(machine, workers, middle) else (low, middle)
    return low


def _get_enough(machine: Machine, workers: int, rate: float) -> bool:
    """Say whether all get their CPU at a rate; the controller may fall behind, but takes its share meanwhile."""
    model = machine.model
    cpu_s = machine.request_s + model.busy * (model.item + model.batch / MAX_BATCH)
    wanted = [cpu_s * rate / workers] * workers + [machine.sender_s * rate]
    given = shares([*wanted, min(1.0, machine.controller_s * rate)], machine.cores)
    return all(got >= need - 1e-9 for got, need in zip(given, wanted, strict=False)) and max(wanted) <= 1.0
