"""A rollout as JSON values for the console: its ladder, the evidence, what it waits for, the moves."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy import loss
from tenure.deploy.rollout import advance, evidence, labels, moments, store
from tenure.deploy.rollout.advance import ACTIVE, Progress, Rollout, Verdict
from tenure.deploy.rollout.counts import OUTSTANDING, REQUESTS, Count
from tenure.deploy.rollout.forecast import forecast
from tenure.deploy.rollout.plan import WRONG
from tenure.errors import MissingError

_I, _P = t.review_items.c, t.item_predictions.c


def describe(conn: Connection, number: str, now_us: int) -> dict[str, Any]:
    """Return the row with all that is known beside it, as JSON values.

    `ladder`, `verdicts`, `evidence`, `means` (their sums at the last look), `moves`, `waits`, `forecast`,
    `outstanding` labels, whom it `asks`, who approved the step (`approved_by`) and what the candidate `answered`.
    Raises MissingError.
    """
    row = conn.execute(sa.select(t.rollouts).where(t.rollouts.c.id == number)).mappings().first()
    if row is None:
        raise MissingError(f"there is no rollout {number!r}", at="id")
    rollout, stored = store.value(row), store.verdicts(conn, number)
    counts = evidence.read(conn, number)
    return {
        **row,
        "plan": json.loads(row["plan"]),
        "ladder": ladder(rollout, counts, stored),
        "verdicts": _verdicts(conn, number),
        "evidence": [{"rollout": number, **msgspec.to_builtins(c)} for c in counts],
        "means": moments.rows(conn, number),
        "moves": _moves(conn, number),
        "waits": _waits(conn, rollout, stored, now_us),
        "forecast": _forecast(conn, rollout, stored, now_us),
        "outstanding": _outstanding(counts),
        "asks": _asks(conn, rollout),
        "approved_by": store.approved_by(conn, rollout),
        "answered": answered(conn, rollout, counts),
        "now_us": now_us,
    }


def history(conn: Connection, endpoint: str) -> list[dict[str, Any]]:
    """Return the rows of an endpoint's rollouts, newest first."""
    r = t.rollouts.c
    query = sa.select(t.rollouts).where(r.endpoint == endpoint).order_by(r.created_us.desc(), r.id.desc())
    return [{**row, "plan": json.loads(row["plan"])} for row in conn.execute(query).mappings()]


def progress(conn: Connection, rollout: Rollout, now_us: int) -> Progress:
    """Return the requests and labels of the step at hand."""
    e = t.evidence.c
    mine = (e.rollout == rollout.id, e.step == rollout.step, e.gate == REQUESTS)
    requests = int(conn.execute(sa.select(sa.func.sum(e.n1 + e.n0)).where(*mine)).scalar() or 0)
    wanted = rollout.plan.steps[rollout.step].min_labels
    counted, behind = labels.labels(conn, rollout, now_us) if wanted else (0, 0)
    return Progress(
        requests=requests,
        labels=counted,
        behind=behind,
        approved=store.approved_by(conn, rollout) is not None,
        accepted=store.accepted(conn, rollout),
        silence_us=now_us - store.looked_us(conn, rollout) if rollout.plan.operator_silence else 0,
    )


def ladder(
    rollout: Rollout, counts: tuple[Count, ...], stored: dict[tuple[int, str], Verdict]
) -> list[dict[str, Any]]:
    """Return each step with its state (done, here, ahead, left), requests and sentences."""
    return [
        {
            "step": number,
            "shadow": step.shadow,
            "share": step.share,
            "state": _place(rollout, number),
            "requests": sum(c.n1 + c.n0 for c in counts if c.step == number and c.gate == REQUESTS),
            "sentences": [v.sentence for (at, _), v in stored.items() if at == number],
        }
        for number, step in enumerate(rollout.plan.steps)
    ]


def answered(conn: Connection, rollout: Rollout, counts: tuple[Count, ...]) -> dict[str, int]:
    """Return how many requests the candidate answered, and how many of its labelled decisions were wrong."""
    query = (
        sa.select(_I.truth, _I.truth_regions, _P.value, _P.regions, sa.func.count())
        .join(t.item_predictions, (_P.item == _I.id) & (_P.version == rollout.candidate))
        .where(_I.rollout == rollout.id, _I.arm == "candidate", _I.state == "resolved", _P.automated == 1)
        .where(_I.truth.is_not(None))
        .group_by(_I.truth, _I.truth_regions, _P.value, _P.regions)
    )
    rows = [
        (loss.wrong(rollout.plan.loss, (truth, boxes), (said, drawn)), int(n))
        for truth, boxes, said, drawn, n in conn.execute(query)
    ]
    return {
        "requests": sum(c.n1 for c in counts if c.gate == REQUESTS),
        "labelled": sum(n for _, n in rows),
        "wrong": sum(n for wrong, n in rows if wrong),
    }


def _place(rollout: Rollout, number: int) -> str:
    if number < rollout.step or rollout.state == "completed":
        return "done"
    if number > rollout.step:
        return "ahead" if rollout.state in ACTIVE else "left"
    return "here" if rollout.state in ACTIVE else "left"


def _waits(conn: Connection, rollout: Rollout, stored: dict[tuple[int, str], Verdict], now_us: int) -> list[str]:
    if rollout.state not in ACTIVE:
        return []
    here = [v for (step, _), v in stored.items() if step == rollout.step]
    waits = advance.waits(rollout, here, progress(conn, rollout, now_us), now_us)
    return [*(["an operator to resume it"] if rollout.state == "paused" else []), *waits]


def _outstanding(counts: tuple[Count, ...]) -> dict[str, int]:
    late = sum(c.n0 for c in counts if c.gate == OUTSTANDING)
    return {WRONG: late} if late else {}


def _forecast(
    conn: Connection, rollout: Rollout, stored: dict[tuple[int, str], Verdict], now_us: int
) -> dict[str, Any] | None:
    """Return when the step can be decided; None of a rollout that has ended."""
    if rollout.state not in ACTIVE:
        return None
    here = [v for (step, _), v in stored.items() if step == rollout.step]
    return dict(msgspec.to_builtins(forecast(rollout, here, progress(conn, rollout, now_us), now_us)))


def _asks(conn: Connection, rollout: Rollout) -> str | None:
    """Say whose word is wanted, or None."""
    if rollout.state not in ACTIVE:
        return None
    if rollout.state == "paused":
        return "an operator resumes it or ends it"
    if not rollout.plan.steps[rollout.step].approve or store.approved_by(conn, rollout):
        return None
    who = f"anybody but {rollout.created_by}" if rollout.plan.second_person else "an operator"
    return f"{who} approves step {rollout.step + 1}"


def _verdicts(conn: Connection, number: str) -> list[dict[str, Any]]:
    v = t.verdicts.c
    query = sa.select(t.verdicts).where(v.rollout == number).order_by(v.step, v.gate)
    return [{**row, "numbers": json.loads(row["numbers"])} for row in conn.execute(query).mappings()]


def _moves(conn: Connection, number: str) -> list[dict[str, Any]]:
    m = t.rollout_moves.c
    query = sa.select(t.rollout_moves).where(m.rollout == number).order_by(m.id)
    return [{**row, "numbers": json.loads(row["numbers"])} for row in conn.execute(query).mappings()]
