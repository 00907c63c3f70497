"""What a batch costs: run a version in this process at several sizes and fit `a * n + b`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import msgspec
import numpy as np

from tenure.clock import Clock
from tenure.data.decode import decode
from tenure.data.schema import InputSchema
from tenure.data.typed import RecordDecoder
from tenure.errors import ModelError
from tenure.model.answer import Scores
from tenure.model.bundle import Bundle, Sample, load
from tenure.model.columns import Rows
from tenure.scope.project import Trust
from tenure.types import Failed, Input

SIZES = (1, 8, 32, 64)
_EACH_S, _LEAST, _MOST = 0.4, 3, 200
"""Time for each size, and how many runs at least and at most."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a batch: `item * n + batch`, neither negative.

    Attributes:
        item: seconds that each item adds.
        batch: seconds that a batch takes whatever its size.
        busy: share of that time in which the model uses a CPU; the rest it waits.
        points: (size, median seconds) as measured.
        scores: whether the version answers in columns, as classifiers do.
    """

    item: float
    batch: float
    busy: float
    points: tuple[tuple[int, float], ...] = ()
    scores: bool = False

    def seconds(self, n: float) -> float:
        """Return the time of a batch of n."""
        return self.item * n + self.batch


def measure(
    bundle: Bundle, samples: Sequence[Sample], *, clock: Clock, cpu_ns: Callable[[], int], trusted: Trust
) -> Cost:
    """Run a version's pipeline on batches of its samples, alone in this thread, and fit its cost.

    Args:
        bundle: the version.
        samples: inputs, used in turn.
        clock: for the times.
        cpu_ns: CPU time of this process so far.
        trusted: the operator's word on files that may run code.

    Raises:
        ModelError: it cannot be loaded, or does not answer.
    """
    pipeline = load(bundle, trusted=trusted, clock=clock)
    batches = {size: batch_of(bundle.manifest.input, samples, size) for size in SIZES}
    first = pipeline.run(batches[1]())
    if isinstance(first[0].prediction, Failed):
        raise ModelError(f"the sample is not answered: {first[0].prediction.reason}", at=bundle.id)
    points, used = [], 0.0
    for size, make in batches.items():
        wall, cpu = _timed(lambda make=make: pipeline.run(make()), clock, cpu_ns)  # type: ignore[misc]
        points.append((size, wall))
        used += cpu
    item, batch = fit(points)
    columns = isinstance(getattr(first, "predictions", None), Scores)
    busy = min(1.0, used / sum(seconds for _, seconds in points))
    return Cost(item=item, batch=batch, busy=busy, points=tuple(points), scores=columns)


def _timed(call: Callable[[], Any], clock: Clock, cpu_ns: Callable[[], int]) -> tuple[float, float]:
    """Return the median seconds of a call, by the clock and by the CPU."""
    walls: list[int] = []
    cpus: list[int] = []
    while len(walls) < _LEAST or (sum(walls) < _EACH_S * 1e9 and len(walls) < _MOST):
        start, before = clock.monotonic_ns(), cpu_ns()
        call()
        cpus.append(cpu_ns() - before)
        walls.append(clock.monotonic_ns() - start)
    return max(1.0, median(walls)) / 1e9, median(cpus) / 1e9


def fit(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Return (a, b) of the line a * n + b with the least relative errors, neither below 0.

    Example:
        >>> [round(x, 6) for x in fit([(1, 3.0), (10, 12.0), (20, 22.0)])]
        [1.0, 2.0]
    """
    sizes, times = (np.array(values, float) for values in zip(*points, strict=True))
    design = np.stack([sizes, np.ones_like(sizes)], axis=1) / times[:, None]
    (item, batch), *_ = np.linalg.lstsq(design, np.ones_like(times), rcond=None)
    if batch < 0:
        return float(np.mean(times / sizes)), 0.0
    if item < 0:
        return 0.0, float(np.mean(times))
    return float(item), float(batch)


def batch_of(schema: InputSchema, samples: Sequence[Sample], size: int) -> Callable[[], Sequence[Input]]:
    """Return what makes a batch as the server hands it to a model: records of numbers as a matrix."""
    chosen = [samples[i % len(samples)] for i in range(size)]
    records = RecordDecoder(schema) if schema.kind == "record" else None
    if records is not None and records.numeric:
        packed: list[Any] = [records.decode(sample.body) for sample in chosen]
        if all(type(item) is tuple for item in packed):
            names, kinds = records.names, records.kinds
            return lambda: Rows(names, kinds, np.array(packed, dtype=np.float64))
    items = [decode(schema, sample.body, sample.media_type) for sample in chosen]
    return lambda: items
