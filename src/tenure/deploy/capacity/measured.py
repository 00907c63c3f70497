"""What a load test measured: latencies from the intended send time, statuses, and whether it can be believed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.deploy.capacity.arrivals import rate_at
from tenure.deploy.capacity.generator import BROKEN, NOT_SENT, UNANSWERED, Load, Raw

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
SLICES = 10
LATE_SHARE, LATE_S = 0.1, 0.002
"""A generator whose p99 lateness is above a tenth of the budget, and above 2 ms, is no judge."""

Floats = npt.NDArray[np.float64]


class Slice(msgspec.Struct, frozen=True):
    """A tenth of the test: when, at which rate, and the milliseconds of its good answers (NaN without one)."""

    start_s: float
    rate: float
    p50_ms: float
    p99_ms: float
    bad: int


class Sender(msgspec.Struct, frozen=True):
    """How the generator itself did: milliseconds behind its own clock, CPU in cores, connections at once."""

    late_ms: dict[str, float]
    cpu: float
    connections: int


class Footprint(msgspec.Struct, frozen=True):
    """CPU in cores and in seconds, warm-up included, and most memory (resident, MiB) of one server process."""

    name: str
    cpu: float
    cpu_s: float
    rss_mb: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One load test.

    Attributes:
        rate: requests a second that were asked for.
        seconds: length of the measured part.
        requests: how many were due in it.
        good: answers 200 and 202.
        achieved: good answers a second.
        within: share of all requests that were answered well within the budget.
        budget_ms: the budget.
        latency_ms: quantiles over the good answers, from the time at which a request was due.
        statuses: how often each came: `200`, `202`, `4xx`, `503`, `5xx`, `connection`, `unanswered`, `not sent`.
        slices: the course of the test.
        sender: how the generator did.
        server: its processes, empty where they cannot be seen.
        histogram: (upper bound in ms, answers) of the good answers, on bounds that grow evenly in the logarithm.
        invalid: why the figures say nothing about the server; empty when they do.
        gave_up: whether the test ended early because it could not pass any more.
        pattern: how arrivals were spread.
        ramp: whether the rate climbed.
    """

    rate: float
    seconds: float
    requests: int
    good: int
    achieved: float
    within: float
    budget_ms: float
    latency_ms: dict[str, float]
    statuses: dict[str, int]
    slices: tuple[Slice, ...]
    sender: Sender
    server: tuple[Footprint, ...] = ()
    histogram: tuple[tuple[float, int], ...] = ()
    invalid: str = ""
    gave_up: bool = False
    pattern: str = "poisson"
    ramp: bool = False


def summarise(load: Load, raw: Raw, *, server: tuple[Footprint, ...] = ()) -> Measured:
    """Return what a load's raw times say; the warm-up is left out."""
    due, taken, done, status = raw.arrays()
    counted = due >= load.warmup
    if raw.gave_up:  # what was not due yet did not fail
        counted &= ~np.isnan(taken)
    due, taken, done, status = due[counted], taken[counted], done[counted], status[counted]
    good = np.isin(status, (200, 202))
    latency = done - due
    within = int((good & (latency <= load.budget)).sum())
    seconds = _length(load, raw)
    late_ms = quantiles((taken - due)[~np.isnan(taken)] * 1e3)
    return Measured(
        rate=load.rate, seconds=seconds, requests=len(due), good=int(good.sum()),
        achieved=_achieved(done[good], load, seconds), within=within / max(1, len(due)),
        budget_ms=load.budget * 1e3, latency_ms=quantiles(latency[good] * 1e3), statuses=_statuses(status),
        slices=_slices(load, due, latency, good), sender=Sender(late_ms, raw.cpu_s / raw.wall_s, raw.connections),
        server=server, histogram=histogram(latency[good] * 1e3),
        invalid=_doubt(load, late_ms, raw, requests=len(due)), gave_up=raw.gave_up, pattern=load.pattern,
        ramp=load.ramp,
    )  # fmt: skip


