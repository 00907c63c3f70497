"""The whole story on a manual clock: people alone, shadow, assist, partial, a rollout, a bad version, the dark.

The same steps run on SQLite and on PostgreSQL. Each phase lasts until its outcome; a cap fails the test.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller_world import Case, Model, Worker, World, model, other, project
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.deploy.rollout.plan import Plan
from tenure.scope.project import (
    AlarmSpec,
    Audit,
    Automation,
    CertificateSpec,
    EndpointSpec,
    Fallback,
    GateSpec,
    Monitor,
    RolloutSpec,
    Serve,
    Step,
)
from tenure.types import Level, Prediction

BOUND = 0.05
PER_STEP = 25
GATES = (GateSpec(bad="wrong_decision"), GateSpec(bad="failed", alpha=0.01))


def spec() -> EndpointSpec:
    return EndpointSpec(
        input="image",
        serve=Serve(on_timeout=Fallback(decide="defect", after=60.0)),
        automation=Automation(
            start="human_only",
            max="partial",
            errors=BOUND,
            audit=Audit(steady=0.2, rollout=1.0),
            blind=0.5,
            certificate=CertificateSpec(up="automatic", pilot=100, plan=500),
        ),
        rollout=RolloutSpec(
            steps=(Step(shadow=1.0, min_labels=100), Step(share=0.25, min=100), Step(share=1.0)), gates=GATES
        ),
        monitor=Monitor(
            pane=1.0,
            reference=30,
            tolerance=0.05,
            alarms=(AlarmSpec(do=("notify", "hold_rollout", "drop_level")),),
        ),
    )


def blind_in_the_dark(base: Model) -> Model:
    """Return a model that takes half of the dark photos for the other label, and is as sure as ever."""

    def predict(case: Case) -> Prediction:
        said = base(case)
        assert isinstance(said, Prediction)
        if case.light < 0.5 and int(case.hardness * 1000) % 2:
            return Prediction(other(str(said.value)), said.confidence)
        return said

    return predict


class Story:
    """One factory; the phases must be played in order."""

    def __init__(self, folder: Path, *, state: str | None = None) -> None:
        self.world = World(project(folder, spec(), state=state), ManualClock())
        self.world.register("m@1", blind_in_the_dark(model(wrong_above=0.9)))
        self.world.put_in_force("m@1")
        self.world.controller.start()
        self.worker = Worker(self.world)
        self.light = 1.0
        self.sent = 0

    # What happens in a second

    def second(self) -> None:
        self.world.serve(self.worker, self.world.cases(PER_STEP, light=self.light))
        self.sent += PER_STEP
        self.world.tick(1.0)
        self.world.judge()

    def until(self, done: Callable[[], bool], *, cap: int) -> int:
        """Let seconds pass until something holds; returns how many."""
        for passed in range(cap):
            if done():
                return passed
            self.second()
        pytest.fail(f"not reached within {cap} seconds: {self.where()}")

    def where(self) -> dict[str, Any]:
        rows = self.world.rows
        return {
            "level": self.level.word,
            "lineages": [(x["version"], x["state"], x["labels"], x["note"]) for x in rows(t.lineages)],
            "rollouts": [(x["candidate"], x["state"], x["step"], x["reason"]) for x in rows(t.rollouts)],
            "alarms": [(x["rule"], x["metric"], x["state"]) for x in rows(t.alarms)],
        }

    # What can be asked

    @property
    def level(self) -> Level:
        return self.world.services.automation.level("phones")

    def alarms(self) -> list[dict[str, Any]]:
        return self.world.rows(t.alarms)

    def stable(self) -> str | None:
        with self.world.state.read() as conn:
            return self.world.services.rollouts.stable(conn, "phones")

    def automated(self, seconds: int = 12) -> tuple[float, float]:
        """Return the share decided by the model and the share of errors among these, over some seconds."""
        for _ in range(seconds):
            self.second()
        told = self.world.answered[-seconds * PER_STEP :]
        decided = [one for one in told if one.automated]
        wrong = sum(one.said != one.truth for one in decided)
        return len(decided) / len(told), wrong / max(len(decided), 1)

    # The phases

    def people_alone(self) -> None:
        for _ in range(4):
            self.second()
        assert self.level == Level.HUMAN_ONLY
        assert self.world.rows(t.item_predictions) == []
        assert {row["state"] for row in self.world.rows(t.review_items)} == {"resolved"}
        delivered = [(by, value == self.world.truths[id_]) for id_, by, value in self.world.decisions()]
        assert set(delivered) == {("person", True)}

    def shadow(self) -> None:
        self.world.services.automation.request("phones", Level.SHADOW, "olga", approve=True)
        self.world.controller.react()
        self.second()
        items = self.world.rows(t.review_items, t.review_items.c.level == "shadow")
        assert {(row["pending"] in (0, 1), row["blind"], row["version"]) for row in items} == {(True, 1, None)}
        self.until(lambda: self.level >= Level.ASSIST, cap=60)
        moves = [(row["from_level"], row["to_level"], row["author"]) for row in self.world.rows(t.levels)]
        assert moves[-1] == ("shadow", "assist", "tenure")

    def assist(self) -> None:
        self.second()
        items = self.world.rows(t.review_items, t.review_items.c.level == "assist")
        assert {row["blind"] for row in items} == {0, 1}
        assert {row["version"] for row in items} == {"m@1"}
        self.until(lambda: self.level == Level.PARTIAL, cap=120)
        (certificate,) = self.world.rows(t.certificates, t.certificates.c.state == "valid")
        assert certificate["version"] == "m@1"
        assert certificate["k"] / certificate["n"] < BOUND

    def partial(self) -> None:
        share, wrong = self.automated()
        assert share > 0.3
        assert wrong <= BOUND
        policy = self.world.controller.publisher.table.endpoints["phones"].policy  # type: ignore[union-attr]
        assert set(policy.thresholds) == {"m@1"}
        audits = self.world.rows(t.review_items, t.review_items.c.kind == "audit")
        decided = sum(one.automated for one in self.world.answered)
        assert 0.1 < len(audits) / decided < 0.3  # audit.steady is 20 %
        assert {(row["lottery"], row["blind"], row["pending"]) for row in audits} == {(1, 1, 0)}
        assert policy.valid_until_ns > self.world.clock.now_ns()
        assert self.alarms() == []

    def rollout(self) -> None:
        self.world.register("m@2", blind_in_the_dark(model()))
        number = self.world.services.rollouts.start("phones", "m@2", by="olga")
        self.world.controller.react()
        rollouts = self.world.services.rollouts
        self.until(lambda: rollouts.get(number).step == 1, cap=120)
        assert self.stable() == "m@1"
        self.until(lambda: rollouts.get(number).state == "completed", cap=200)
        assert self.stable() == "m@2"
        share, wrong = self.automated()
        assert share > 0.3
        assert wrong <= BOUND
        assert self.level == Level.PARTIAL
        assert self.alarms() == []

    def bad_version_in_shadow(self) -> None:
        self.world.register("m@3", model(wrong_above=0.4, unsure_above=1.1))
        number = self.world.services.rollouts.start("phones", "m@3", by="olga")
        self.world.controller.react()
        self.until(lambda: self.world.services.rollouts.get(number).state == "rolled_back", cap=60)
        assert self.stable() == "m@2"
        answered = [one for one in self.world.answered if one.version == "m@3"]
        assert answered == []  # the shadow was enough to tell

    def bad_version_on_traffic(self) -> None:
        plan = Plan(steps=(Step(share=0.2, min=500), Step(share=1.0)), gates=GATES, candidate="granted")
        self.world.register("m@4", model(wrong_above=0.4, unsure_above=1.1))
        before = len(self.world.answered)
        number = self.world.services.rollouts.start("phones", "m@4", by="olga", plan=plan)
        self.world.controller.react()
        policy = self.world.controller.publisher.table.endpoints["phones"].policy  # type: ignore[union-attr]
        assert policy.thresholds["m@4"] == policy.thresholds["m@2"]
        assert policy.audit == 1.0
        self.until(lambda: self.world.services.rollouts.get(number).state == "rolled_back", cap=120)
        assert self.stable() == "m@2"
        seen = [one for one in self.world.answered[before:] if one.version == "m@4"]
        assert 0 < len(seen) < 500
        (move,) = self.world.rows(t.rollout_moves, t.rollout_moves.c.to_state == "rolled_back")[-1:]
        assert "wrong" in move["reason"]
        self.second()
        assert {one.version for one in self.world.answered[-PER_STEP:]} == {"m@2"}
        assert self.alarms() == []

    def dark(self) -> None:
        assert self.level == Level.PARTIAL
        self.light = 0.3
        self.until(lambda: self.alarms() != [], cap=10)
        assert self.level == Level.ASSIST
        for _ in range(20):
            self.second()
        (alarm,) = self.alarms()
        assert (alarm["rule"], alarm["metric"], alarm["shape"]) == ("drift:input", "brightness", "sudden")
        assert self.level == Level.ASSIST
        assert not any(one.automated for one in self.world.answered[-PER_STEP * 15 :])

    def new_version_for_the_dark(self) -> None:
        """A version made for the dark earns its way up; the old one, which errs there, never does."""
        self.world.register("m@5", model())
        number = self.world.services.rollouts.start("phones", "m@5", by="olga")
        self.world.controller.react()
        self.until(lambda: self.world.services.rollouts.get(number).state == "completed", cap=300)
        self.until(lambda: self.level == Level.PARTIAL, cap=300)
        share, wrong = self.automated()
        assert share > 0.3
        assert wrong <= BOUND
        old = self.world.rows(t.certificates, t.certificates.c.version == "m@2")
        assert {row["state"] for row in old} <= {"lapsed", "superseded", "revoked"}

    def nothing_is_lost(self) -> None:
        self.world.tick(1.0)
        rows = self.world.rows(t.review_items)
        assert all(row["state"] == "resolved" for row in rows)
        pending = {one.id for one in self.world.answered if not one.automated}
        decided = {row["id"] for row in self.world.rows(t.decisions)}
        assert pending == decided
        assert {id_ for id_, _, _ in self.world.decisions()} <= decided
        assert all(row["logged"] == 1 for row in self.world.rows(t.decisions))
        assert len(self.world.answered) == self.sent

    def play_to_the_dark(self) -> None:
        """Play a shorter story, for the database that takes longer."""
        self.people_alone()
        self.shadow()
        self.assist()
        self.rollout()
        self.dark()
        self.nothing_is_lost()

    def play(self) -> None:
        self.people_alone()
        self.shadow()
        self.assist()
        self.partial()
        self.rollout()
        self.bad_version_in_shadow()
        self.bad_version_on_traffic()
        self.dark()
        self.new_version_for_the_dark()
        self.nothing_is_lost()
