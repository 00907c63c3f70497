"""Who gets which item next, and for how long: one live lease per judgement that is wanted (V1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.deploy.review import gold, store
from tenure.deploy.review.items import Leased, Suggestion
from tenure.seeds import draw, fresh_token

OLDEST = 0.1
"""Share of leases that go to the item that has waited longest, so that none starves behind priorities."""

BEHIND = -1e9
"""Added to the priority of an item that nobody waits for any more: below all others, in its own order."""

KEEP_US = 3_600_000_000
"""An expired lease is remembered so long: its holder's late judgement is kept, a made-up token's is not."""

_I, _L, _J = t.review_items.c, t.leases.c, t.judgements.c
_WAITING, _LIVE = sa.text(t.WAITING_SQL), sa.text(t.LIVE_SQL)


class Turn(msgspec.Struct, frozen=True):
    """One way to choose: the rows of its questions together, in the order of `key`.

    What was escalated and what was not are questions of their own where that lets an index have the rows in
    order, so that what is read does not depend on how many items wait.
    """

    queries: tuple[sa.Select[Any], ...]
    key: Callable[[RowMapping], Any]


@cache
def turns(adjudicator: bool, strict: tuple[str, ...]) -> tuple[Turn, ...]:
    """Return the order by age alone, of what somebody waits for, and then that of the queue.

    In the queue comes the nearest deadline, then clients without one, then the rest by priority. What was
    escalated is the adjudicators', and comes before the rest. A priority below `BEHIND / 2` is that of an item
    that nobody waits for any more; it comes after all others. The questions ask for `reader`, `endpoint`,
    `now_us`, `useful_us` (the first deadline that a judgement of now can meet) and `upto`.
    """
    plain, up = _I.escalated == 0, _I.escalated == 1
    each = (plain, up) if adjudicator else (plain,)
    useful = _I.deadline_us > sa.bindparam("useful_us")
    free = _free(sa.bindparam("reader"), sa.bindparam("now_us"))
    free = free if adjudicator else free.where(_for_anyone(strict))

    def turn(where: Sequence[Any], order: Sequence[Any], key: Callable[[RowMapping], Any], among: Any) -> Turn:
        query = free.where(_I.endpoint == sa.bindparam("endpoint"), *where).order_by(*order)
        query = query.limit(sa.bindparam("upto", type_=sa.Integer))
        return Turn(tuple(query.where(which) for which in among), key)

    by_age = (_I.created_us, _I.number), lambda row: (row["created_us"], row["number"])
    by_deadline = (_I.deadline_us, _I.number), lambda row: (row["deadline_us"], row["number"])
    by_priority = (_I.priority.desc(), _I.number), lambda row: (-row["priority"], row["number"])
    asked, rest = _I.pending == 1, _I.pending == 0
    return (
        turn((_LIVE, sa.or_(rest, _I.deadline_us == 0, useful)), *by_age, each),
        turn((asked, useful), *by_deadline, (sa.true(),)),
        turn((asked, _I.deadline_us == 0), *by_priority, each),
        *((turn((rest,), *by_priority, (up,)),) if adjudicator else ()),
        turn((rest,), *by_priority, (plain,)),
    )


class Desk:
    """Choosing and leasing for one reader inside one transaction.

    It is the only one that writes (`State.begin`), so that what is free at a look stays free until the commit.
    """

    def __init__(
        self,
        conn: Connection,
        reader: str,
        *,
        now_us: int,
        margin_us: int,
        adjudicator: bool = False,
        strict: Sequence[str] = (),
    ) -> None:
        self._conn = conn
        self._reader = reader
        self._now = now_us
        self._margin = margin_us
        self._adjudicator = adjudicator
        self._strict = tuple(strict)

    def choose(self, endpoints: Sequence[str], n: int, *, tokens: Sequence[str]) -> list[RowMapping]:
        """Return up to `n` items in the order of the queue; each token draws whether age alone rules."""
        aged = sum(draw("oldest", token) < OLDEST for token in tokens[:n])
        chosen: dict[str, RowMapping] = {}
        by_age, *others = turns(self._adjudicator, self._strict)
        for turn, upto in [(by_age, aged), *((turn, n) for turn in others)]:
            if len(chosen) < upto:
                for row in self._pick(turn, endpoints, upto=upto):
                    if len(chosen) < upto:
                        chosen.setdefault(row["id"], row)
        return list(chosen.values())

    def held(self, endpoints: Sequence[str], n: int, *, but: Sequence[str]) -> list[Leased]:
        """Return items other than `but` that the reader holds already, under the same tokens."""
        if n <= 0:
            return []
        mine = (_L.reader == self._reader, _L.expires_us > self._now, _L.item.not_in(but))
        query = sa.select(t.leases).where(*mine).order_by(_L.leased_us, _L.item)
        held = {lease["item"]: lease for lease in self._conn.execute(query).mappings()}
        items = sa.select(t.review_items).where(_I.id.in_(held), _I.endpoint.in_(endpoints))
        rows: dict[str, store.Row] = {row["id"]: row for row in self._conn.execute(items).mappings()}
        for id_ in held.keys() - rows.keys():
            row = gold.behind(self._conn, id_)
            if row is not None and row["endpoint"] in endpoints:
                rows[id_] = row
        return [shown(self._conn, rows[id_], lease) for id_, lease in held.items() if id_ in rows][:n]

    def grant(self, row: store.Row, token: str, *, seconds: float) -> Leased:
        """Write the lease and return what the reader may see; every reading but the first is blind."""
        lease = {
            "item": row["id"],
            "reader": self._reader,
            "token": token,
            "blind": int(
                bool(row["blind"] or row["escalated"]) or row["state"] != "open" or self._others(row) > 0
            ),
            "final": int(self._adjudicator),
            "leased_us": self._now,
            "expires_us": self._now + int(seconds * 1e6),
        }
        mine = (_L.item == row["id"], _L.reader == self._reader)
        self._conn.execute(t.leases.delete().where(*mine))
        self._conn.execute(t.leases.insert().values(**lease))
        return shown(self._conn, row, lease)

    def taken(self, row: store.Row) -> bool:
        """Say whether other readers hold every judgement that the item wants."""
        return self._others(row) >= (row["required"] if row["state"] == "open" and not row["escalated"] else 1)

    def _others(self, row: store.Row) -> int:
        live = (_L.item == row["id"], _L.expires_us > self._now, _L.reader != self._reader)
        return int(self._conn.execute(sa.select(sa.func.count()).where(*live)).scalar_one())

    def _pick(self, turn: Turn, endpoints: Sequence[str], *, upto: int) -> list[RowMapping]:
        asks = {"reader": self._reader, "now_us": self._now, "useful_us": self._now + self._margin, "upto": upto}
        found: list[RowMapping] = []
        for endpoint, query in product(endpoints, turn.queries):
            found += self._conn.execute(query, asks | {"endpoint": endpoint}).mappings()
        return sorted(found, key=turn.key)


def _free(reader: Any, now_us: Any) -> sa.Select[Any]:
    """Select the waiting items that this reader may be given."""
    undone = t.judgements.alias()
    judged = sa.exists().where(
        _J.item == _I.id,
        _J.reader == reader,
        sa.or_(_J.skip.is_(None), _J.skip != store.UNDO),
        ~sa.exists().where(undone.c.item == _J.item, undone.c.supersedes == _J.id),
    )
    met = sa.exists().where(t.gold_draws.c.item == _I.id, t.gold_draws.c.reader == reader)
    live = (_L.item == _I.id, _L.expires_us > now_us)
    mine = sa.exists().where(*live, _L.reader == reader)
    count = sa.select(sa.func.count()).select_from(t.leases).where(*live).scalar_subquery()
    slots = sa.case((sa.and_(_I.state == "open", _I.escalated == 0), _I.required), else_=1)
    return sa.select(t.review_items).where(_WAITING, ~judged, ~met, ~mine, count < slots)


def _for_anyone(strict: Sequence[str]) -> sa.ColumnElement[bool]:
    """Leave to adjudicators what was escalated, and conflicts of the endpoints that say so."""
    return sa.and_(_I.escalated == 0, sa.or_(_I.state != "conflict", _I.endpoint.not_in(strict)))


def shown(conn: Connection, row: store.Row, lease: Mapping[str, Any] | RowMapping) -> Leased:
    """Return what the holder of a lease may see of its item."""
    record = row["record"]
    return Leased(
        item=row["id"],
        endpoint=row["endpoint"],
        token=lease["token"],
        expires_us=lease["expires_us"],
        blind=bool(lease["blind"]),
        adjudicate=row["state"] == "conflict" or bool(row["escalated"]),
        media_type=row["media_type"],
        record=None if record is None else json.loads(record),
        suggestion=None if lease["blind"] else _suggestion(conn, row),
    )


def _suggestion(conn: Connection, row: store.Row) -> Suggestion | None:
    said = t.item_predictions.c
    id_ = row.get("source_id", row["id"])
    query = sa.select(t.item_predictions).where(said.item == id_, said.version == row["version"])
    found = conn.execute(query).mappings().first()
    if found is None:
        return None
    why = found["contributions"]
    return Suggestion(
        version=found["version"],
        value=json.loads(found["value"]),
        confidence=found["confidence"],
        regions=store.boxes(found["regions"]),
        contributions=None if why is None else json.loads(why),
    )


def lease_of(conn: Connection, item: str, reader: str) -> RowMapping | None:
    """Return the reader's lease of an item, live or expired."""
    query = sa.select(t.leases).where(_L.item == item, _L.reader == reader)
    return conn.execute(query).mappings().first()


def forget(conn: Connection, *, before_us: int) -> None:
    """Delete leases that expired long ago, but for those of items that a client waits for (see `lapsed`)."""
    asked = sa.exists().where(_I.id == _L.item, _I.pending == 1)
    conn.execute(t.leases.delete().where(_L.expires_us < before_us, ~asked))


def new_tokens(n: int) -> list[str]:
    """Return unguessable lease tokens."""
    return [fresh_token("l") for _ in range(n)]
