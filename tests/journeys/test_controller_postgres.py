"""The control plane on PostgreSQL: the story on a manual clock, and a real server from request to decision."""

from __future__ import annotations

import importlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import postgres
from controller_story import Story
from controller_world import Worker, World, model, project
from tenure import system
from tenure.clock import ManualClock, SystemClock
from tenure.data import tables as t
from tenure.data.state import State, verify_audit
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.plan import Plan
from tenure.model.registry import Registry
from tenure.scope.project import (
    Automation,
    EndpointSpec,
    Fallback,
    Field,
    GateSpec,
    Output,
    Project,
    RolloutSpec,
    Scope,
    Serve,
    Server,
    Step,
)
from tenure.types import Level

pytestmark = pytest.mark.postgres

STEPS = (Step(share=0.25, min=100_000), Step(share=0.5, min=100_000), Step(share=1.0))
ROLLOUT = RolloutSpec(steps=STEPS, gates=(GateSpec(bad="failed"),))


def test_the_story_is_the_same_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    Story(tmp_path, state=postgres.new_database(postgres_url)).play_to_the_dark()


def test_an_operators_word_is_not_overwritten_by_a_tick(tmp_path: Path, postgres_url: str) -> None:
    """An operator rolls back from another process while a tick is about to advance the rollout."""
    spec = EndpointSpec(input="image", automation=Automation(start="assist", max="assist"))
    url = postgres.new_database(postgres_url)
    world = World(project(tmp_path, spec, state=url), ManualClock())
    for version in ("m@1", "m@2"):
        world.register(version, model())
    world.put_in_force("m@1")
    world.controller.start()
    plan = Plan(steps=(Step(share=0.5), Step(share=1.0)))
    rollouts = world.services.rollouts
    number = rollouts.start("phones", "m@2", by="olga", plan=plan)
    elsewhere = Rollouts(State.open(url, world.clock), world.project.endpoints)
    command = threading.Thread(target=lambda: elsewhere.rollback(number, by="olga"))

    def between(conn: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE rollouts") and not command.ident:
            command.start()
            command.join(timeout=0.5)  # it has to wait for us; without a lock it would be done by now

    sa.event.listen(world.state.engine, "before_cursor_execute", between)
    world.controller.tick()
    sa.event.remove(world.state.engine, "before_cursor_execute", between)
    assert command.ident
    command.join()
    elsewhere.state.close()
    world.controller.tick()
    assert rollouts.get(number).state == "rolled_back"
    moves = [(row["from_state"], row["to_state"], row["author"]) for row in world.rows(t.rollout_moves)]
    assert moves == [
        ("draft", "running", "olga"),
        ("running", "running", "tenure"),
        ("running", "rolled_back", "olga"),
    ]
    with world.state.read() as conn:
        assert verify_audit(conn) is None


def test_commands_and_ticks_from_many_threads_never_block_each_other_for_good(
    tmp_path: Path, postgres_url: str
) -> None:
    automation = Automation(start="assist", max="partial", errors=0.1)
    spec = EndpointSpec(input="image", automation=automation, rollout=ROLLOUT)
    world = World(project(tmp_path, spec, state=postgres.new_database(postgres_url)), ManualClock())
    for version in ("m@1", "m@2"):
        world.register(version, model())
    world.put_in_force("m@1")
    world.controller.start()
    worker, services = Worker(world), world.services
    faults: list[BaseException] = []

    def operate() -> None:
        for _ in range(5):
            number = services.rollouts.start("phones", "m@2", by="olga")
            world.controller.react()
            services.rollouts.rollback(number, by="olga")
            world.controller.react()

    def lower() -> None:
        services.automation.request("phones", Level.HUMAN_ONLY, "olga", approve=False)
        for _ in range(5):
            services.automation.request("phones", Level.SHADOW, "olga", approve=True)
            services.automation.request("phones", Level.HUMAN_ONLY, "olga", approve=False)

    def review() -> None:
        for _ in range(5):
            world.judge(["ann"], n=20)

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (operate, lower, review)]
    world.serve(worker, world.cases(60))
    world.controller.tick()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        world.serve(worker, world.cases(5))
        world.controller.tick()
    assert faults == []
    assert services.automation.level("phones") == Level.HUMAN_ONLY
    with world.state.read() as conn:
        assert verify_audit(conn) is None


MODEL = """
from tenure.types import Prediction


def predict(rows):
    return [Prediction("big" if row["a"] > 1 else "small", 0.97) for row in rows]
"""


def call(url: str, path: str, data: Any = None, *, method: str | None = None) -> tuple[int, Any]:
    body = None if data is None else json.dumps(data).encode()
    headers = {"content-type": "application/json", "x-tenure-console": "1"}
    request = urllib.request.Request(url + path, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_real_server_decides_by_people_over_postgresql(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database(postgres_url)
    spec = EndpointSpec(
        input="record",
        fields={"a": Field(type="float")},
        serve=Serve(on_timeout=Fallback(decide="small", after=60.0)),
        automation=Automation(max="assist"),
    )
    made = Project(
        project="t",
        root=str(tmp_path),
        scope=Scope(y=Output(labels=("big", "small"))),
        server=Server(port=0, console_port=0, workers=2, state=url),
        endpoints={"e": spec},
    )
    ready = system.resolved(made)
    system.prepare(ready.folder())
    state = State.open(url, SystemClock())
    registry = Registry(state, ready.folder())
    (tmp_path / "sizes.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    predict = importlib.import_module("sizes").predict
    version = registry.register("e", predict, spec=ready.endpoints["e"], output=made.scope.y, sample={"a": 2.0})
    with state.begin() as conn:
        Rollouts(state, ready.endpoints).set_stable(conn, "e", version, "olga")
    with system.Server(made, open_loopback=True) as server:
        ids = []
        for number in range(20):
            status, answer = call(server.url, "/v1/e/predict", {"a": float(number % 3)})
            assert (status, answer["status"]) == (202, "pending")
            ids.append(answer["id"])
        waiting = set(ids)
        while waiting:
            status, leased = call(server.console_url, "/api/reviews/lease?n=10", {})
            assert status == 200, leased
            entries = [
                {
                    "item": one["item"],
                    "token": one["token"],
                    "value": "big" if one["record"]["a"] > 1 else "small",
                    "key": one["token"],
                }
                for one in leased["items"]
            ]
            if entries:
                _, told = call(server.console_url, "/api/reviews/judgements", {"judgements": entries})
                assert all("judgement" in one for one in told["results"]), told
            waiting -= {one["item"] for one in entries}
        for number, id_ in enumerate(ids):
            _, answer = call(server.url, f"/v1/decisions/{id_}?wait=60")
            wanted = "big" if number % 3 > 1 else "small"
            assert (answer["status"], answer["decision"]["by"], answer["decision"]["value"]) == (
                "decided", "person", wanted,
            )  # fmt: skip
    with state.read() as conn:
        logged = conn.execute(sa.select(t.decisions.c.logged)).scalars().all()
        assert logged == [1] * 20
    state.close()
