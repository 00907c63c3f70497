"""Rows of `evidence`: adding what was observed, and counting a unit only once.

A sticky unit counts with the chance given what its earlier outcomes revealed; see
docs/explanation/rollout-statistics.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.rollout import moments
from tenure.deploy.rollout.advance import Rollout
from tenure.deploy.rollout.counts import REQUESTS, SWITCHED, Count, sliced, within
from tenure.deploy.rollout.observed import SEEN, Observed, Touch
from tenure.deploy.rollout.plan import Plan
from tenure.stats.gate import conditional_share

_E, _U = t.evidence.c, t.rollout_units.c
_CHUNK = 400
_FIELDS = ("x1", "x0", "n1", "n0")

Key = tuple[str, float, str]
"""(gate, rho, field)."""


def read(conn: Connection, number: str) -> tuple[Count, ...]:
    """Return the evidence of a rollout, over all its steps."""
    query = sa.select(t.evidence).where(_E.rollout == number).order_by(_E.step, _E.gate, _E.rho)
    return tuple(
        Count(step=r.step, gate=r.gate, rho=float(r.rho), x1=r.x1, x0=r.x0, n1=r.n1, n0=r.n0)
        for r in conn.execute(query)
    )


def add(conn: Connection, rollout: Rollout, seen: Observed, now_us: int) -> None:
    """Add the counts of one batch of rows; a batch that was counted before a step moved on is left out.

    Under `requests` the fields x count what was drawn (requests, or units at their first request) and n all
    requests.
    """
    if seen.rollout != rollout.id or seen.step != rollout.step or not any(seen.requests):
        return
    _add(conn, rollout, seen, "", now_us)
    for part, inside in seen.parts.items():
        if any(inside.requests):
            _add(conn, rollout, inside, part, now_us)


def _add(conn: Connection, rollout: Rollout, seen: Observed, part: str, now_us: int) -> None:
    sums: Counter[Key] = Counter()
    _put(sums, REQUESTS, seen.share, "n", seen.requests)
    _put(sums, REQUESTS, seen.share, "x", seen.drawn)
    for gate, bad in seen.bad.items():
        _put(sums, gate, seen.share, "x", bad)
        _put(sums, gate, seen.share, "n", seen.drawn)
    sums[SWITCHED, seen.share, "x1"] += seen.switched
    if seen.units:
        _count_units(conn, rollout, seen, part, sums)
    for count in _counts(seen.step, sums):
        if count.gate != SWITCHED or not part:
            increase(conn, rollout.id, msgspec.structs.replace(count, gate=sliced(count.gate, part)))
    values = {sliced(gate, part): told for gate, told in seen.means.items()}
    moments.add(conn, rollout.id, seen.step, values, now_us)


def replace(conn: Connection, number: str, gates: Sequence[str], new: Iterable[Count]) -> None:
    """Write the evidence of gates, also within slices, anew; its rows are all still there."""
    mine = [_E.gate.in_(gates), *(_E.gate.startswith(within(gate)) for gate in gates)]
    conn.execute(t.evidence.delete().where(_E.rollout == number, sa.or_(*mine)))
    for count in new:
        increase(conn, number, count)


def chance(plan: Plan, step: int, earlier: Mapping[int, bool], turn: int) -> float | None:
    """Return the candidate's chance for a unit's outcome, given its earlier ones; None: it does not count.

    Args:
        plan: says how units are drawn.
        step: where the outcome belongs.
        earlier: turn -> whether the unit was the candidate's then.
        turn: of this outcome: the step, or the epoch with `assign: unit_epoch`.
    """
    now = plan.share(step)
    if turn in earlier:
        return None
    if plan.assign != "unit" or not earlier:
        return now
    if any(earlier.values()):
        return None  # once the candidate's, always the candidate's: nothing is drawn any more
    last = max(earlier)
    return conditional_share(now, plan.share(last)) if last < step else None


def _count_units(conn: Connection, rollout: Rollout, seen: Observed, part: str, sums: Counter[Key]) -> None:
    """Count the touches that are the first of their unit in its turn (and slice), and note them."""
    known = _known(conn, rollout.id, seen.units)
    gates = list(seen.bad)
    rows = []
    for touch in seen.units:
        turn = touch.epoch if rollout.plan.assign == "unit_epoch" else seen.step
        noted = msgspec.structs.replace(touch, gate=sliced(touch.gate, part))
        earlier = known.setdefault((noted.gate, touch.unit), {})
        arm = _arm(touch.candidate)
        if touch.gate == SEEN:
            if _switches(rollout.plan, earlier, turn, touch):
                sums[SWITCHED, seen.share, "x1"] += 1
            if turn in earlier:
                continue
            for gate in gates:
                sums[gate, seen.share, f"n{arm}"] += 1
            if not earlier or rollout.plan.assign == "unit_epoch":
                sums[REQUESTS, seen.share, f"x{arm}"] += 1
        else:
            rho = chance(rollout.plan, seen.step, earlier, turn)
            if rho is None:
                continue
            sums[touch.gate, round(rho, 6), f"x{arm}"] += 1
        earlier[turn] = touch.candidate
        rows.append(_row(rollout.id, noted, turn, seen.step))
    if rows:
        conn.execute(t.rollout_units.insert(), rows)


def _switches(plan: Plan, earlier: Mapping[int, bool], turn: int, touch: Touch) -> bool:
    """Say whether a sticky unit changed its version where it cannot: within a step, or back to the stable one."""
    if plan.assign != "unit":
        return False
    back = any(earlier.values()) and not touch.candidate
    return back or earlier.get(turn, touch.candidate) != touch.candidate


def _row(number: str, touch: Touch, turn: int, step: int) -> dict[str, str | int]:
    return {
        "rollout": number,
        "gate": touch.gate,
        "unit": touch.unit,
        "turn": turn,
        "step": step,
        "candidate": int(touch.candidate),
    }


def _known(conn: Connection, number: str, touches: Sequence[Touch]) -> dict[tuple[str, str], dict[int, bool]]:
    """Return what units did before: (gate, unit) -> turn -> whether the candidate answered."""
    names = sorted({touch.unit for touch in touches})
    known: dict[tuple[str, str], dict[int, bool]] = {}
    for start in range(0, len(names), _CHUNK):
        query = sa.select(_U.gate, _U.unit, _U.turn, _U.candidate).where(
            _U.rollout == number, _U.unit.in_(names[start : start + _CHUNK])
        )
        for row in conn.execute(query):
            known.setdefault((row.gate, row.unit), {})[int(row.turn)] = bool(row.candidate)
    return known


def _put(sums: Counter[Key], gate: str, rho: float, field: str, pair: tuple[int, int]) -> None:
    sums[gate, rho, f"{field}1"] += pair[0]
    sums[gate, rho, f"{field}0"] += pair[1]


def _arm(candidate: bool) -> int:
    return 1 if candidate else 0


def _counts(step: int, sums: Counter[Key]) -> list[Count]:
    cells = {(gate, rho) for (gate, rho, _), n in sums.items() if n}
    return [
        Count(step=step, gate=gate, rho=rho, **{f: sums[gate, rho, f] for f in _FIELDS})
        for gate, rho in sorted(cells)
    ]


def chances(
    conn: Connection, rollout: Rollout, touches: Sequence[Touch], steps: Sequence[int]
) -> list[float | None]:
    """Return the chance of each bad outcome, or None where its unit counted already; note the units."""
    known = _known(conn, rollout.id, [touch for touch in touches if touch.unit])
    found: list[float | None] = []
    rows = []
    for touch, step in zip(touches, steps, strict=True):
        if not touch.unit:
            found.append(rollout.plan.share(step))
            continue
        turn = touch.epoch if rollout.plan.assign == "unit_epoch" else step
        earlier = known.setdefault((touch.gate, touch.unit), {})
        rho = chance(rollout.plan, step, earlier, turn)
        found.append(None if rho is None else round(rho, 6))
        if rho is not None:
            earlier[turn] = touch.candidate
            rows.append(_row(rollout.id, touch, turn, step))
    if rows:
        conn.execute(t.rollout_units.insert(), rows)
    return found


def increase(conn: Connection, number: str, count: Count) -> None:
    """Add counts to one cell of the evidence."""
    key = {"rollout": number, "step": count.step, "gate": count.gate, "rho": f"{count.rho:.6f}"}
    mine = [_E[name] == wanted for name, wanted in key.items()]
    grown = {name: _E[name] + getattr(count, name) for name in _FIELDS}
    if conn.execute(t.evidence.update().where(*mine).values(**grown)).rowcount == 0:
        conn.execute(t.evidence.insert().values(**key, **{name: getattr(count, name) for name in _FIELDS}))
