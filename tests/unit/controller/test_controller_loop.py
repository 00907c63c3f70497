"""The tick: all or nothing, decisions once, and a command's effect at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from controller_world import Worker, World, model, project
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.scope.project import (
    Audit,
    Automation,
    EndpointSpec,
    Fallback,
    GateSpec,
    Monitor,
    RolloutSpec,
    Serve,
    Step,
    Threshold,
)

STEPS = (Step(share=0.5, min=5), Step(share=1.0))
PLAN = RolloutSpec(steps=STEPS, gates=(GateSpec(bad="wrong_decision"), GateSpec(bad="failed")))
WATCH = Monitor(
    pane=1.0, reference=3, thresholds=(Threshold(metric="brightness", below=200.0, do=("drop_level",)),)
)


def world(folder: Path, clock: ManualClock, *, start: str = "human_only", **more: Any) -> World:
    automation = Automation(start=start, max="full", errors=0.05, audit=Audit(steady=1.0, rollout=1.0))  # type: ignore[arg-type]
    serve = Serve(on_timeout=Fallback(decide="defect", after=30.0))
    spec = EndpointSpec(input="image", serve=serve, automation=automation, **more)
    made = World(project(folder, spec), clock)
    made.register("m@1", model())
    made.register("m@2", model())
    made.put_in_force("m@1")
    made.controller.start()
    return made


class Fault:
    """Lets the n-th write of a database fail, as a full disk or a lost connection does."""

    def __init__(self, engine: sa.Engine, at: int) -> None:
        self._engine, self._left = engine, at
        self.seen = 0

    def __enter__(self) -> Fault:
        sa.event.listen(self._engine, "before_cursor_execute", self._strike)
        return self

    def __exit__(self, *_: object) -> None:
        sa.event.remove(self._engine, "before_cursor_execute", self._strike)

    def _strike(self, conn: Any, cursor: Any, statement: str, *_: object) -> None:
        if not statement.startswith(("INSERT", "UPDATE", "DELETE")):
            return
        self.seen += 1
        if self.seen == self._left:
            raise sa.exc.OperationalError(statement, {}, Exception("the disk is full"))


CONTROLLED = (
    t.review_items, t.item_predictions, t.evidence, t.verdicts, t.rollouts, t.rollout_moves,
    t.levels, t.alarms, t.panes, t.decisions, t.positions, t.policies, t.routing_tables, t.detectors,
)  # fmt: skip
RANDOM = {"id", "salt", "segment", "body", "token", "key", "rollout", "item", "numbers", "cause", "reason"}


def story(folder: Path, *, strike: int) -> tuple[dict[str, Any], int]:
    """Let a tick with all kinds of work fail at its `strike`-th write; return what came of it, and the writes."""
    clock = ManualClock()
    made = world(folder, clock, start="full", rollout=PLAN, monitor=WATCH)
    worker = Worker(made)
    made.serve(worker, made.cases(20))
    made.tick(0.2)
    made.services.rollouts.start("phones", "m@2", by="ann")
    made.controller.react()
    made.serve(worker, made.cases(30))
    made.tick(0.2)
    made.judge()
    made.serve(worker, made.cases(30))
    clock.advance(3.0)
    with Fault(made.state.engine, strike) as fault:
        try:
            made.controller.tick()
        except sa.exc.OperationalError:
            assert 0 < strike <= fault.seen
    made.controller.tick()
    made.tick(1.0)
    tables = {table.name: [_plain(row) for row in made.rows(table)] for table in CONTROLLED}
    tables["panes"] = [row for row in tables["panes"] if row["stage"] != "software"]  # sampled, not logged
    return tables, fault.seen


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in RANDOM}


def test_a_tick_that_fails_at_any_write_is_done_again_without_loss_or_double(tmp_path: Path) -> None:
    whole, writes = story(tmp_path / "whole", strike=0)
    assert writes > 20
    counts = {name: len(rows) for name, rows in whole.items()}
    assert counts["rollout_moves"] >= 2
    assert counts["alarms"] == 1
    for strike in range(1, writes + 1, 3):
        again, _ = story(tmp_path / str(strike), strike=strike)
        assert {name: len(rows) for name, rows in again.items()} == counts, strike
        assert _sums(again) == _sums(whole), strike


def _sums(tables: dict[str, Any]) -> dict[str, Any]:
    """Return what must be the same whatever the draws were: how much was counted, and where things stand."""
    evidence = sum(row["n1"] + row["n0"] for row in tables["evidence"] if row["gate"] == "requests")
    panes = sorted(
        (row["metric"], row["pane_us"], row["n"]) for row in tables["panes"] if row["stage"] == "input"
    )
    levels = [(row["from_level"], row["to_level"], row["author"]) for row in tables["levels"]]
    moves = [(row["from_state"], row["to_state"], row["to_step"]) for row in tables["rollout_moves"]]
    return {"evidence": evidence, "panes": panes, "levels": levels, "moves": moves}


def test_a_persons_decision_is_delivered_once(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock)
    worker = Worker(made)
    (id_,) = made.serve(worker, made.cases(1))
    made.tick(0.2)
    made.judge(["ann"])
    for _ in range(3):
        made.tick(0.2)
    made.restart()
    made.controller.start()
    assert list(made.decisions()) == [(id_, "person", made.truths[id_])]


def test_the_fallback_of_a_living_worker_is_left_to_it(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock)
    made.serve(Worker(made), made.cases(2))
    made.tick(0.2)
    made.tick(31)
    made.tick(3)
    assert [(row["by"], row["logged"]) for row in made.rows(t.decisions)] == [("fallback", 1)] * 2
    assert list(made.decisions()) == []


@pytest.mark.parametrize("away", [0.0, 86_400.0])
def test_the_fallback_of_a_dead_worker_is_written_once(tmp_path: Path, clock: ManualClock, away: float) -> None:
    made = world(tmp_path, clock)
    worker = Worker(made)
    (id_,) = made.serve(worker, made.cases(1))
    made.tick(0.2)
    worker.die()
    clock.advance(away)  # the controller was dead, too
    made.restart()
    made.controller.start()
    made.tick(31)
    for _ in range(3):
        made.tick(3)
    made.restart()
    made.controller.start()
    made.tick(3)
    assert list(made.decisions()) == [(id_, "fallback", "defect")]


def test_react_publishes_at_once_without_reading_the_log(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock, start="full", rollout=PLAN)
    worker = Worker(made)
    number = made.services.rollouts.start("phones", "m@2", by="ann")
    made.controller.react()
    shown = made.page.routing
    assert made.controller.publisher.table is not None
    assert made.controller.publisher.table.endpoints["phones"].candidate == "m@2"
    made.serve(worker, made.cases(10))
    made.services.rollouts.rollback(number, by="ann", reason="looks wrong")
    made.controller.react()
    assert made.page.routing == shown + 1
    assert made.controller.publisher.table.endpoints["phones"].candidate is None
    assert made.rows(t.review_items) == []
    made.serve(worker, made.cases(1))
    assert worker.table is not None
    assert worker.table.version == shown + 1


def test_a_react_that_fails_leaves_the_command_to_the_next_tick(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock, start="full", rollout=PLAN)
    shown = made.page.routing
    number = made.services.rollouts.start("phones", "m@2", by="ann")
    with Fault(made.state.engine, 1):
        made.controller.react()
    assert made.page.routing == shown
    made.tick(0.2)
    assert made.page.routing == shown + 1
    assert made.services.rollouts.get(number).state == "running"
    assert [row["version"] for row in made.rows(t.routing_tables)] == list(range(1, shown + 2))


def test_ticks_and_commands_from_two_threads_agree(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock, start="full", rollout=PLAN)
    worker = Worker(made)
    faults: list[BaseException] = []

    def command() -> None:
        try:
            for _ in range(5):
                number = made.services.rollouts.start("phones", "m@2", by="ann")
                made.controller.react()
                made.services.rollouts.cancel(number, by="ann")
                made.controller.react()
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=command)
    thread.start()
    while thread.is_alive():
        made.serve(worker, made.cases(2))
        made.controller.tick()
    thread.join()
    made.tick(0.2)
    assert faults == []
    numbers = [row["version"] for row in made.rows(t.routing_tables)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert made.page.routing == numbers[-1]
    made.serve(worker, made.cases(1))
    assert worker.table is not None
    assert worker.table.endpoints["phones"].candidate is None


def test_run_outlives_a_fault_and_stops_when_told(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock)
    ids = made.serve(Worker(made), made.cases(3))
    with Fault(made.state.engine, 1) as fault:
        thread = threading.Thread(target=made.controller.run)
        thread.start()
        while len(made.rows(t.review_items)) < 3:
            made.controller.wake()
        made.controller.stop()
        thread.join()
    assert fault.seen > 1
    assert sorted(row["id"] for row in made.rows(t.review_items)) == sorted(ids)


def test_two_endpoints_get_routes_of_their_own(tmp_path: Path, clock: ManualClock) -> None:
    spec = EndpointSpec(input="image", automation=Automation(start="assist", max="assist"))
    made = World(project(tmp_path, spec, spec), clock)
    made.register("m@1", model())
    made.register("k@1", model(), "tablets")
    made.put_in_force("m@1")
    made.put_in_force("k@1", "tablets")
    made.controller.start()
    assert made.controller.publisher.table is not None
    routes = made.controller.publisher.table.endpoints
    assert {name: route.stable for name, route in routes.items()} == {"phones": "m@1", "tablets": "k@1"}
    assert routes["phones"].policy.salt != routes["tablets"].policy.salt


def test_no_worker_sees_a_table_before_it_sees_the_controller(tmp_path: Path, clock: ManualClock) -> None:
    """Else the first requests at `partial` or `full` would go to people, as without a controller."""
    spec = EndpointSpec(input="image", automation=Automation(start="full", max="full", errors=0.05))
    made = World(project(tmp_path, spec), clock)
    (made.folder / "routing").rmdir()
    (made.folder / "routing").write_text("a file where the folder should be")
    with pytest.raises(OSError):
        made.controller.start()
    assert made.page.routing == 0
    assert made.page.controller_ns == clock.now_ns()
