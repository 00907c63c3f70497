"""What a rollout learns late, replayed: a plan that ran decides again what it decided, when it did."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from controller_world import Case, Worker, World, model, project
from tenure.cli import replay as command
from tenure.cli.office import Office
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.view import Log
from tenure.deploy.replay import rows
from tenure.deploy.replay.items import items
from tenure.deploy.replay.replay import replay
from tenure.deploy.replay.stages import Replayed
from tenure.deploy.replay.traffic import Traffic, coupled, draws
from tenure.deploy.rollout.counts import MISSING
from tenure.deploy.rollout.moments import LOOK_US
from tenure.deploy.rollout.plan import WRONG, Plan
from tenure.scope.project import Audit, Automation, EndpointSpec, GateSpec, RolloutSpec, Step

REDO = GateSpec(bad="reaction:redo", alpha=0.01, maturity=60.0)
STARS = GateSpec(mean="reaction:stars", maturity=60.0, harm="up", cap=5.0, margin=0.5)
TICK = 5.0
RAMP = (Step(share=0.2, min=60), Step(share=0.5, min=100_000), Step(share=1.0))


@dataclass
class Story:
    """A rollout in a world of its own."""

    world: World
    worker: Worker
    number: str

    @property
    def moves(self) -> list[dict[str, Any]]:
        """The moves that the evidence caused."""
        told = self.world.services.rollouts.describe(self.number)["moves"]
        return [move for move in told if move["author"] == "tenure"]

    @property
    def plan(self) -> Plan:
        return self.world.services.rollouts.get(self.number).plan

    def traffic(self, plan: Plan, now_us: int) -> Traffic:
        world, rollout = self.world, self.world.services.rollouts.get(self.number)
        log = Log(world.folder)
        try:
            with world.state.read() as conn:
                asked = items(conn, "phones", secret=world.secret, since_us=0, until_us=now_us)
                origin = rows.origin(conn, "phones", candidate="m@2", stable="m@1", until_us=now_us)
            return rows.traffic(
                log, "phones", candidate="m@2", stable="m@1", since_ns=rollout.created_us * 1000,
                until_ns=now_us * 1000 + 1, plan=plan, items=asked, origin=origin,
            )  # fmt: skip
        finally:
            log.close()

    def replayed(self, *, until_us: int | None = None, **other: Any) -> Replayed:
        """Replay the plan that ran, but for some fields of it."""
        plan, now_us = msgspec.structs.replace(self.plan, **other), until_us or self.world.state.now_us()
        found = self.traffic(plan, now_us)
        return replay(found, plan, candidate="m@2", stable="m@1", until_ns=now_us * 1000)

    def serve(
        self, turns: int, *, often: float = 0.0, base: float = 0.0, kind: str = "redo", value: Any = None,
        judge: str = "", judged: float = 1.0,
    ) -> None:  # fmt: skip
        """Answer requests turn by turn while the rollout runs; clients react to some of the answers.

        `often`, `base`: how often, to the candidate's and to the other version's.
        `judge`: versions whose cases get a truth; `judged`: the part of them that do.
        """
        world = self.world
        for _ in range(turns):
            world.serve(self.worker, self.cases())
            world.tick()
            for answer in world.answered[-20:]:
                if world.rng.random() < (often if answer.version == "m@2" else base):
                    self.worker.feedback(answer.id, value, kind=kind)
            world.tick(TICK)
            self.judge(judge, judged)
            if world.services.rollouts.get(self.number).state != "running":
                return

    def cases(self) -> list[Case]:
        names = self.world.rng.integers(0, 400, 20).tolist()
        return [replace(c, unit=f"u{n}") for c, n in zip(self.world.cases(20), names, strict=True)]

    def judge(self, versions: str, part: float) -> None:
        i, said = t.review_items.c, {a.id: a.version or "" for a in self.world.answered[-20:]}
        for row in self.world.rows(t.review_items, i.state == "open"):
            if said.get(row["id"], "?") in versions.split() and self.world.rng.random() < part:
                self.worker.feedback(row["id"], self.world.truths[row["id"]])
        self.world.tick()

    def seal(self) -> None:
        """Put the log into sealed files, as the hours pass."""
        for _ in range(4):
            self.world.tick(3600.0)
            self.world.controller.archive.seal()


def story(folder: Path, *gates: GateSpec, audit: float = 0.1, wrong_above: float = 1.1, **plan: Any) -> Story:
    """Return a rollout that has just begun, whose draws are the same each time."""
    automation = Automation(start="full", max="full", audit=Audit(steady=audit, rollout=audit))
    asked = RolloutSpec(**({"steps": RAMP, "gates": gates} | plan))
    made = World(
        project(folder, EndpointSpec(input="image", automation=automation, rollout=asked)), ManualClock()
    )
    made.register("m@1", model(unsure_above=2.0))
    made.register("m@2", model(wrong_above=wrong_above, unsure_above=2.0))
    made.put_in_force("m@1")
    made.controller.start()
    with pytest.MonkeyPatch.context() as fixed:
        for module in ("serving.predict.journal", "rollout.starting"):
            fixed.setattr(f"tenure.deploy.{module}.fresh_u64", lambda: 20_240_607)
        number = made.services.rollouts.start("phones", "m@2", by="ann")
        worker = Worker(made)
    made.controller.react()
    made.tick()
    return Story(made, worker, number)


def check_same(made: Story, found: Replayed) -> None:
    """Check that a replay of the plan that ran took the same decisions at the same time, for the same reason."""
    real = made.moves
    assert [(m["from_step"] + 1, m["to_state"]) for m in real] == [
        (s.step, "running" if s.outcome == "advanced" else s.outcome) for s in found.stages
    ]
    for move, stage in zip(real, found.stages, strict=True):
        assert abs(move["at_us"] - stage.ended_us) <= TICK * 1e6
    assert found.stages[-1].reason == real[-1]["reason"]


@pytest.fixture(scope="module")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A candidate whose answers clients reject, rolled back by the gate on that."""
    made = story(tmp_path_factory.mktemp("redo"), REDO)
    made.serve(80, often=0.2, base=0.06)
    return made


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A candidate whose labels never come, while those of the other version do."""
    gate = GateSpec(bad=WRONG, maturity=60.0)
    made = story(tmp_path_factory.mktemp("gone"), gate, audit=1.0, steps=(RAMP[1], RAMP[2]))
    made.serve(60, judge="m@1")
    return made


def test_the_plan_that_ran_rolls_back_again_for_the_same_reactions(rejected: Story) -> None:
    assert rejected.moves[-1]["to_state"] == "rolled_back"
    assert "redo reactions of m@2" in rejected.moves[-1]["reason"]
    check_same(rejected, rejected.replayed())
    assert rejected.replayed().bad["reaction:redo"] > 5


def test_a_reaction_counts_when_its_request_is_mature(rejected: Story) -> None:
    ended_us = rejected.moves[-1]["at_us"]
    before = rejected.replayed(until_us=ended_us - 2 * int(TICK * 1e6))
    assert before.state == "running"
    assert before.bad["reaction:redo"] > 5  # they came, and do not count yet


@pytest.mark.parametrize(("gate", "sign"), [({"alpha": 0.2}, -1), ({"alpha": 1e-4}, 1), ({"maturity": 70.0}, 1)])
def test_a_stricter_gate_falls_earlier_and_a_looser_one_later(
    rejected: Story, gate: dict[str, float], sign: int
) -> None:
    real, other = rejected.replayed(), msgspec.structs.replace(REDO, **gate)
    found = rejected.replayed(gates=(other,))
    late = found.at_us - real.at_us if found.state == "rolled_back" else 1  # the log ends before it falls
    assert late * sign > 0


def test_without_the_gate_nothing_falls(rejected: Story) -> None:
    assert rejected.replayed(gates=(GateSpec(bad="reaction:like", maturity=60.0),)).state == "running"


def test_sealed_rows_replay_alike(rejected: Story) -> None:
    live, now_us = rejected.replayed(), rejected.world.state.now_us()
    rejected.seal()
    assert rejected.replayed(until_us=now_us) == live


def test_a_mean_of_reactions_decides_again(tmp_path: Path) -> None:
    made = story(tmp_path, STARS, steps=(RAMP[1], RAMP[2]))
    made.serve(60, often=0.7, base=0.3, kind="stars", value=4)
    assert made.moves[-1]["reason"].startswith("mean reaction:stars")
    found = made.replayed()
    assert (found.state, len(found.stages)) == ("rolled_back", 1)
    assert abs(found.at_us - made.moves[-1]["at_us"]) <= LOOK_US
    assert found.stages[0].verdicts[STARS.name]["mean1"] == pytest.approx(
        made.moves[-1]["numbers"]["gates"][STARS.name]["mean1"], rel=0.1
    )  # the controller had read a little less of the log


def test_units_react_and_are_drawn_again_alike(tmp_path: Path) -> None:
    made = story(tmp_path, REDO, assign="unit", steps=(RAMP[1], RAMP[2]))
    made.serve(60, often=0.3)
    found = made.replayed()
    told = found.stages[-1].verdicts[REDO.name]
    real = made.moves[-1]["numbers"]["gates"][REDO.name]
    assert found.state == made.moves[-1]["to_state"] == "rolled_back"
    assert (told["x1"], told["x0"], told["log_e"]) == (real["x1"], real["x0"], real["log_e"])


def test_labels_that_never_came_pause_it_again(unlabelled: Story) -> None:
    assert unlabelled.moves[-1]["to_state"] == "paused"
    assert "they go missing differently" in unlabelled.moves[-1]["reason"]
    found = unlabelled.replayed()
    check_same(unlabelled, found)
    real = unlabelled.moves[-1]["numbers"]["gates"]
    for name in (MISSING, WRONG):
        told = {k: v for k, v in found.stages[-1].verdicts[name].items() if k in real[name] and k != "outcome"}
        assert told == pytest.approx({k: v for k, v in real[name].items() if k in told})


def test_a_label_is_missing_when_its_time_has_run_out(unlabelled: Story) -> None:
    now_us = unlabelled.moves[-1]["at_us"]
    late = msgspec.structs.replace(unlabelled.plan.gates[0], maturity=600.0)
    assert MISSING not in unlabelled.replayed(gates=(late,), until_us=now_us).stages[-1].verdicts


def test_missing_labels_count_against_the_candidate_unless_the_plan_trusts_them(tmp_path: Path) -> None:
    gate = GateSpec(bad=WRONG, maturity=30.0)
    made = story(tmp_path, gate, audit=1.0, steps=(Step(share=0.5, bake=60.0), Step(share=1.0)))
    made.serve(15, judge="m@1 m@2", judged=0.3)
    found = made.replayed()
    assert made.moves == []
    assert (found.state, len(found.stages)) == ("running", 1)
    assert found.stages[0].reason.endswith("get the labels")
    told = made.world.services.rollouts.describe(made.number)["verdicts"]
    assert found.stages[0].reason in [verdict["sentence"] for verdict in told]
    trusting = made.replayed(gates=(msgspec.structs.replace(gate, missing="at_random"),))
    assert trusting.stages[0].outcome == "advanced"


def test_wrong_decisions_roll_back_again(tmp_path: Path) -> None:
    gate = GateSpec(bad=WRONG, maturity=30.0, missing="at_random")
    made = story(tmp_path, gate, audit=0.5, wrong_above=0.6, steps=(RAMP[1], RAMP[2]))
    made.serve(60, judge="m@1 m@2")
    assert made.moves[-1]["to_state"] == "rolled_back"
    check_same(made, made.replayed())
    careful = made.replayed(steps=(Step(share=0.05, min=100_000), RAMP[2]))
    assert careful.bad[WRONG] < made.replayed().bad[WRONG]


def test_a_draw_that_the_log_contradicts_is_not_taken_for_its_own(rejected: Story) -> None:
    plan = rejected.plan
    found = rejected.traffic(plan, rejected.world.state.now_us())
    assert found.origin is not None
    assert coupled(found, plan, draws(found, plan)).all()
    other = replace(found, origin=msgspec.structs.replace(found.origin, salt="another"))
    assert not coupled(other, plan, draws(other, plan)).any()
    assert (
        replay(other, plan, candidate="m@2", stable="m@1").stages[0].shown < found.known["failed"].candidate.sum()
    )


def test_the_command_tells_of_the_same_end(
    rejected: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, file = rejected.world, tmp_path / "same.yaml"
    file.write_text(
        "steps: [{share: 20%, min: 60}, {share: 50%, min: 100000}, {share: 100%}]\n"
        "gates: [{bad: 'reaction:redo', alpha: 1%, maturity: 60s}]\n"
    )
    desk, ended_us = Office(world.project, world.state), rejected.moves[-1]["at_us"]
    plan = command._plan(desk, "phones", file)
    span = world.services.rollouts.get(rejected.number).created_us, ended_us + 1
    found = command._replayed(desk, "phones", versions=("m@2", "m@1"), plan=plan, span=span)
    command._print("phones", found)
    told = capsys.readouterr().out
    assert told.startswith("phones: m@2 against m@1 would have rolled back at ")
    assert rejected.moves[-1]["reason"] in told
    assert "reaction:redo" in told


@pytest.mark.parametrize("wrong_above", [0.6, 0.85])
def test_the_way_through_the_shadow_is_taken_again(tmp_path: Path, wrong_above: float) -> None:
    steps = (Step(shadow=1.0, min_labels=40), Step(share=0.5, min=100_000), Step(share=1.0))
    gate = GateSpec(bad=WRONG, maturity=20.0, missing="at_random", alpha=0.2)
    made = story(tmp_path, gate, audit=0.5, wrong_above=wrong_above, steps=steps)
    made.serve(40, judge="m@1 m@2")
    assert made.moves
    check_same(made, made.replayed())
