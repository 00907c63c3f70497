"""Reactions that a worker logged reach the evidence of a rollout through the controller."""

from __future__ import annotations

from pathlib import Path

from controller_world import Worker, World, model, project
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.scope.project import Automation, EndpointSpec, GateSpec, RolloutSpec, Step

PLAN = RolloutSpec(
    steps=(Step(share=0.5, min=10_000), Step(share=1.0)), gates=(GateSpec(bad="reaction:redo", maturity=60.0),)
)


def test_logged_reactions_are_counted_by_version(tmp_path: Path, clock: ManualClock) -> None:
    automation = Automation(start="full", max="full", errors=0.05)
    made = World(project(tmp_path, EndpointSpec(input="image", automation=automation, rollout=PLAN)), clock)
    made.register("m@1", model())
    made.register("m@2", model())
    made.put_in_force("m@1")
    made.controller.start()
    made.services.rollouts.start("phones", "m@2", by="ann")
    worker = Worker(made)
    made.tick(0.2)
    made.serve(worker, made.cases(60))
    answered = made.answered[-60:]
    made.tick(0.2)
    for answer in answered[:20]:
        worker.feedback(answer.id, None, kind="redo")
    worker.feedback(answered[30].id, None, kind="like")
    made.tick(0.2)
    counted = t.evidence.c.gate == "reaction:redo"
    assert made.rows(t.evidence, counted) == []
    made.tick(80.0)
    made.serve(worker, made.cases(1))
    made.tick(0.2)
    (row,) = made.rows(t.evidence, counted)
    new = [a.version == "m@2" for a in answered]
    assert (row["x1"], row["x0"]) == (sum(new[:20]), 20 - sum(new[:20]))
    assert (row["n1"], row["n0"]) == (sum(new), 60 - sum(new))
