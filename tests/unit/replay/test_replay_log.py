"""The replay of a log that a real controller, router and journal wrote, live and sealed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller_world import Case, Worker, World, model, project
from tenure.cli import replay as command
from tenure.cli.office import Office
from tenure.clock import ManualClock
from tenure.data.view import Log
from tenure.deploy.replay import rows
from tenure.deploy.replay.items import items
from tenure.deploy.replay.replay import replay
from tenure.deploy.replay.traffic import NEVER, Traffic
from tenure.deploy.rollout.plan import WRONG, Plan
from tenure.errors import CaseError, ProjectError
from tenure.scope.project import Audit, Automation, EndpointSpec, GateSpec, RolloutSpec, SliceSpec, Step
from tenure.types import Failed, Prediction

GATES = (GateSpec(bad="failed"), GateSpec(bad=WRONG))
LOGGED = RolloutSpec(steps=(Step(shadow=1.0, min=200), Step(share=0.3, min=100_000), Step(share=1.0)))
"""Without gates: it goes on whatever happens, as other tools would."""


def breaking(case: Case) -> Prediction | Failed:
    """Fail the hardest fifth."""
    return Failed("too hard", "ValueError") if case.hardness > 0.8 else model()(case)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A rollout as it was: 200 requests in shadow, then 30 % of 900, of which the candidate fails some."""
    automation = Automation(start="full", max="full", audit=Audit(steady=1.0, rollout=1.0))
    spec = EndpointSpec(input="image", automation=automation, rollout=LOGGED)
    made = World(project(tmp_path_factory.mktemp("replay"), spec), ManualClock())
    made.register("m@1", model())
    made.register("m@2", model(wrong_above=0.9))
    made.put_in_force("m@1")
    made.controller.start()
    with pytest.MonkeyPatch.context() as fixed:  # who gets which version is drawn by these: the same each time
        for module in ("serving.predict.journal", "rollout.starting"):
            fixed.setattr(f"tenure.deploy.{module}.fresh_u64", lambda: 20_240_607)
        worker = Worker(made)
        made.services.rollouts.start("phones", "m@2", by="ann")
    made.controller.react()
    for _ in range(4):
        made.serve(worker, made.cases(50))
        made.tick(5.0)
    made.models["m@2"] = breaking
    for _ in range(18):
        made.serve(worker, made.cases(50))
        made.tick(5.0)
    made.judge(n=2000)
    made.tick(1.0)
    return made


ANY = Plan(steps=(Step(share=0.5), Step(share=1.0)))


def read(world: World, *, plan: Plan = ANY, new: str = "m@2", **span: int) -> Traffic:
    log, now_us = Log(world.folder), world.state.now_us()
    try:
        with world.state.read() as conn:
            told = items(conn, "phones", secret=world.secret, since_us=0, until_us=now_us)
            origin = rows.origin(conn, "phones", candidate=new, stable="m@1", until_us=now_us)
        asked: dict[str, Any] = {
            "since_ns": 0,
            "until_ns": now_us * 1000 + 1,
            "items": told,
            "origin": origin,
        } | span
        return rows.traffic(log, "phones", candidate=new, stable="m@1", plan=plan, **asked)
    finally:
        log.close()


def test_the_log_tells_who_answered_with_which_chance(world: World) -> None:
    found = read(world)
    assert len(found.t_ns) == 1100
    known = found.known["failed"]
    both = known.candidate & known.stable
    assert both.sum() == 200  # the shadow's
    assert (found.chance[both] == 0.0).all()
    shared = found.chance[~both]
    assert ((shared - 0.3) ** 2 < 1e-9).all()
    assert 200 < known.candidate[~both].sum() < 340
    assert found.bad["failed"].candidate.sum() > 20
    assert found.bad["failed"].stable.sum() == 0
    judged = found.labels.resolved_ns < NEVER
    assert judged.sum() > 100
    assert found.bad[WRONG].candidate[judged].any()


