"""V1-V6 with twenty reader processes at once, some of which die between any two statements, on each database."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import defaultdict
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import postgres
from tenure.clock import SystemClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review import store
from tenure.deploy.review.items import NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.deploy.review.resolve import Resolved, resolve
from tenure.errors import ConflictError
from tenure.scope.project import EndpointSpec, Gold, Output, Review, SecondReader
from tenure.seeds import draw

READERS = 20
FORK = multiprocessing.get_context("fork")
LEASE_S = 1.0
TOO_SHORT_S = 0.05


def spec(lease: float) -> EndpointSpec:
    return EndpointSpec(
        input="image",
        output=Output(labels=("good", "defect")),
        review=Review(lease=lease, second_reader=SecondReader(agreements=0.0), gold=Gold(share=0.2)),
    )


def dies_after(state: State, statements: int) -> None:
    """Kill this process, as a power cut would, before the given statement."""
    left = [statements]

    @sa.event.listens_for(state.engine, "before_cursor_execute")
    def _count(*_: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def read(url: str, number: int, folder: str, dies: int, lease: float, *, busy: Any, done: Any) -> None:
    name = f"r{number}"
    state = State.open(url, SystemClock())
    queue = ReviewQueue(state, {"phones": spec(lease)})
    if dies:
        dies_after(state, dies)
    with open(Path(folder) / name, "a") as receipts:
        while not done.is_set():
            leased = queue.lease(name, n=2, adjudicator=True)
            busy[number] = bool(leased)
            if not leased:
                done.wait(0.05)
            for one in leased:
                value = "defect" if draw(name, one.item) < 0.2 else "good"
                try:
                    got = queue.submit(one.item, reader=name, token=one.token, value=value, key=one.token)
                except ConflictError:
                    continue
                receipts.write(json.dumps([got.judgement, one.item, name, value]) + "\n")
                receipts.flush()


def fill(state: State, items: int, lease: float) -> None:
    queue, now = ReviewQueue(state, {"phones": spec(lease)}), state.now_us()
    with state.begin() as conn:
        queue.add(
            conn,
            [
                NewItem(
                    id=f"i{n:04}", endpoint="phones", kind="uncertain", media_type="image/png", created_us=now,
                    required=1 + n % 2, pending=n % 3 == 0,
                )
                for n in range(items)
            ],
        )  # fmt: skip
    for n in range(0, items, 10):
        queue.add_gold(f"i{n:04}", by="op", truth="good")


def run(url: str, folder: Path, items: int, lease: float) -> State:
    state = State.open(url, SystemClock())
    fill(state, items, lease)
    state.engine.dispose()
    mortal = {n: 8 + 5 * n for n in range(0, READERS, 4)}
    shared = {"busy": FORK.Array("b", READERS, lock=False), "done": FORK.Event()}
    people = [
        FORK.Process(target=read, args=(url, n, str(folder), mortal.get(n, 0), lease), kwargs=shared)
        for n in range(READERS)
    ]
    try:
        for person in people:
            person.start()
        tick(state, people, lease, **shared)
    finally:
        for person in people:
            person.kill()
            person.join()
    codes = [person.exitcode for person in people]
    assert {codes[n] for n in range(READERS) if n not in mortal} == {0}
    assert -signal.SIGKILL in codes
    return state


def tick(state: State, people: list[Any], lease: float, *, busy: Any, done: Any) -> None:
    """Let leases pass, as the controller does, until nothing is open and nobody can reopen it by being late."""
    queue = ReviewQueue(state, {"phones": spec(lease)})
    while alive := {n: person for n, person in enumerate(people) if person.is_alive()}:
        wait([person.sentinel for person in alive.values()], timeout=0.25)
        with state.begin() as conn:
            queue.expire(conn, state.now_us())
        if not queue.counts("phones").open and not any(busy[n] for n in alive):
            done.set()


def check(state: State, folder: Path) -> None:
    review, by_item = spec(LEASE_S).review, defaultdict(list)
    with state.begin() as conn:
        rows = list(conn.execute(sa.select(t.judgements).order_by(t.judgements.c.id)).mappings())
        decisions = {d["id"]: d for d in conn.execute(sa.select(t.decisions)).mappings()}
        items = list(conn.execute(sa.select(t.review_items)).mappings())
        salt = conn.execute(sa.select(t.meta.c.value).where(t.meta.c.key == "review.salt")).scalar_one()
        draws = {d["id"]: d["item"] for d in conn.execute(sa.select(t.gold_draws)).mappings()}
        for row in items:
            standing = resolve(store.case_of(conn, row, review, salt=salt))
            assert isinstance(standing, Resolved)
            assert (row["truth"], row["source"]) == (f'"{standing.truth}"', standing.source)  # V4
    replaced = {row["supersedes"] for row in rows}
    standing_rows = [row for row in rows if row["id"] not in replaced]
    for row in standing_rows:
        by_item[row["item"]].append(row)
    met = [(draws.get(row["item"], row["item"]), row["reader"]) for row in standing_rows]
    assert len(met) == len(set(met))  # V2: nobody judges an item twice, nor as gold what they read otherwise
    for row in items:
        counted = [r for r in by_item[row["id"]] if not r["late"]]
        first = [r for r in counted if r["role"] == "reader"]
        final = [r for r in counted if r["role"] == "adjudicator"]
        assert {r["reader"] for r in first}.isdisjoint(r["reader"] for r in final)  # V2
        assert len(final) <= 1
        assert len(first) <= row["required"]  # V1: never more than were wanted
        assert (row["id"] in decisions) == (row["number"] % 3 == 1)  # V6: exactly one where a client waited
    stored = {row["id"]: [row["id"], row["item"], row["reader"], json.loads(row["value"])] for row in rows}
    for file in folder.iterdir():
        for line in file.read_text().splitlines():
            assert stored[json.loads(line)[0]] == json.loads(line)  # V3: what was confirmed is there, unchanged
    assert {row["item"] for row in rows} <= {row["id"] for row in items} | draws.keys()
    assert draws.keys().isdisjoint(decisions)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    return postgres.new_database(request.getfixturevalue("postgres_url"))


@pytest.mark.parametrize(
    ("items", "lease"),
    [
        (60, LEASE_S),
        pytest.param(
            1500, LEASE_S, marks=[pytest.mark.slow, pytest.mark.timeout(900)]
        ),  # a minute on a quiet machine
        pytest.param(200, TOO_SHORT_S, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_invariants_hold_with_twenty_processes_of_which_some_die(
    url: str, tmp_path: Path, items: int, lease: float
) -> None:
    folder = tmp_path / "receipts"
    folder.mkdir()
    state = run(url, folder, items, lease)
    try:
        check(state, folder)
    finally:
        state.close()
