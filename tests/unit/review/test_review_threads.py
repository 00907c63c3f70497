"""Twenty readers at once on each database: no item twice in one slot, no decision twice, nothing lost."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
from review_world import endpoint, item, judge, put, queue, said

from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review.queue import ReviewQueue

READERS = 20
ITEMS = 60


def work(q: ReviewQueue, name: str, start: threading.Barrier) -> list[str]:
    start.wait()
    read = []
    while leased := q.lease(name, n=2):
        for one in leased:
            judge(q, one, name, "good")
            read.append(one.item)
    return read


def fill(state: State, q: ReviewQueue, model: str) -> None:
    items = [item(f"i{n:02}", state, pending=True) for n in range(ITEMS)]
    put(state, q, *items, preds=tuple(said(i.id, model) for i in items))


def run(q: ReviewQueue) -> list[list[str]]:
    start = threading.Barrier(READERS)
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda n: work(q, f"r{n}", start), range(READERS)))


def test_each_item_is_judged_once_where_one_reader_suffices(any_state: State) -> None:
    q = queue(any_state)
    fill(any_state, q, "good")
    read = Counter(i for mine in run(q) for i in mine)
    assert read == Counter({f"i{n:02}": 1 for n in range(ITEMS)})
    truths = q.resolved(0)
    assert [x.resolution for x in truths] == list(range(1, ITEMS + 1))


def test_two_readers_each_and_one_decision_each(any_state: State) -> None:
    q = queue(any_state, endpoint(readers=2))
    fill(any_state, q, "defect")
    run(q)
    with any_state.begin() as conn:
        pairs = conn.execute(sa.select(t.judgements.c.item, t.judgements.c.reader)).all()
        decided = conn.execute(sa.select(t.decisions.c.id)).scalars().all()
        left = conn.execute(sa.select(sa.func.count()).select_from(t.leases)).scalar_one()
    assert Counter(p.item for p in pairs) == Counter({f"i{n:02}": 2 for n in range(ITEMS)})
    assert len(set(pairs)) == 2 * ITEMS  # V2
    assert sorted(decided) == [f"i{n:02}" for n in range(ITEMS)]  # V6
    assert left == 0


def test_all_readers_ask_for_the_same_few_items(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, *(item(f"i{n}", any_state) for n in range(5)))
    start = threading.Barrier(READERS)

    def grab(n: int) -> list[str]:
        start.wait()
        return [x.item for x in q.lease(f"r{n}", n=3)]

    with ThreadPoolExecutor(READERS) as pool:
        got = [i for mine in pool.map(grab, range(READERS)) for i in mine]
    assert len(got) == len(set(got))  # V1: at most one live lease per wanted judgement
    rest = [i for n in range(READERS, READERS + 5) for i in [x.item for x in q.lease(f"r{n}", n=3)]]
    assert sorted(got + rest) == [f"i{n}" for n in range(5)]
