"""Harm that the total does not show: on one line only, or in how sure the answers are; on the real controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller_world import Case, Model, Worker, World, model, project
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.scope.project import Audit, Automation, EndpointSpec, GateSpec, RolloutSpec, SliceSpec, Step
from tenure.types import Failed, Prediction

LINES = ("line 1", "line 2", "line 3", "line 4")
STEPS = (Step(share=0.25, min=100_000), Step(share=1.0))
SURE = GateSpec(mean="confidence", harm="down", cap=1.0, margin=0.05)


def failing(base: Model, where: dict[str | None, float]) -> Model:
    """Return a model that fails this share of the cases of some lines; `hardness` is the luck."""

    def predict(case: Case) -> Prediction | Failed:
        if (case.hardness * 997) % 1.0 < where.get(case.unit, 0.0):
            return Failed("no answer")
        return base(case)

    return predict


def unsure(base: Model, less: float) -> Model:
    def predict(case: Case) -> Prediction | Failed:
        said = base(case)
        assert isinstance(said, Prediction)
        return Prediction(said.value, (said.confidence or 0.0) - less)

    return predict


def world(folder: Path, plan: RolloutSpec, candidate: Model, stable: Model) -> World:
    spec = EndpointSpec(
        input="image", rollout=plan, automation=Automation(start="full", max="full", audit=Audit(rollout=0.0))
    )
    made = World(project(folder, spec), ManualClock())
    made.register("m@1", stable)
    made.register("m@2", candidate)
    made.put_in_force("m@1")
    made.controller.start()
    made.services.rollouts.start("phones", "m@2", by="ann")
    made.tick(0.2)
    return made


def play(made: World, *, seconds: int, per_second: int = 100) -> dict[str, Any]:
    """Let photos of four lines come until the rollout ends or time is over; returns its row."""
    worker = Worker(made)
    for second in range(seconds):
        photos = made.cases(per_second)
        cases = [Case(c.truth, c.hardness, c.light, LINES[i % 4]) for i, c in enumerate(photos)]
        made.serve(worker, cases)
        made.tick(1.0)
        if second % 7 == 3:  # the controller dies and another one goes on
            made.restart()
            made.controller.start()
        (row,) = made.rows(t.rollouts)
        if row["state"] != "running":
            break
    return row


@pytest.mark.parametrize("slices", [(), (SliceSpec(by="unit", values=LINES),), (SliceSpec(by="unit", each=4),)])
def test_harm_on_one_line_is_caught_and_named(tmp_path: Path, slices: tuple[SliceSpec, ...]) -> None:
    """v2 mends three lines and breaks the fourth: in total as many fail as before."""
    plan = RolloutSpec(steps=STEPS, gates=(GateSpec(bad="failed"),), slices=slices)
    stable = failing(model(), dict.fromkeys(LINES, 0.08))
    candidate = failing(model(), {"line 1": 0.03, "line 2": 0.03, "line 3": 0.26})
    made = world(tmp_path, plan, candidate, stable)
    row = play(made, seconds=25)
    if not slices:
        assert row["state"] == "running"
        return
    assert row["state"] == "rolled_back"
    assert row["reason"].startswith("where unit=line 3: ")
    made.tick(0.2)
    told = made.services.rollouts.describe(row["id"])
    assert any(e["gate"] == "failed @ unit=line 3" for e in told["evidence"])
    last = {v["gate"]: v["outcome"] for v in told["verdicts"]}
    assert (last["failed @ unit=line 3"], last["failed"]) == ("fail", "pass")


@pytest.mark.parametrize(("less", "state"), [(0.0, "running"), (0.06, "rolled_back")])
def test_a_version_that_is_less_sure_is_caught(tmp_path: Path, less: float, state: str) -> None:
    """Every answer is right and in time, so that no counted gate says anything."""
    plan = RolloutSpec(steps=STEPS, gates=(GateSpec(bad="failed"), SURE))
    made = world(tmp_path, plan, unsure(model(), less), model())
    row = play(made, seconds=32)
    assert row["state"] == state
    told = made.services.rollouts.describe(row["id"])
    total = sum(int(m["sums"]["n"]) for m in told["means"])
    requests = sum(e["n1"] + e["n0"] for e in told["evidence"] if e["gate"] == "requests")
    assert requests - 1100 <= total <= requests  # as at the last fixed time, and nothing twice after the restarts
    if less:
        assert row["reason"].startswith("mean confidence 0.")
        assert "about 95 %" in row["reason"]