def quantiles(values: Floats) -> dict[str, float]:
    """Return the named quantiles, each a value that occurred; NaN for all when there is none."""
    if not len(values):
        return dict.fromkeys(QUANTILES, float("nan"))
    spots = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf")
    return {name: round(float(v), 4) for name, v in zip(QUANTILES, spots, strict=True)}


def histogram(ms: Floats, *, bars: int = 60) -> tuple[tuple[float, int], ...]:
    """Count milliseconds in bars whose bounds grow evenly in the logarithm, from the least to the greatest."""
    if not len(ms):
        return ()
    low, high = max(1e-3, float(ms.min())), max(2e-3, float(ms.max()))
    edges = np.geomspace(low, high * 1.000001, bars + 1)
    counts, _ = np.histogram(np.clip(ms, low, high), edges)
    return tuple((round(float(e), 5), int(n)) for e, n in zip(edges[1:], counts, strict=True))


def _length(load: Load, raw: Raw) -> float:
    return min(load.seconds, max(0.05, raw.wall_s - load.warmup)) if raw.gave_up else load.seconds


def _achieved(done: Floats, load: Load, seconds: float) -> float:
    """Return good answers a second. Answers to the backlog that come after the last request take time too."""
    if not len(done):
        return 0.0
    return len(done) / max(seconds, float(done.max()) - load.warmup)


_NAMES = {code: str(code) for code in (200, 202, 503)}
_NAMES |= {UNANSWERED: "unanswered", BROKEN: "connection", NOT_SENT: "not sent"}


def _statuses(status: npt.NDArray[np.uint16]) -> dict[str, int]:
    out: dict[str, int] = {}
    for code, count in zip(*np.unique(status, return_counts=True), strict=True):
        name = _NAMES.get(int(code), f"{int(code) // 100}xx")
        out[name] = out.get(name, 0) + int(count)
    return out


def _slices(load: Load, due: Floats, latency: Floats, good: npt.NDArray[np.bool_]) -> tuple[Slice, ...]:
    length = load.seconds / SLICES
    out = []
    for number in range(SLICES):
        start = load.warmup + number * length
        here = (due >= start) & (due < start + length)
        if here.any():
            found = quantiles(latency[here & good] * 1e3)
            share = (start - load.warmup + length / 2) / load.seconds
            rate = rate_at(load.rate, share, ramp=load.ramp)
            bad = int((here & ~good).sum())
            out.append(Slice(round(start - load.warmup, 3), round(rate, 1), found["p50"], found["p99"], bad))
    return tuple(out)


def _doubt(load: Load, late_ms: dict[str, float], raw: Raw, *, requests: int) -> str:
    if requests == 0:
        return f"nothing was sent{f': {raw.error}' if raw.error else ''}"
    allowed_ms = max(LATE_S, load.budget * LATE_SHARE) * 1e3
    if not load.closed and late_ms["p99"] > allowed_ms:
        return (
            f"the generator was late itself, p99 {late_ms['p99']:.1f} ms behind its own clock "
            f"({allowed_ms:.1f} ms allowed, {raw.cpu_s / raw.wall_s:.0%} of a core used); "
            "lower the rate, or free more cores"
        )
    return ""


def grows(found: Measured) -> bool:
    """Say whether answers became ever slower: a backlog that a longer test would show.

    The last two tenths are compared with the first half; a quarter of the budget is not yet a backlog.
    """
    medians = [s.p50_ms for s in found.slices]
    if found.ramp or len(medians) < SLICES:
        return False
    first, last = float(np.nanmedian(medians[: SLICES // 2])), float(np.nanmin(medians[-2:]))
    return last > max(2 * first, found.budget_ms / 4)


def as_plain(found: Measured) -> dict[str, Any]:
    """Return plain values for JSON; NaN becomes None."""
    return dict(msgspec.json.decode(msgspec.json.encode(found)))
