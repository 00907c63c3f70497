"""Each action of an alarm once, in the transaction that notes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from controller_world import Worker, World, model, project
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.maintain import trigger
from tenure.monitor import alarms
from tenure.monitor.alarms import Draft
from tenure.scope.project import Automation, EndpointSpec, GateSpec, Retrain, RolloutSpec, Step

STEPS = (Step(share=0.25, min=10_000), Step(share=1.0))
PLAN = RolloutSpec(steps=STEPS, gates=(GateSpec(bad="failed"),))
FULL = Automation(start="full", max="full", errors=0.05)


@pytest.fixture
def world(tmp_path: Path, clock: ManualClock) -> World:
    spec = EndpointSpec(input="image", automation=FULL, rollout=PLAN, retrain=Retrain(command="true"))
    made = World(project(tmp_path, spec), clock)
    made.register("m@1", model())
    made.register("m@2", model())
    made.put_in_force("m@1")
    made.controller.start()
    return made


def fire(world: World, *do: str) -> int:
    draft = Draft(
        endpoint="phones", rule="drift:input", kind="data_drift", metric="brightness", stage="input", version="*",
        message="brightness fell", numbers={"effect": -1.0}, do=do,
    )  # fmt: skip
    with world.state.begin() as conn:
        return alarms.fire(conn, draft, world.state.now_us()).alarm


def done(world: World, alarm: int) -> list[tuple[str, str]]:
    with world.state.read() as conn:
        return [(a["action"], a["detail"]) for a in alarms.get(conn, alarm)["actions"]]


def rollout_state(world: World, number: str) -> str:
    return str(world.services.rollouts.get(number).state)


def test_hold_pauses_the_rollout_once(world: World) -> None:
    number = world.services.rollouts.start("phones", "m@2", by="ann")
    alarm = fire(world, "hold_rollout")
    world.tick(0.2)
    assert rollout_state(world, number) == "paused"
    assert done(world, alarm) == [("hold_rollout", "rollout held")]
    world.services.rollouts.resume(number, by="ann", reason="the lamp was repaired")
    for _ in range(3):
        world.tick(0.2)
    assert rollout_state(world, number) == "running"  # the alarm still fires; its action was done


def test_rollback_reaches_the_table_in_the_same_tick(world: World) -> None:
    number = world.services.rollouts.start("phones", "m@2", by="ann")
    world.tick(0.2)
    before = world.page.routing
    fire(world, "rollback")
    world.tick(0.2)
    assert rollout_state(world, number) == "rolled_back"
    assert world.page.routing == before + 1
    assert world.controller.publisher.table is not None
    route = world.controller.publisher.table.endpoints["phones"]
    assert (route.stable, route.candidate, route.rollout) == ("m@1", None, None)


def test_without_a_rollout_hold_and_rollback_say_so(world: World) -> None:
    alarm = fire(world, "hold_rollout", "rollback")
    world.tick(0.2)
    assert done(world, alarm) == [
        ("hold_rollout", "no rollout was running"),
        ("rollback", "no rollout was running"),
    ]


def test_drop_level_drops_once_and_leaves_people_to_raise_it(world: World) -> None:
    alarm = fire(world, "drop_level")
    world.tick(0.2)
    assert world.services.automation.level("phones").word == "assist"
    ((action, detail),) = done(world, alarm)
    assert (action, detail) == ("drop_level", "level full -> assist; evidence starts anew")
    moves = len(world.rows(t.levels))
    world.tick(0.2)
    assert len(world.rows(t.levels)) == moves


def test_open_retraining_is_asked_for_once(world: World) -> None:
    alarm = fire(world, "open_retraining")
    world.tick(0.2)
    with world.state.read() as conn:
        assert trigger.read(conn, "phones").cause == f"alarm {alarm}: brightness fell"
    with world.state.begin() as conn:
        trigger.settle(conn, "phones")  # a run has begun
    world.tick(0.2)
    with world.state.read() as conn:
        assert trigger.read(conn, "phones").asked is None


def test_an_alarm_that_does_not_fire_does_nothing(world: World) -> None:
    alarm = fire(world, "drop_level")
    alarms.acknowledge(world.state, alarm, "ann")
    world.tick(0.2)
    assert done(world, alarm) == []
    assert world.services.automation.level("phones").word == "full"


@pytest.mark.parametrize("at", ["UPDATE alarms", "INSERT INTO positions", "COMMIT"])
def test_a_crash_between_doing_and_noting_undoes_both(world: World, at: str) -> None:
    number = world.services.rollouts.start("phones", "m@2", by="ann")
    world.tick(0.2)
    alarm, shown = fire(world, "rollback", "drop_level"), world.page.routing
    world.serve(Worker(world), world.cases(3))

    def crash(*told: object) -> None:
        if at == "COMMIT" or str(told[2]).startswith(at):
            raise sa.exc.OperationalError(at, {}, Exception("the machine fails"))

    event = "commit" if at == "COMMIT" else "before_cursor_execute"
    sa.event.listen(world.state.engine, event, crash)
    with pytest.raises(sa.exc.OperationalError):
        world.tick(0.2)
    sa.event.remove(world.state.engine, event, crash)
    assert (rollout_state(world, number), done(world, alarm), world.page.routing) == ("running", [], shown)
    assert world.services.automation.level("phones").word == "full"
    world.restart()
    world.controller.start()
    assert rollout_state(world, number) == "rolled_back"
    assert [action for action, _ in done(world, alarm)] == ["rollback", "drop_level"]
    assert world.page.routing == shown + 1
    ended = world.rows(t.rollout_moves, t.rollout_moves.c.to_state == "rolled_back")
    assert len(ended) == 1
