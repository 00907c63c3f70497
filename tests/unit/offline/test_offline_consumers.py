"""Who reads the rows of a batch, and as what: reviews, rollouts, panes, retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from offline_world import World, customers, parquet, parts

from tenure import system
from tenure.controller.loop import Controller
from tenure.data import tables as t
from tenure.data.keeper import Keeper
from tenure.data.records import By, Flag
from tenure.data.view import Log
from tenure.deploy.rollout import observed
from tenure.deploy.rollout.advance import Rollout
from tenure.deploy.rollout.plan import Plan
from tenure.deploy.serving.control_page import ControlPage
from tenure.monitor.measure import measure, rows_of
from tenure.scope.project import Step
from tenure.settings import Settings
from tenure.types import Level


def controller(world: World) -> tuple[Controller, Any]:
    ControlPage.create(world.folder / "control.page", workers=1)
    made, services = system.control(world.project, world.folder, clock=world.clock, settings=Settings())
    made.start()
    return made, services


def drain(made: Controller, world: World) -> None:
    while made.tick():
        pass
    world.clock.advance(1)
    made.tick()


def items(world: World) -> list[dict[str, Any]]:
    with world.state.read() as conn:
        query = sa.select(t.review_items).order_by(t.review_items.c.number)
        return [dict(row) for row in conn.execute(query).mappings()]


def test_undecided_rows_become_review_items_and_peoples_decisions_reach_the_log(
    world: World, tmp_path: Path
) -> None:
    made, services = controller(world)
    world.level(Level.ASSIST)
    world.score(parquet(tmp_path / "day.parquet", customers(30)), tmp_path / "out")
    drain(made, world)
    found, rows = items(world), parts(tmp_path / "out")
    assert [i["id"] for i in found] == [r["id"] for r in rows]
    assert {(i["pending"], i["priority"], i["rollout"], i["deadline_us"]) for i in found} == {(1, -1.0, None, 0)}
    (lease,) = services.queue.lease("ann", n=1)
    world.clock.advance(3)
    services.queue.submit(lease.item, reader="ann", token=lease.token, value="leaves", key="k1", seconds=2.0)
    drain(made, world)
    log = Log(world.folder)
    decided = log.query('SELECT seq, label, "by" FROM decisions').to_pylist()
    log.close()
    row = next(r for r in rows if r["id"] == lease.item)
    assert decided == [{"seq": row["row"] + 1, "label": "leaves", "by": By.PERSON.name.lower()}]


def test_predictions_alone_and_rows_without_review_are_no_items(world: World, tmp_path: Path) -> None:
    made, _ = controller(world)
    source = parquet(tmp_path / "day.parquet", customers(30))
    world.score(source, tmp_path / "human-only")
    world.level(Level.ASSIST)
    world.score(source, tmp_path / "predict", predict_only=True)
    world.score(source, tmp_path / "unreviewed", review=False)
    drain(made, world)
    assert items(world) == []


def frames(world: World) -> list[Any]:
    keeper = Keeper(world.folder, world.clock)
    found = [read.frame for read in keeper.poll()]
    keeper.close()
    return found


@pytest.mark.parametrize("step", [Step(shadow=1.0, min=10), Step(share=1.0)])
def test_a_rollout_does_not_count_them(step: Step, world: World, tmp_path: Path) -> None:
    world.score(parquet(tmp_path / "day.parquet", customers(30)), tmp_path / "out")
    rows = rows_of(frames(world))
    rollout = Rollout(
        id="r1", endpoint="churn", candidate="churn@22222222", stable=world.version(),
        plan=Plan(steps=(step,), gates=()), step=0, step_started_us=0,
        state="running", salt="s", attempt=1, reason="", created_us=0, updated_us=0, created_by="t",
        evidence_key="k",
    )  # fmt: skip
    assert observed.observed("churn", rollout, rows.columns, rows.versions).requests == (0, 0)
    online = dict(rows.columns) | {"flags": np.zeros(30, np.uint16)}
    if step.shadow is not None:
        assert observed.observed("churn", rollout, online, rows.versions).requests == (0, 30)


def test_panes_hold_their_inputs_and_answers_but_no_latency(world: World, tmp_path: Path) -> None:
    bad = customers(30)
    bad[0]["age"] = 130
    world.score(parquet(tmp_path / "day.parquet", bad), tmp_path / "out")
    found = {
        (cell.stage, cell.metric): profile
        for cell, profile in measure(rows_of(frames(world)), pane_us=60_000_000, output=None).items()
    }
    assert found["input", "field:age"].n == 29
    assert found["output", "confidence"].n == 29
    assert found["software", "error_share"].mean == pytest.approx(1 / 30)
    assert found["churn", "time_ms"].n == 29
    assert {metric for stage, metric in found if stage == "software"} == {"error_share"}
    assert found["output", "automated"].rows == 0


def test_the_flag_is_a_column_of_the_log(world: World, tmp_path: Path) -> None:
    world.score(parquet(tmp_path / "day.parquet", customers(5)), tmp_path / "out")
    assert [row["batch"] for row in world.logged("batch, seq")] == [True] * 5
    assert Flag.BATCH == 128
