"""Rows of `rollouts`, `rollout_moves` and `verdicts`, and who is stable; all inside the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.deploy.rollout import moments
from tenure.deploy.rollout.advance import ACTIVE, Move, Rollout, Verdict
from tenure.deploy.rollout.command import kind_of
from tenure.deploy.rollout.plan import Plan
from tenure.errors import MissingError
from tenure.seeds import fresh_u64
from tenure.types import Outcome

_R, _V = t.rollouts.c, t.verdicts.c
_PLAN = msgspec.json.Decoder(Plan, strict=False)
_LOCK = 7439


def lock(conn: Connection) -> None:
    """Let one transaction at a time change rollouts; SQLite's BEGIN IMMEDIATE does so already."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def active(conn: Connection, endpoint: str) -> Rollout | None:
    """Return the one rollout of an endpoint that has not ended."""
    query = sa.select(t.rollouts).where(_R.endpoint == endpoint, _R.state.in_(ACTIVE))
    row = conn.execute(query).mappings().first()
    return None if row is None else value(row)


def load(conn: Connection, number: str) -> Rollout:
    """Return one rollout; raises MissingError."""
    row = conn.execute(sa.select(t.rollouts).where(_R.id == number)).mappings().first()
    if row is None:
        raise MissingError(f"there is no rollout {number!r}", at="id")
    return value(row)


def ended_since(conn: Connection, endpoint: str, since_us: int) -> list[Rollout]:
    """Return the rollouts that ended since then, newest first."""
    query = sa.select(t.rollouts).where(
        _R.endpoint == endpoint, _R.state.not_in(ACTIVE), _R.updated_us >= since_us
    )
    return [value(row) for row in conn.execute(query.order_by(_R.updated_us.desc(), _R.id.desc())).mappings()]


def value(row: RowMapping | Mapping[str, Any]) -> Rollout:
    """Return a row as a value."""
    fields = {name: row[name] for name in Rollout.__struct_fields__ if name != "plan"}
    return Rollout(plan=_PLAN.decode(row["plan"]), **fields)


def attempts(conn: Connection, candidate: str, stable: str | None) -> int:
    """Return how many rollouts of this candidate against this stable version there were."""
    query = sa.select(sa.func.count()).where(_R.candidate == candidate, _R.stable.is_not_distinct_from(stable))
    return int(conn.execute(query).scalar_one())


def insert(conn: Connection, rollout: Rollout) -> None:
    """Write a new rollout."""
    fields = {name: getattr(rollout, name) for name in Rollout.__struct_fields__ if name != "plan"}
    plan = msgspec.json.encode(rollout.plan, order="sorted").decode()
    conn.execute(t.rollouts.insert().values(**fields, plan=plan))


def apply(conn: Connection, rollout: Rollout, move: Move, *, author: str, now_us: int) -> Rollout:
    """Write a transition with its numbers and return the rollout after it.

    A step back draws anew: another salt, no evidence, another attempt. What was counted stays in the move.
    """
    before = rollout.step
    moved = kind_of(rollout, move) in ("started", "advanced", "jumped")
    if move.step < rollout.step:
        rollout, move = _anew(conn, rollout, move)
    after = msgspec.structs.replace(
        rollout,
        state=move.state,
        step=move.step,
        step_started_us=now_us if moved else rollout.step_started_us,
        reason=move.reason,
        updated_us=now_us,
    )
    conn.execute(
        t.rollouts.update()
        .where(_R.id == rollout.id)
        .values(
            state=after.state,
            step=after.step,
            step_started_us=after.step_started_us,
            updated_us=now_us,
            reason=move.reason,
            salt=after.salt,
            attempt=after.attempt,
        )
    )
    conn.execute(
        t.rollout_moves.insert().values(
            rollout=rollout.id,
            at_us=now_us,
            from_state=rollout.state,
            to_state=after.state,
            from_step=before,
            to_step=after.step,
            reason=move.reason,
            numbers=dumps(move.numbers),
            author=author,
        )
    )
    return after


def _anew(conn: Connection, rollout: Rollout, move: Move) -> tuple[Rollout, Move]:
    mine = select_evidence(rollout.id)
    counted = [dict(row) for row in conn.execute(mine).mappings()]
    means = moments.rows(conn, rollout.id)
    for table in (t.evidence, t.verdicts, t.rollout_units, t.mean_sums, t.mean_units):
        conn.execute(table.delete().where(table.c.rollout == rollout.id))
    fresh = {"salt": f"{fresh_u64():016x}", "attempt": rollout.attempt + 1}
    kept = move.numbers | {"salt": rollout.salt, "evidence": counted} | ({"means": means} if means else {})
    return msgspec.structs.replace(rollout, **fresh), msgspec.structs.replace(move, numbers=kept)


def select_evidence(number: str) -> sa.Select[Any]:
    """Select a rollout's rows of evidence, in order."""
    e = t.evidence.c
    columns = (e.step, e.gate, e.rho, e.x1, e.x0, e.n1, e.n0)
    return sa.select(*columns).where(e.rollout == number).order_by(e.step, e.gate, e.rho)


def since_us(conn: Connection, rollout: Rollout) -> int:
    """Return when the salt in force began: at the last step back, else at the start."""
    m = t.rollout_moves.c
    query = sa.select(sa.func.max(m.at_us)).where(m.rollout == rollout.id, m.to_step < m.from_step)
    return int(conn.execute(query).scalar() or rollout.created_us)


