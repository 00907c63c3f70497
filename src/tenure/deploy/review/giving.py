"""What one reader gets now: items in the order of the queue, a gold one here and there, within the caps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy.engine import Connection, RowMapping

from tenure.deploy.review import caps, gold, leases, store
from tenure.deploy.review.items import Leased
from tenure.deploy.review.terms import Terms
from tenure.seeds import draw

Rooms = Mapping[str, tuple[int | None, int]]
"""Endpoint -> how many items a reader's caps still allow (None = no cap), and when the one that binds lets go."""


def give(
    conn: Connection, terms: Terms, reader: str, *, names: Sequence[str], tokens: Sequence[str], now_us: int,
    adjudicator: bool,
) -> list[Leased]:  # fmt: skip
    """Lease one item per token, as far as there are any; then items that the reader holds already.

    Raises:
        CaseError: nothing is left of the reader's caps (429).
    """
    table = desk(conn, terms, reader, now_us=now_us, adjudicator=adjudicator)
    rooms = {name: _room(conn, terms, name, reader=reader, now_us=now_us) for name in names}
    free = [name for name in names if rooms[name][0] != 0]
    given = []
    rows = list(_within(table.choose(free, len(tokens), tokens=tokens), rooms))
    for row, token in zip(rows, tokens, strict=False):
        others = [one["id"] for one in rows if one is not row]
        chosen = _gold_instead(conn, terms, row, reader=reader, token=token, but=others, now_us=now_us)
        given.append(table.grant(chosen, token, seconds=terms.review(row["endpoint"]).lease))
    held = table.held(names, len(tokens) - len(given), but=[one.item for one in given])
    if names and not given and not held and not free:
        raise caps.refuse(", ".join(names), reader, min(until for _, until in rooms.values()))
    return given + held


def desk(conn: Connection, terms: Terms, reader: str, *, now_us: int, adjudicator: bool = False) -> leases.Desk:
    """Return what chooses and leases for one reader."""
    strict = [name for name in terms.endpoints if terms.review(name).adjudication == "adjudicator"]
    return leases.Desk(
        conn, reader, now_us=now_us, margin_us=terms.margin_us, adjudicator=adjudicator, strict=strict
    )


def _room(
    conn: Connection, terms: Terms, endpoint: str, *, reader: str, now_us: int
) -> tuple[int | None, int]:  # fmt: skip
    return caps.left(conn, terms.review(endpoint).cap, endpoint=endpoint, reader=reader, now_us=now_us)


def _within(rows: Sequence[RowMapping], rooms: Rooms) -> Iterator[RowMapping]:
    """Yield the rows up to what is left of each endpoint's cap."""
    left = {name: room for name, (room, _) in rooms.items()}
    for row in rows:
        most = left.get(row["endpoint"])
        if most is not None:
            if most <= 0:
                continue
            left[row["endpoint"]] = most - 1
        yield row


def _gold_instead(
    conn: Connection, terms: Terms, row: RowMapping, *, reader: str, token: str, but: Sequence[str], now_us: int
) -> store.Row:
    """Return a gold item in place of the row if the draw says so and no client is kept waiting by it.

    The draw is keyed by a secret: the reader knows the token.
    """
    review = terms.review(row["endpoint"])
    soon = row["pending"] and row["deadline_us"] and row["deadline_us"] < now_us + 2e6 * review.lease
    point = draw(f"gold:{terms.salt}", token)
    if point >= review.gold.share or soon or row["state"] == "conflict" or row["escalated"]:
        return row
    at = point / review.gold.share
    return gold.take(conn, row["endpoint"], reader, point=at, but=but, now_us=now_us) or row
