"""What asking for the next item costs in rows and steps: as much behind 5,000 items as behind few."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from review_world import item, queue
from sqlalchemy.engine import Connection

import postgres
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review import counting, giving, leases
from tenure.deploy.review.queue import ReviewQueue
from tenure.seeds import draw

MANY = 5000
ROWS = 60
"""Rows that PostgreSQL may read to give two items; it read 5,000 to 10,000 where an index was missing."""
STEPS = 1500
"""Steps of SQLite's machine for the same; the same mistakes cost 25,000 to 85,000."""

_I = t.review_items.c
_READ = sa.text("SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables")
AGED = next(f"l{n}" for n in count() if draw("oldest", f"l{n}") < leases.OLDEST)
PLAIN = next(f"l{n}" for n in count() if draw("oldest", f"l{n}") >= leases.OLDEST)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def fresh(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[State]:
    """A database of its own, of which PostgreSQL has no statistics yet."""
    url = f"sqlite:///{tmp_path / 'state.db'}"
    if request.param == "postgres":
        url = postgres.new_database(request.getfixturevalue("postgres_url"))
    state = State.open(url, clock)
    yield state
    state.close()


def put_many(conn: Connection, q: ReviewQueue, world: State, tag: str, n: int, **changed: Any) -> None:
    q.add(conn, [item(f"{tag}{k:04}", world) for k in range(n)])
    if changed:
        conn.execute(t.review_items.update().where(_I.id.like(f"{tag}%")).values(**changed))


def fill(state: State, q: ReviewQueue, n: int) -> None:
    """Put `n` items in each state that a reader's next item could have to be looked for behind."""
    with state.begin() as conn:
        put_many(conn, q, state, "done", n, state="resolved", truth='"good"', source="single")
        put_many(conn, q, state, "dead", n, priority=leases.BEHIND)
        put_many(conn, q, state, "up", n, escalated=1)
        put_many(conn, q, state, "open", n)
        conn.execute(t.judgements.insert(), [judgement(f"done{k:04}", f"r{k % 20}", k) for k in range(n)])


def judgement(item_: str, reader: str, k: int) -> dict[str, Any]:
    return {
        "item": item_, "reader": reader, "role": "reader", "value": '"good"', "regions": "[]", "blind": 1,
        "late": 0, "seconds": 1.0, "at_us": k, "key": f"k{k}",
    }  # fmt: skip


def cost(state: State, work: Callable[[Connection], object]) -> int:
    """Return how many rows PostgreSQL reads for some work, or how many steps SQLite makes; it is rolled back."""
    with state.begin() as conn:
        found = _rows(conn, work) if conn.dialect.name == "postgresql" else _steps(conn, work)
        conn.rollback()
    return found


def _rows(conn: Connection, work: Callable[[Connection], object]) -> int:
    before = int(conn.execute(_READ).scalar() or 0)
    work(conn)
    return int(conn.execute(_READ).scalar() or 0) - before


def _steps(conn: Connection, work: Callable[[Connection], object]) -> int:
    raw: Any = conn.connection.dbapi_connection
    ticks = count()
    raw.set_progress_handler(lambda: 0 * next(ticks), 10)
    work(conn)
    raw.set_progress_handler(None, 0)
    return 10 * next(ticks)


def limit(state: State) -> int:
    return ROWS if state.engine.dialect.name == "postgresql" else STEPS


def giving_costs(state: State, q: ReviewQueue) -> dict[tuple[str, bool], int]:
    def give(conn: Connection, token: str, adjudicator: bool) -> None:
        given = giving.give(
            conn, q._terms, "r3", names=["phones"], tokens=[token, f"{token}x"], now_us=state.now_us(),
            adjudicator=adjudicator,
        )  # fmt: skip
        assert len(given) == 2

    return {
        (token, up): cost(state, lambda conn: give(conn, token, up))  # noqa: B023
        for token in (PLAIN, AGED)
        for up in (False, True)
    }


def test_giving_reads_as_little_from_a_long_queue_as_from_a_short_one(fresh: State) -> None:
    q = queue(fresh)
    fill(fresh, q, MANY)
    costs = giving_costs(fresh, q)
    assert max(costs.values()) <= limit(fresh), costs


def test_counting_reads_each_row_a_few_times(fresh: State) -> None:
    """Without statistics PostgreSQL read 273,000 rows here: it went through the items once more per judgement."""
    q = queue(fresh)
    with fresh.begin() as conn:
        put_many(conn, q, fresh, "i", 500)
    with fresh.begin() as conn:
        conn.execute(t.review_items.update().values(state="resolved", truth='"good"', source="single"))
        conn.execute(t.judgements.insert(), [judgement(f"i{k % 500:04}", f"r{k % 20}", k) for k in range(1200)])
    spent = cost(fresh, lambda conn: counting.count(conn, "phones", now_us=fresh.now_us()))
    assert spent <= (10_000 if fresh.engine.dialect.name == "postgresql" else 200_000)