def approve(conn: Connection, rollout: Rollout, by: str) -> None:
    """Note an approval of the step at hand; any move makes it void."""
    _put(conn, f"approval:{rollout.id}", dumps({"by": by, "moves": _moves(conn, rollout)}))


def approved_by(conn: Connection, rollout: Rollout) -> str | None:
    """Return who approved the step at hand, with nothing moved since."""
    text = _get(conn, f"approval:{rollout.id}")
    noted = json.loads(text) if text else {}
    return noted["by"] if noted.get("moves") == _moves(conn, rollout) else None


def look(conn: Connection, rollout: Rollout, now_us: int) -> None:
    """Note that an operator saw the rollout."""
    _put(conn, f"looked:{rollout.id}", str(now_us))


def looked_us(conn: Connection, rollout: Rollout) -> int:
    """Return when an operator last saw the rollout or it last changed its step."""
    return max(rollout.step_started_us, int(_get(conn, f"looked:{rollout.id}") or 0))


def clear(conn: Connection, rollout: Rollout) -> None:
    """Drop what only an active rollout needs."""
    keys = (f"approval:{rollout.id}", f"looked:{rollout.id}")
    conn.execute(t.meta.delete().where(t.meta.c.key.in_(keys)))
    for table in (t.rollout_units, t.mean_units):
        conn.execute(table.delete().where(table.c.rollout == rollout.id))


def _moves(conn: Connection, rollout: Rollout) -> int:
    m = t.rollout_moves.c
    return int(conn.execute(sa.select(sa.func.count()).where(m.rollout == rollout.id)).scalar_one())


def _get(conn: Connection, key: str) -> str | None:
    return conn.execute(sa.select(t.meta.c.value).where(t.meta.c.key == key)).scalar()


def _put(conn: Connection, key: str, value: str) -> None:
    if conn.execute(t.meta.update().where(t.meta.c.key == key).values(value=value)).rowcount == 0:
        conn.execute(t.meta.insert().values(key=key, value=value))


def verdicts(conn: Connection, number: str) -> dict[tuple[int, str], Verdict]:
    """Return the stored verdicts by step and gate."""
    query = sa.select(t.verdicts).where(_V.rollout == number).order_by(_V.step, _V.gate)
    return {(r.step, r.gate): _verdict(r) for r in conn.execute(query)}


def accepted(conn: Connection, rollout: Rollout) -> frozenset[str]:
    """Return the gates whose hold an operator answered by resuming: they do not pause it again."""
    if rollout.state != "running":
        return frozenset()
    m = t.rollout_moves.c
    query = sa.select(m.numbers).where(
        m.rollout == rollout.id, m.to_state == "paused", m.at_us >= since_us(conn, rollout)
    )
    return frozenset(g for text in conn.execute(query).scalars() for g in json.loads(text).get("held_by", ()))


def _verdict(row: sa.Row[Any]) -> Verdict:
    numbers = json.loads(row.numbers)
    return Verdict(
        gate=row.gate,
        outcome=Outcome(row.outcome),
        sentence=row.sentence,
        holds=bool(numbers.pop("holds", False)),
        numbers=numbers,
    )


def save_verdicts(
    conn: Connection,
    rollout: Rollout,
    new: Sequence[Verdict],
    old: Mapping[tuple[int, str], Verdict],
    *,
    now_us: int,
) -> None:
    """Write the verdicts of a step that differ from the stored ones."""
    for verdict in new:
        before = old.get((rollout.step, verdict.gate))
        if before == verdict:
            continue
        values = {
            "outcome": verdict.outcome.value,
            "at_us": now_us,
            "numbers": dumps(verdict.numbers | ({"holds": True} if verdict.holds else {})),
            "sentence": verdict.sentence,
        }
        if before is None:
            key = {"rollout": rollout.id, "step": rollout.step, "gate": verdict.gate}
            conn.execute(t.verdicts.insert().values(**key, **values))
        else:
            mine = (_V.rollout == rollout.id, _V.step == rollout.step, _V.gate == verdict.gate)
            conn.execute(t.verdicts.update().where(*mine).values(**values))


def stable(conn: Connection, endpoint: str) -> str | None:
    """Return the version in force, or None while only people decide."""
    return _get(conn, f"stable:{endpoint}") or None


def set_stable(conn: Connection, endpoint: str, version: str | None) -> None:
    """Write who is stable and which version is live."""
    _put(conn, f"stable:{endpoint}", version or "")
    v = t.versions.c
    conn.execute(t.versions.update().where(v.endpoint == endpoint, v.state == "live").values(state="registered"))
    conn.execute(t.versions.update().where(v.id == version).values(state="live"))


def check_version(conn: Connection, endpoint: str, version: str) -> None:
    """Raise MissingError unless the version is registered for the endpoint and not retired."""
    query = sa.select(t.versions.c.endpoint, t.versions.c.state).where(t.versions.c.id == version)
    row = conn.execute(query).first()
    if row is None:
        raise MissingError(f"there is no version {version!r}; register it first", at="candidate")
    if row.endpoint != endpoint:
        raise MissingError(
            f"version {version!r} is of endpoint {row.endpoint}, not of {endpoint}", at="candidate"
        )
    if row.state == "retired":
        raise MissingError(f"version {version!r} is retired", at="candidate")
