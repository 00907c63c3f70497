"""Positions and what was made of the frames are one; sealing follows the commit and is never forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from controller_world import Worker, World, model, project
from tenure.clock import ManualClock
from tenure.controller.archive import CONSUMER
from tenure.data import tables as t
from tenure.data.keeper import Keeper
from tenure.data.view import Log
from tenure.scope.project import Automation, EndpointSpec


@pytest.fixture
def world(tmp_path: Path, clock: ManualClock) -> World:
    made = World(project(tmp_path, EndpointSpec(input="image", automation=Automation(max="assist"))), clock)
    made.register("m@1", model())
    made.put_in_force("m@1")
    made.controller.start()
    return made


def positions(world: World) -> dict[str, int]:
    return {row["segment"]: row["offset"] for row in world.rows(t.positions) if row["consumer"] == CONSUMER}


def test_positions_are_where_the_items_end(world: World) -> None:
    worker = Worker(world)
    world.serve(worker, world.cases(3))
    assert positions(world) == {}
    world.tick(0.2)
    (segment,) = positions(world)
    assert positions(world)[segment] == (world.folder / "spool" / f"{segment}.seg").stat().st_size
    assert len(world.rows(t.review_items)) == 3


def test_a_failed_transaction_is_read_again_without_doubling(world: World) -> None:
    worker = Worker(world)
    world.serve(worker, world.cases(3))

    def refuse(conn: sa.Connection, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO positions"):
            raise sa.exc.OperationalError(statement, {}, Exception("the disk is full"))

    sa.event.listen(world.state.engine, "before_cursor_execute", refuse)
    for _ in range(3):
        with pytest.raises(sa.exc.OperationalError):
            world.tick(0.2)
    assert (world.rows(t.review_items), world.rows(t.panes), positions(world)) == ([], [], {})
    sa.event.remove(world.state.engine, "before_cursor_execute", refuse)
    world.serve(worker, world.cases(2))
    world.tick(0.2)
    assert sorted(row["number"] for row in world.rows(t.review_items)) == [1, 2, 3, 4, 5]
    assert sum(row["n"] for row in world.rows(t.panes, t.panes.c.metric == "brightness")) == 5


def test_a_commit_that_was_reported_as_failed_is_not_done_twice(world: World) -> None:
    worker = Worker(world)
    world.serve(worker, world.cases(3))

    def vanish(conn: sa.Connection) -> None:
        conn.connection.commit()  # the database did it; the answer never came
        raise sa.exc.OperationalError("COMMIT", {}, Exception("connection lost"))

    sa.event.listen(world.state.engine, "commit", vanish, once=True)
    with pytest.raises(sa.exc.OperationalError):
        world.tick(0.2)
    world.tick(0.2)
    assert len(world.rows(t.review_items)) == 3
    assert sum(row["n"] for row in world.rows(t.panes, t.panes.c.metric == "brightness")) == 3


def test_only_what_was_committed_is_sealed(world: World) -> None:
    worker = Worker(world)
    world.serve(worker, world.cases(3))
    worker.die()
    assert world.controller.archive.seal() == 0
    world.controller.keeper.poll()
    assert world.controller.archive.seal() == 0  # read, but nothing was made of it yet
    world.controller.archive.rewind()
    world.tick(0.2)
    assert world.controller.archive.seal() == 1
    (file,) = world.rows(t.log_files)
    assert (file["rows"], file["endpoint"]) == (3, "phones")
    world.tick(0.2)
    assert positions(world) == {}  # the segment is gone, and its position with it


def test_a_sealed_file_that_nobody_noted_is_found_at_the_next_start(world: World) -> None:
    worker = Worker(world)
    world.serve(worker, world.cases(3))
    worker.die()
    world.tick(0.2)
    keeper = Keeper(world.folder, world.clock)
    keeper.restore(positions(world))
    keeper.poll()
    assert len(keeper.seal_due(positions(world))) == 1  # and then the controller dies
    assert world.rows(t.log_files) == []
    world.restart()
    world.controller.start()
    (file,) = world.rows(t.log_files)
    assert (world.folder / file["path"]).is_file()
    assert len(world.rows(t.review_items)) == 3


def test_a_sealed_file_is_noted_later_when_the_database_was_away(world: World) -> None:
    worker = Worker(world)
    world.serve(worker, world.cases(3))
    worker.die()
    world.tick(0.2)

    def refuse(conn: sa.Connection, cursor: object, statement: str, *_: object) -> None:
        raise sa.exc.OperationalError(statement, {}, Exception("connection lost"))

    sa.event.listen(world.state.engine, "before_cursor_execute", refuse)
    with pytest.raises(sa.exc.OperationalError):
        world.controller.archive.seal()
    sa.event.remove(world.state.engine, "before_cursor_execute", refuse)
    world.controller.archive.seal()
    assert len(world.rows(t.log_files)) == 1


def test_what_was_sealed_is_still_in_the_log_once(world: World) -> None:
    worker = Worker(world)
    world.serve(worker, world.cases(3))
    worker.die()
    other = Worker(world, 1)
    world.serve(other, world.cases(2))
    world.tick(0.2)
    world.controller.archive.seal()
    counted = Log(world.folder).query("SELECT count(*) AS n, count(DISTINCT (run, seq)) AS ids FROM predictions")
    assert counted.to_pylist() == [{"n": 5, "ids": 5}]
