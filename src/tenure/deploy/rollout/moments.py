"""Rows of `mean_sums` and `mean_units`: exact sums of values by arm, and what each unit added so far.

The sums grow with every batch, in the transaction that counts it; gates read them as they were at fixed times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.rollout.counts import Moments
from tenure.deploy.rollout.values import Part, Values
from tenure.stats.means import Sums, unit_sums

LOOK_US = 10_000_000
"""Time between two looks at a mean."""

_S, _U = t.mean_sums.c, t.mean_units.c
_CHUNK = 400
_Key = tuple[str, int, int]
"""(unit, epoch, arm)."""


def add(conn: Connection, number: str, step: int, seen: Mapping[str, Values], now_us: int) -> None:
    """Add what one batch says of each mean to the sums of its step."""
    for gate, values in seen.items():
        grown = _units(conn, number, step, gate, values.units)
        for arm in (1, 0):
            at = 1 - arm
            sums = values.rows[at] + grown[at]
            new = Moments(
                step=step, gate=gate, arm=arm, sums=sums, capped=values.capped[at], absent=values.absent[at]
            )
            if sums.n or new.absent:
                _increase(conn, number, new, now_us)


def look(conn: Connection, number: str, now_us: int) -> None:
    """Let gates see the sums as they are now, unless they looked in this stretch of time already."""
    turn = now_us // LOOK_US
    conn.execute(
        t.mean_sums.update().where(_S.rollout == number, _S.look < turn).values(looked=_S.live, look=turn)
    )


def read(conn: Connection, number: str) -> tuple[Moments, ...]:
    """Return the sums of a rollout as at the last look."""
    query = sa.select(t.mean_sums).where(_S.rollout == number).order_by(_S.step, _S.gate, _S.arm)
    return tuple(_value(r.step, r.gate, r.arm, r.looked) for r in conn.execute(query))


def rows(conn: Connection, number: str) -> list[dict[str, Any]]:
    """Return `read` as JSON values; the sums are texts, because they outgrow the numbers of JSON."""
    return [
        {
            "step": m.step, "gate": m.gate, "arm": m.arm, "capped": m.capped, "absent": m.absent,
            "sums": {name: str(n) for name, n in msgspec.structs.asdict(m.sums).items()},
        }
        for m in read(conn, number)
    ]  # fmt: skip


def _value(step: int, gate: str, arm: int, text: str) -> Moments:
    *sums, capped, absent = json.loads(text)
    return Moments(step=step, gate=gate, arm=arm, sums=Sums(*sums), capped=capped, absent=absent)


def _text(m: Moments) -> str:
    return json.dumps([*msgspec.structs.astuple(m.sums), m.capped, m.absent])


def _increase(conn: Connection, number: str, new: Moments, now_us: int) -> None:
    mine = (_S.rollout == number, _S.step == new.step, _S.gate == new.gate, _S.arm == new.arm)
    text = conn.execute(sa.select(_S.live).where(*mine)).scalar()
    if text is None:
        key = {"rollout": number, "step": new.step, "gate": new.gate, "arm": new.arm}
        nothing = _text(msgspec.structs.replace(new, sums=Sums(), capped=0, absent=0))
        row = key | {"live": _text(new), "looked": nothing, "look": now_us // LOOK_US}
        conn.execute(t.mean_sums.insert().values(**row))
        return
    old = _value(new.step, new.gate, new.arm, text)
    both = msgspec.structs.replace(
        new, sums=old.sums + new.sums, capped=old.capped + new.capped, absent=old.absent + new.absent
    )
    conn.execute(t.mean_sums.update().where(*mine).values(live=_text(both)))


def _units(conn: Connection, number: str, step: int, gate: str, parts: Sequence[Part]) -> tuple[Sums, Sums]:
    """Note what units added, and return by how much (candidate, stable) sums over units grow."""
    grown = [Sums(), Sums()]
    new: list[dict[str, str | int]] = []
    changed: list[dict[str, str | int]] = []
    known = _known(conn, number, step, gate, parts)
    for part in parts:
        key = (part.unit, part.epoch, int(part.candidate))
        n, y = known.get(key, (0, 0))
        grown[1 - key[2]] += unit_sums(n + part.n, y + part.y) - unit_sums(n, y)
        row: dict[str, str | int] = {
            "rollout": number, "step": step, "gate": gate, "unit": key[0], "turn": key[1], "arm": key[2],
            "n": n + part.n, "y": y + part.y,
        }  # fmt: skip
        (changed if key in known else new).append(row)
    if new:
        conn.execute(t.mean_units.insert(), new)
    if changed:
        _write(conn, changed)
    return grown[0], grown[1]


def _write(conn: Connection, changed: Sequence[Mapping[str, str | int]]) -> None:
    keys = ("rollout", "step", "gate", "unit", "turn", "arm")
    mine = [t.mean_units.c[name] == sa.bindparam(f"at_{name}") for name in keys]
    query = t.mean_units.update().where(*mine).values(n=sa.bindparam("to_n"), y=sa.bindparam("to_y"))
    conn.execute(
        query,
        [{f"at_{name}": row[name] for name in keys} | {"to_n": row["n"], "to_y": row["y"]} for row in changed],
    )


def _known(
    conn: Connection, number: str, step: int, gate: str, parts: Sequence[Part]
) -> dict[_Key, tuple[int, int]]:  # fmt: skip
    names = sorted({part.unit for part in parts})
    found: dict[_Key, tuple[int, int]] = {}
    for start in range(0, len(names), _CHUNK):
        query = sa.select(_U.unit, _U.turn, _U.arm, _U.n, _U.y).where(
            _U.rollout == number, _U.step == step, _U.gate == gate, _U.unit.in_(names[start : start + _CHUNK])
        )
        found |= {(r.unit, int(r.turn), int(r.arm)): (int(r.n), int(r.y)) for r in conn.execute(query)}
    return found