def test_another_plan_would_have_rolled_back_and_says_when(world: World) -> None:
    assert world.services.rollouts.history("phones")[0]["state"] == "running"
    plan = Plan(steps=(Step(share=0.1, min=1000), Step(share=1.0)), gates=GATES[:1])
    since = int(read(world).t_ns[200])
    found = replay(read(world, since_ns=since), plan, candidate="m@2", stable="m@1")
    assert found.state == "rolled_back"
    assert found.log["both"] == 0.0
    assert 0 < found.requests <= 900
    assert found.bad["failed"] > 0
    assert since // 1000 < found.at_us <= world.state.now_us()


def test_in_shadow_the_other_plan_is_judged_by_pairs(world: World) -> None:
    plan = Plan(steps=(Step(shadow=1.0, min=10_000), Step(share=1.0)), gates=GATES[1:])
    found = replay(read(world), plan, candidate="m@2", stable="m@1")
    told = found.stages[0].verdicts[WRONG]
    assert told["n1"] > 50
    assert told["x1"] > told["x0"]


def test_sealed_and_live_rows_replay_alike(world: World) -> None:
    live = read(world)
    world.controller.archive.seal()
    for _ in range(3):
        world.tick(3600.0)
        world.controller.archive.seal()
    again = read(world)
    assert (live.t_ns == again.t_ns).all()
    assert (live.bad["failed"].candidate == again.bad["failed"].candidate).all()
    assert (live.chance == again.chance).all()


def test_versions_that_never_met_share_nothing(world: World) -> None:
    found = read(world, new="m@3")
    assert not found.known["failed"].candidate.any()
    assert (found.chance == 0.0).all()


def test_the_command_prints_each_step_and_what_the_log_lacks(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Office(world.project, world.state)
    assert command._versions(desk, "phones", None, None) == ("m@2", "m@1")
    file = tmp_path / "other.yaml"
    file.write_text(
        "rollout:\n  steps: [{share: 10%, min: 1000}, {share: 100%}]\n  gates: [{bad: failed, alpha: 1%}]\n"
    )
    plan = command._plan(desk, "phones", file)
    assert (plan.steps[0].share, plan.gates[0].alpha) == (0.1, 0.01)
    span = int(read(world).t_ns[200]) // 1000, world.state.now_us()
    command._print("phones", command._replayed(desk, "phones", versions=("m@2", "m@1"), plan=plan, span=span))
    told = capsys.readouterr().out
    assert told.startswith("phones: m@2 against m@1 would have rolled back at ")
    assert "the log shows both versions' answers for 0 % of requests" in told
    assert "re-weighted" in told
    file.write_text("steps: [{share: 10%}]\ngates: [{bad: failed, alpha: 3}]\n")
    with pytest.raises(ProjectError) as faults:
        command._plan(desk, "phones", file)
    assert faults.value.faults[0].startswith("other.yaml:2: gates")
    file.write_text("steps: [{share: 10%}]\n")
    with pytest.raises(CaseError, match="last step must be share: 100%"):
        command._plan(desk, "phones", file)
    with pytest.raises(CaseError, match="answered nothing"):
        command._replayed(desk, "phones", versions=("m@2", "m@1"), plan=plan, span=(0, 1))
    assert command._moment("7d", 10**15, "--since") == 10**15 - 7 * 86_400 * 1_000_000
    with pytest.raises(CaseError, match="a duration such as"):
        command._moment("soon", 0, "--since")


def test_means_and_slices_are_read_from_the_log(world: World) -> None:
    by = SliceSpec(by="unit", each=2)
    found = read(world, plan=Plan(steps=ANY.steps, slices=(by,)))
    one, two = found.values["confidence"]
    both = found.known["failed"].candidate & found.known["failed"].stable
    assert np.isfinite(one[both]).all()
    assert np.isfinite(two[both]).all()
    assert not np.isnan(found.values["latency_ms"][1][both]).any()
    assert np.isnan(found.values["latency_ms"][0][both]).all()  # a shadow's time says nothing
    assert found.texts == {"unit": [None] * len(found.t_ns)}
    sure = GateSpec(mean="confidence", harm="down", cap=1.0, margin=0.1)
    steps = (Step(share=0.3, min=100), Step(share=1.0))
    told = replay(found, Plan(steps=steps, gates=(sure,)), candidate="m@2", stable="m@1", least_look_s=5.0)
    assert told.stages[0].verdicts[sure.name]["units1"] > 100
