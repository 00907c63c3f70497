"""Hold what was measured against what the project file promises."""

from __future__ import annotations

import msgspec

from tenure.deploy.capacity.measured import Measured, Slice, grows
from tenure.scope.project import Serve

SHARE = 0.99
"""`serve.latency` is a promise for this share of all requests; one that failed or was shed did not keep it."""
RATE_SLACK = 0.98
"""`serve.qps` counts as reached at this share of it: answers of the last moments come after the end."""
_FEW = 1000


class Verdict(msgspec.Struct, frozen=True):
    """Whether the promises were kept: None = the test cannot tell. `sentences` say why, in numbers."""

    holds: bool | None
    sentences: tuple[str, ...]


def judge(found: Measured, serve: Serve) -> Verdict:
    """Say whether p99 is within `serve.latency` and, where the test went so far, `serve.qps` is reached."""
    if found.invalid:
        return Verdict(None, (f"not measured: {found.invalid}",))
    latency = _latency(found, serve)
    rate = _rate(found, serve)
    parts = [part for part in (latency, rate) if part[0] is not None]
    notes = [sentence for _, sentence in (latency, rate)]
    if found.requests < _FEW:
        notes.append(f"{found.requests} requests are few for a p99: fewer than ten decide it; test longer")
    if found.gave_up:
        notes.append("ended early: it could not pass any more")
    return Verdict(all(holds for holds, _ in parts), tuple(notes))


def holds(found: Measured) -> bool:
    """Say whether a step of a search held: p99 in time, nothing shed or failed, and no backlog that grows."""
    bad = found.requests - found.good
    return not found.invalid and not found.gave_up and bad == 0 and found.within >= SHARE and not grows(found)


def _latency(found: Measured, serve: Serve) -> tuple[bool, str]:
    if found.ramp:
        return _ramp(found, serve)
    late = 1.0 - found.within
    word = "holds" if late <= 1 - SHARE else "broken"
    tail = f"{late:.2%} of {found.requests} requests took longer or failed, {1 - SHARE:.0%} may"
    growing = "; a backlog grows, so a longer test would be worse" if grows(found) else ""
    p99 = found.latency_ms["p99"]
    told = f"p99 {p99:.1f} ms of answers" if p99 == p99 else "no good answer"  # NaN is not itself
    sentence = f"serve.latency {serve.latency * 1e3:g} ms {word}: {told}; {tail}{growing}"
    return late <= 1 - SHARE and not growing, sentence


def _ramp(found: Measured, serve: Serve) -> tuple[bool, str]:
    """Judge a climbing rate by where it first was too slow."""
    broken = next((s for s in found.slices if _too_slow(s, serve)), None)
    if broken is None:
        return True, f"serve.latency {serve.latency * 1e3:g} ms holds up to {found.rate:g} requests a second"
    told = f"p99 {broken.p99_ms:.1f} ms" if broken.p99_ms == broken.p99_ms else "no good answer"
    return False, (
        f"serve.latency {serve.latency * 1e3:g} ms broken from about {broken.rate:g} requests a second: {told}, "
        f"{broken.bad} failed"
    )


def _too_slow(part: Slice, serve: Serve) -> bool:
    return not part.p99_ms <= serve.latency * 1e3 or part.bad > 0


def _rate(found: Measured, serve: Serve) -> tuple[bool | None, str]:
    if found.rate < serve.qps * RATE_SLACK or (found.ramp and found.rate < serve.qps):
        return None, f"serve.qps {serve.qps:g} not tested: the load was {found.rate:g} requests a second"
    if found.ramp:
        return None, f"serve.qps {serve.qps:g}: a ramp touches its rate only at its end; test without --ramp"
    reached = found.achieved >= serve.qps * RATE_SLACK
    word = "holds" if reached else "broken"
    return reached, f"serve.qps {serve.qps:g} {word}: {found.achieved:.1f} good answers a second"
