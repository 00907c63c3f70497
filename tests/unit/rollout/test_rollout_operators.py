"""What only people decide: approvals, jumps, deadlines and silence; and the plans that go by a name."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from rollout_rig import ALL, FIVE, HALF, NAME, V1, V2, WRONG, feed, item, ledger, plan
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.rollout.ledger import Moved, Rollouts
from tenure.deploy.rollout.outline import in_words
from tenure.deploy.rollout.plan import plan_from_spec, problems
from tenure.errors import ConflictError, ProjectError
from tenure.scope.project import RolloutSpec, Step, Strategy
from tenure.scope.reader import load_plan

ASKS = Step(share=0.05, approve=True)


def reconcile(made: Rollouts) -> list[Moved]:
    with made.state.begin() as conn:
        return made.reconcile(conn, NAME, made.state.now_us())


def enough(made: Rollouts) -> None:
    feed(made, bad1=0, n1=50, bad0=3, n0=950)


def test_an_approval_moves_once_all_else_is_met(any_state: State) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan(ASKS, HALF, ALL, second_person=True))
    with pytest.raises(ConflictError, match="wants a second person") as refused:
        made.approve(number, by="ann")
    assert refused.value.code == "second_person"
    with pytest.raises(ConflictError, match="wants a second person"):
        made.promote(number, by="ann")
    made.approve(number, by="bob")
    assert reconcile(made) == []  # the requests are still missing
    enough(made)
    assert [m.to_step for m in reconcile(made)] == [1]
    with pytest.raises(ConflictError, match=r"step 2 of .* asks for no approval"):
        made.approve(number, by="bob")


def test_any_move_makes_an_approval_void(any_state: State) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan(ASKS, HALF, ALL))
    made.approve(number, by="ann")
    assert made.describe(number)["approved_by"] == "ann"
    made.pause(number, by="ann")
    made.resume(number, by="ann")
    enough(made)
    assert reconcile(made) == []
    assert made.describe(number)["waits"] == ["the approval of this step by an operator"]


def test_a_jump_back_draws_anew_and_forgets_the_evidence(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan(FIVE, HALF, ALL, gates=(WRONG,)))
    made.jump(number, 1, by="ann")
    before = made.get(number)
    with any_state.begin() as conn:
        for n in range(40):
            item(
                conn,
                n,
                truth="bad",
                rollout=number,
                arm="candidate",
                version=V2,
                share=0.5,
                created_us=made.state.now_us(),
            )
        made.count_labels(conn, before)
    assert made.describe(number)["evidence"][0]["x1"] == 40
    clock.advance(1.0)
    made.jump(number, 0, by="ann", reason="odd")
    after = made.get(number)
    assert after.salt != before.salt
    assert (after.step, after.attempt, after.state) == (0, before.attempt + 1, "running")
    assert reconcile(made) == []  # forty wrong ones of the old draw no longer fail
    told = made.describe(number)
    assert [c for c in told["evidence"] if c["x1"]] == []
    assert told["moves"][-1]["numbers"]["evidence"][0]["x1"] == 40
    assert told["moves"][-1]["numbers"]["salt"] == before.salt


def test_a_jump_up_keeps_the_draws_and_the_state(any_state: State) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan())
    enough(made)
    made.pause(number, by="ann")
    salt = made.get(number).salt
    made.jump(number, 2, by="ann")
    got = made.get(number)
    assert (got.step, got.state, got.salt == salt, got.attempt) == (2, "paused", True, 1)
    assert made.describe(number)["evidence"] != []
    for step in (2, 3, -1):
        with pytest.raises(ConflictError, match="no other one"):
            made.jump(number, step, by="ann")
    made.rollback(number, by="ann")
    with pytest.raises(ConflictError, match="is rolled_back; jump works while"):
        made.jump(number, 0, by="ann")


def test_a_jump_up_needs_the_second_person_too(any_state: State) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan(second_person=True))
    with pytest.raises(ConflictError, match="second person"):
        made.jump(number, 2, by="ann")
    made.jump(number, 2, by="bob")
    made.jump(number, 0, by="ann")


def test_a_deadline_holds_once(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan(deadline=60.0))
    clock.advance(59.0)
    assert reconcile(made) == []
    clock.advance(1.0)
    assert [m.kind for m in reconcile(made)] == ["paused"]
    assert "60 s of its deadline" in made.get(number).reason
    made.resume(number, by="ann")
    assert reconcile(made) == []
    enough(made)
    assert [m.kind for m in reconcile(made)] == ["advanced"]


def test_silence_pauses_only_while_it_asks(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan(ASKS, HALF, ALL, operator_silence=600.0))
    clock.advance(3600.0)
    assert reconcile(made) == []  # it waits for requests, not for anybody
    enough(made)
    made.looked(number)
    assert reconcile(made) == []
    clock.advance(600.0)
    assert [m.kind for m in reconcile(made)] == ["paused"]
    made.resume(number, by="ann")
    clock.advance(599.0)
    assert reconcile(made) == []
    clock.advance(1.0)
    assert [m.kind for m in reconcile(made)] == ["paused"]


def test_what_an_ended_rollout_leaves(any_state: State) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan(ASKS, ALL))
    made.approve(number, by="ann")
    made.rollback(number, by="ann")
    with any_state.read() as conn:
        keys = conn.execute(sa.select(t.meta.c.key)).scalars().all()
    assert not [key for key in keys if number in key]
    assert made.get(number).stable == V1


@pytest.mark.parametrize("strategy", ["canary", "blue_green", "shadow"])
def test_named_strategies_can_run(strategy: Strategy) -> None:
    chosen = plan_from_spec(RolloutSpec(strategy=strategy, deadline=5.0))
    assert problems(chosen) == []
    assert (chosen.is_shadow(0), len(chosen.steps)) == {
        "canary": (False, 3), "blue_green": (True, 2), "shadow": (True, 4),
    }[strategy]  # fmt: skip
    assert chosen.deadline == 5.0


def test_a_plan_in_words() -> None:
    said = in_words(plan(Step(shadow=1.0, min_labels=30, approve=True), FIVE, ALL, deadline=60.0))
    assert said[:3] == [
        "1. answers 100% of requests unseen, until 30 labels and an approval",
        "2. answers 5% of requests",
        "3. answers 100% of requests",
    ]
    assert said[3].startswith("gates: failed; a step passes when every gate is not contradicted")


def test_a_plan_file_is_read_like_the_project_file(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("steps:\n  - {share: 5%, min: 20}\n  - {share: 100%}\ndeadline: 7d\n")
    assert load_plan(file, None).deadline == 7 * 86_400.0
    file.write_text("steps:\n  - {share: 5%}\nassign: unit\nbogus: 1\n")
    with pytest.raises(ProjectError) as refused:
        load_plan(file, None)
    assert [fault.split(":")[1] for fault in refused.value.faults] == ["2", "3", "4"]
