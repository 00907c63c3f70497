"""Wrong decisions from labels: drawn before routing, counted by the age of the request, never by arrival."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.deploy import loss
from tenure.deploy.rollout import slices, store
from tenure.deploy.rollout.advance import Rollout
from tenure.deploy.rollout.counts import MISSING, OUTSTANDING, PAIRED, Count, sliced
from tenure.deploy.rollout.evidence import chance
from tenure.deploy.rollout.plan import WRONG
from tenure.scope.project import LossSpec

GATES = (WRONG, MISSING, OUTSTANDING)
"""The rows of evidence that labels make, also within slices."""

PATIENCE_US = 600_000_000
"""How long an open request holds those behind it back where the plan sets no maturity; then it is missing."""

Told = tuple[str | None, str | None]
"""A value and its boxes as JSON texts, where there are any."""

_OPEN = ("open", "judged", "conflict")
_I, _P = t.review_items.c, t.item_predictions.c


class Drawn(msgspec.Struct, frozen=True):
    """One request that was drawn to be labelled before it was routed.

    `wrong`: the model decided it and the label says otherwise; None without a label. `parts`: its slices.
    """

    step: int
    unit: str
    candidate: bool
    created_us: int
    wrong: bool | None
    parts: tuple[str, ...] = ()


def signature(conn: Connection, rollout: Rollout, now_us: int) -> tuple[int, ...]:
    """Return numbers that change whenever `counted` would: items, mature items, labels, labels taken back."""
    mature = sa.case((_I.created_us <= now_us - maturity_us(rollout), 1), else_=0)
    resolved = sa.case((_I.state == "resolved", 1), else_=0)
    query = sa.select(
        sa.func.count(), sa.func.sum(mature), sa.func.sum(resolved), sa.func.max(_I.resolution)
    ).where(_I.rollout == rollout.id, _I.created_us >= store.since_us(conn, rollout))
    front = min(front_us(conn, rollout, now_us), now_us)
    return (*(int(n or 0) for n in conn.execute(query).one()), front if front < now_us else 0)


def front_us(conn: Connection, rollout: Rollout, now_us: int) -> int:
    """Return the time of the oldest drawn request that people have still to judge: labels count up to there.

    Cases that are judged fast differ from the others: a disagreement waits for a second reader, so that counting
    labels as they come would count the agreements first.
    """
    query = sa.select(sa.func.min(_I.created_us)).where(
        _I.rollout == rollout.id, _I.state.in_(_OPEN), _I.lottery == 1,
        _I.created_us >= max(store.since_us(conn, rollout), now_us - patience_us(rollout)),
    )  # fmt: skip
    found = conn.execute(query).scalar()
    return now_us + 1 if found is None else int(found)


def counted(conn: Connection, rollout: Rollout, now_us: int) -> list[Count]:
    """Return the evidence of `wrong_decision` over all steps, with what is missing and outstanding.

    A request counts once it is older than the gate's maturity; then one without a label is missing.
    """
    old_enough = old_enough_us(rollout, now_us, front_us(conn, rollout, now_us))
    rows = list(_drawn(conn, rollout))
    mature = [r for r in rows if r.created_us <= old_enough]
    counts = [*_of_part(rollout, mature, ""), *_paired(conn, rollout, old_enough)]
    for part in sorted({part for row in mature for part in row.parts}):
        counts += _of_part(rollout, [row for row in mature if part in row.parts], part)
    open_ = len(rows) - sum(r.wrong is not None for r in mature)
    if open_:
        counts.append(Count(step=rollout.step, gate=OUTSTANDING, rho=rollout.plan.share(rollout.step), n0=open_))
    return counts


def _of_part(rollout: Rollout, mature: Sequence[Drawn], part: str) -> list[Count]:
    """Count wrong decisions and missing labels among the mature requests of one slice."""
    late = [msgspec.structs.replace(r, wrong=r.wrong is None) for r in mature]
    known = [r for r in mature if r.wrong is not None]
    missing = _tally(rollout, late, sliced(MISSING, part))
    gone = missing if any(c.x1 or c.x0 for c in missing) else []
    return [*_tally(rollout, known, sliced(WRONG, part)), *gone]


def labels(conn: Connection, rollout: Rollout, now_us: int) -> tuple[int, int]:
    """Return how many labels the step has, of requests since it began: up to the front, and behind it.

    In the shadow: those that the candidate answered too. While requests are shared: of both versions, so that the
    count does not tell which version a request went to.
    """
    counts = sa.case((_I.created_us < front_us(conn, rollout, now_us), 1), else_=0)
    query = (
        sa.select(sa.func.count(), sa.func.sum(counts))
        .select_from(t.review_items)
        .where(_I.rollout == rollout.id, _I.state == "resolved", _I.created_us >= rollout.step_started_us)
    )
    if rollout.plan.is_shadow(rollout.step):
        query = query.where(sa.exists().where(_P.item == _I.id, _P.version == rollout.candidate))
    every, counted = conn.execute(query).one()
    return int(counted or 0), int(every) - int(counted or 0)


def maturity_us(rollout: Rollout) -> int:
    """Return the age at which a label counts, in microseconds."""
    return int(max((g.maturity for g in rollout.plan.gates if g.bad == WRONG), default=0.0) * 1e6)


def patience_us(rollout: Rollout) -> int:
    """Return how long an open request holds those behind it back, in microseconds."""
    return maturity_us(rollout) or PATIENCE_US


def old_enough_us(rollout: Rollout, now_us: int, front_us: int) -> int:
    """Return the time of the youngest request that counts: with a label, or as one whose label is missing."""
    return min(now_us - maturity_us(rollout), front_us - 1)


def _drawn(conn: Connection, rollout: Rollout) -> Iterator[Drawn]:
    """Yield the drawn requests of the steps that split, in order of request time."""
    said = (_P.item == _I.id) & (_P.version == _I.version) & (_P.automated == 1)
    before = slices.known(conn, rollout.id) if rollout.plan.slices else []
    record = _I.record if rollout.plan.slices else sa.null().label("record")
    item = (record, _I.unit, _I.arm, _I.share, _I.created_us, _I.state, _I.truth, _I.truth_regions)
    query = (
        sa.select(*item, _P.value, _P.regions)
        .join(t.item_predictions, said, isouter=True)
        .where(_I.rollout == rollout.id, _I.lottery == 1, _I.created_us >= store.since_us(conn, rollout))
        .order_by(_I.created_us, _I.number)
    )
    for row in conn.execute(query).mappings():
        candidate = row["arm"] == "candidate"
        step = rollout.plan.step_of(row["share"] if candidate else 1.0 - row["share"])
        if step is not None and 0.0 < rollout.plan.share(step) < 1.0:
            parts = _parts(rollout, row, before)
            yield Drawn(step, row["unit"], candidate, row["created_us"], _wrong(rollout, row), parts)


def _parts(rollout: Rollout, row: RowMapping, before: Sequence[str]) -> tuple[str, ...]:
    if not rollout.plan.slices:
        return ()
    record = json.loads(row["record"]) if row["record"] else None
    return tuple(slices.parts_of(rollout.plan, record, row["unit"], before))


def _wrong(rollout: Rollout, row: RowMapping) -> bool | None:
    truth = (row["truth"], row["truth_regions"])
    return wrong(rollout.plan.loss, truth, row["state"] == "resolved", (row["value"], row["regions"]))


def wrong(by: LossSpec, truth: Told, resolved: bool, decided: Told) -> bool | None:
    """Say whether a request was decided wrongly; None without a label.

    Args:
        by: says what wrong means.
        truth: (value, boxes) as JSON texts.
        resolved: whether people are done with it.
        decided: what the model decided, alike; without a value it did not decide.
    """
    if not resolved or truth[0] is None:
        return None
    if decided[0] is None:
        return False  # the model did not decide it
    return loss.wrong(by, (truth[0], truth[1]), (decided[0], decided[1]))


def _tally(rollout: Rollout, rows: Sequence[Drawn], gate: str) -> list[Count]:
    """Count outcomes per step and chance; a sticky unit counts its first bad one per step or epoch."""
    plan = rollout.plan
    cells: dict[tuple[int, float], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    earlier: dict[str, dict[int, bool]] = {}
    for row in rows:
        cells[row.step, plan.share(row.step)][2 if row.candidate else 3] += 1
        if not row.wrong:
            continue
        rho: float | None = plan.share(row.step)
        if plan.assign != "request" and row.unit:
            turn = row.created_us // int(plan.epoch * 1e6) if plan.assign == "unit_epoch" else row.step
            seen = earlier.setdefault(row.unit, {})
            rho = chance(plan, row.step, seen, turn)
            if rho is not None:
                seen[turn] = row.candidate
        if rho is not None:
            cells[row.step, round(rho, 6)][0 if row.candidate else 1] += 1
    return [
        Count(step=step, gate=gate, rho=rho, x1=c[0], x0=c[1], n1=c[2], n0=c[3])
        for (step, rho), c in cells.items()
    ]


def _paired(conn: Connection, rollout: Rollout, old_enough: int) -> list[Count]:
    """Count the shadow step's judged requests where one version alone was wrong.

    Only drawn requests whose reader did not see the answer: neither version chose or coloured the label.
    """
    if not rollout.plan.is_shadow(0) or rollout.stable is None:
        return []
    new, old = t.item_predictions.alias(), t.item_predictions.alias()
    query = (
        sa.select(
            _I.truth,
            _I.truth_regions,
            new.c.value.label("new"),
            new.c.regions.label("new_regions"),
            old.c.value.label("old"),
            old.c.regions.label("old_regions"),
        )
        .join(new, (new.c.item == _I.id) & (new.c.version == rollout.candidate) & (new.c.role == "shadow"))
        .join(old, (old.c.item == _I.id) & (old.c.version == rollout.stable))
        .where(_I.rollout == rollout.id, _I.lottery == 1, _I.blind == 1, _I.state == "resolved")
        .where(_I.truth.is_not(None), _I.created_us <= old_enough)
        .where(_I.created_us >= store.since_us(conn, rollout))
    )
    x1 = x0 = n = 0
    for row in conn.execute(query):
        truth = (row.truth, row.truth_regions)
        wrong = loss.wrong(rollout.plan.loss, truth, (row.new, row.new_regions))
        was = loss.wrong(rollout.plan.loss, truth, (row.old, row.old_regions))
        n += 1
        x1 += wrong and not was
        x0 += was and not wrong
    return [Count(step=0, gate=WRONG, rho=PAIRED, x1=x1, x0=x0, n1=n, n0=n)] if n else []
