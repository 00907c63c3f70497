"""Training by itself: only where the project says so, on enough labels, or on an alarm and labels after it."""

from __future__ import annotations

from maintain_world import World

from tenure.maintain import runs, trigger
from tenure.maintain.retrain import Retrainer


def due(world: World, retrainer: Retrainer) -> str | None:
    with world.state.read() as conn:
        return retrainer.due(conn, "phones", world.state.now_us())


def ask(world: World, retrainer: Retrainer, cause: str = "alarm 7: darker") -> None:
    with world.state.begin() as conn:
        retrainer.request(conn, "phones", cause)


def test_enough_new_labels_are_a_cause_once(world: World) -> None:
    retrainer = world.retrainer("exit 1", auto_train=True, min_labels=20)
    world.judged(19)
    assert due(world, retrainer) is None
    world.judged(1, start=19)
    assert due(world, retrainer) == "20 new labels"
    retrainer.run("phones", "20 new labels", "tenure")
    assert due(world, retrainer) is None  # a failed run is not repeated on the same labels
    world.judged(20, start=20)
    assert due(world, retrainer) == "20 new labels"


def test_without_the_switch_nothing_is_due(world: World) -> None:
    retrainer = world.retrainer(min_labels=5)
    world.judged(50)
    ask(world, retrainer)
    assert due(world, retrainer) is None


def test_an_alarm_needs_a_tenth_of_the_labels_and_newer_ones(world: World) -> None:
    retrainer = world.retrainer("exit 1", auto_train=True, min_labels=100)
    world.judged(90)
    ask(world, retrainer)
    assert due(world, retrainer) is None
    world.judged(9, start=90)
    assert due(world, retrainer) is None
    ask(world, retrainer, "alarm 8: darker still")  # the first request stands, and its count goes on
    world.judged(1, start=99)
    assert due(world, retrainer) == "alarm 7: darker"
    retrainer.run("phones", "alarm", "tenure")
    world.judged(50, start=100)
    assert due(world, retrainer) is None  # the request was answered


def test_the_cause_tells_how_many_labels_came_since_the_alarm(world: World) -> None:
    retrainer = world.retrainer(auto_train=True, min_labels=100)
    ask(world, retrainer)
    world.judged(10)
    assert due(world, retrainer) == "alarm 7: darker (10 labels since then)"


def test_a_run_that_goes_is_not_joined_by_another(world: World) -> None:
    retrainer = world.retrainer(auto_train=True, min_labels=5)
    world.judged(50)
    with world.state.begin() as conn:
        runs.open_run(conn, "r1", endpoint="phones", cause="asked", now_us=1)
    assert due(world, retrainer) is None


def test_counting_new_labels_walks_only_the_new_ones(world: World) -> None:
    world.judged(5)
    query = trigger._counting("phones", 3)
    text = str(query.compile(world.state.engine, compile_kwargs={"literal_binds": True}))
    with world.state.read() as conn:
        assert conn.execute(query).scalar() == 2
        plan = " ".join(row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
    assert "INDEX ix_review_resolution (resolution>?)" in plan
