from __future__ import annotations

from typing import Any

import pytest

from rollout_rig import (
    ALL,
    FAILED,
    FIVE,
    HALF,
    LATE,
    NAME,
    SHADOW,
    V1,
    V2,
    VERSIONS,
    WRONG,
    answer,
    failing,
    item,
    late,
    ledger,
    plan,
    rollout,
    rows,
)  # fmt: skip
from tenure.clock import ManualClock
from tenure.data.records import Status
from tenure.data.state import State
from tenure.deploy.rollout import advance, describe, evidence, labels
from tenure.deploy.rollout.counts import MISSING, OUTSTANDING, REQUESTS, SWITCHED
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.observed import observed
from tenure.deploy.rollout.plan import Plan
from tenure.scope.project import GateSpec, Step


def test_only_rows_of_this_step_count() -> None:
    now = rollout(plan(gates=(FAILED, LATE)), step_started_us=5)
    columns = rows(
        [True, True, False, False, True, False], 0.05, 5000,
        t_ns=[4999, 5000, 5000, 5000, 5000, 5000],
        status=[0, int(Status.FAILED), 0, int(Status.REFUSED), 0, int(Status.FAILED)],
        flags=late([False, False, True, False, False, False]),
        version=[1, 1, 0, 0, 2, 0],
    )  # fmt: skip
    seen = observed(NAME, now, columns, VERSIONS)
    assert seen.requests == seen.drawn == (1, 2)  # not: too early, refused, another rollout's candidate
    assert seen.bad == {"failed": (1, 1), "over_latency": (0, 1)}
    assert observed(NAME, now, rows([True, False], 0.5, 5000), VERSIONS).requests == (0, 0)
    with pytest.raises(ValueError, match="rows are of other"):
        observed("other", now, columns, VERSIONS)


def test_in_the_shadow_all_requests_count_as_seen() -> None:
    now = rollout(plan(SHADOW, FIVE, ALL))
    columns = rows(
        [False] * 3, 0.0, 1, version=[0, 65535, 0], status=[0, int(Status.NOT_RUN), int(Status.REFUSED)]
    )
    assert observed(NAME, now, columns, VERSIONS).requests == (0, 2)


def started(state: State, chosen: Plan) -> Rollouts:
    made = ledger(state)
    made.start(NAME, V2, by="ann", plan=chosen)
    return made


def observe(made: Rollouts, candidate: list[bool], bad: list[bool], units: list[int]) -> None:
    with made.state.begin() as conn:
        now = made.active(conn, NAME)
        assert now is not None
        share = now.plan.share(now.step)
        columns = rows(candidate, share, made.state.clock.now_ns(), status=failing(bad), unit=units)
        made.observe(conn, made.observed(NAME, now, columns, VERSIONS))


def counts(made: Rollouts, gate: str) -> dict[tuple[int, float], tuple[int, int, int, int]]:
    with made.state.read() as conn:
        now = made.active(conn, NAME)
        assert now is not None
        found = evidence.read(conn, now.id)
    return {(c.step, c.rho): (c.x1, c.x0, c.n1, c.n0) for c in found if c.gate == gate}


def test_a_sticky_unit_counts_once_per_step(any_state: State) -> None:
    made = started(any_state, plan(Step(share=0.2), HALF, ALL, assign="unit"))
    observe(made, [True, True, False, False], [True, True, True, False], [1, 1, 2, 3])
    observe(made, [True, False, False], [True, True, True], [1, 2, 3])
    assert counts(made, "failed") == {(0, 0.2): (1, 2, 1, 2)}
    assert counts(made, REQUESTS) == {(0, 0.2): (1, 2, 3, 4)}
    made.promote(made.active(None, NAME).id, by="ann")  # type: ignore[union-attr]
    # unit 1 was the candidate's: nothing is drawn any more. 2 was not: (0.5 - 0.2) / (1 - 0.2). 4 is new.
    observe(made, [True, True, False, True], [True, True, True, False], [1, 2, 4, 5])
    assert counts(made, "failed") == {(0, 0.2): (1, 2, 1, 2), (1, 0.375): (1, 0, 0, 0), (1, 0.5): (0, 1, 3, 1)}
    assert counts(made, REQUESTS)[1, 0.5] == (1, 1, 3, 1)  # only 4 and 5 are first seen here
    assert counts(made, SWITCHED) == {}


def test_a_sticky_unit_that_switches_is_a_fault(any_state: State) -> None:
    made = started(any_state, plan(Step(share=0.2), ALL, assign="unit"))
    observe(made, [True, False], [False, False], [1, 1])
    observe(made, [False, True], [False, False], [2, 3])
    observe(made, [True, True], [False, False], [2, 3])
    assert counts(made, SWITCHED) == {(0, 0.2): (2, 0, 0, 0)}


def test_a_unit_counts_anew_in_each_epoch(any_state: State, clock: ManualClock) -> None:
    made = started(any_state, plan(Step(share=0.2), ALL, assign="unit_epoch", epoch=60.0))
    for _ in range(3):
        observe(made, [True, False], [True, True], [1, 2])
        observe(made, [True, False], [True, True], [1, 2])
        clock.advance(60.0)
    assert counts(made, "failed") == {(0, 0.2): (3, 3, 3, 3)}


def test_rows_without_a_unit_are_drawn_by_themselves(any_state: State) -> None:
    made = started(any_state, plan(Step(share=0.2), ALL, assign="unit"))
    observe(made, [True, True, False], [True, True, True], [0, 0, 0])
    assert counts(made, "failed") == {(0, 0.2): (2, 1, 2, 1)}


LABELLED = plan(Step(share=0.2), HALF, ALL, gates=(GateSpec(bad="wrong_decision", maturity=60.0),))


def test_wrong_decisions_count_when_mature(any_state: State, clock: ManualClock) -> None:
    made = started(any_state, LABELLED)
    now = made.active(None, NAME)
    assert now is not None
    at = any_state.now_us()
    arm: dict[str, Any] = {"arm": "candidate", "version": V2, "share": 0.2}
    with any_state.begin() as conn:
        usual: dict[str, Any] = {"rollout": now.id, "created_us": at, "share": 0.8}
        item(conn, 1, truth="good", **usual)
        item(conn, 2, truth="defect", **usual)
        item(conn, 3, truth="defect", **(usual | arm))
        item(conn, 4, truth=None, **(usual | arm))
        item(conn, 5, truth="defect", **(usual | {"lottery": 0}))  # chosen by its score: not a fair sample
        item(conn, 6, truth="defect", **(usual | {"rollout": "another"}))
        item(conn, 7, truth="good", **(usual | arm | {"created_us": at + 30_000_000}))
        made.count_labels(conn, now)
    assert counts(made, "wrong_decision") == {}
    assert counts(made, OUTSTANDING)[0, 0.2][3] == 5
    clock.advance(61.0)
    with any_state.begin() as conn:
        made.count_labels(conn, now)
    assert counts(made, "wrong_decision") == {(0, 0.2): (1, 1, 1, 2)}
    assert counts(made, MISSING) == {(0, 0.2): (1, 0, 2, 2)}
    assert counts(made, OUTSTANDING)[0, 0.2][3] == 2


def test_labels_of_the_shadow_step(any_state: State) -> None:
    made = started(any_state, plan(SHADOW, FIVE, ALL, gates=(WRONG,)))
    now = made.active(None, NAME)
    assert now is not None
    with any_state.begin() as conn:
        cases = (
            ("defect", "good", "defect"),
            ("good", "defect", "good"),
            ("good", "bad", "bad"),
            ("good", None, "good"),
        )
        for number, (truth, shadow, said) in enumerate(cases):
            item(conn, number, truth=truth, said=said, rollout=now.id, created_us=any_state.now_us())
            if shadow is not None:
                answer(conn, f"i{number}", V2, shadow, role="shadow")
        made.count_labels(conn, now)
        assert labels.labels(conn, now, any_state.now_us()) == (3, 0)  # the candidate answered three of the four
    assert counts(made, "wrong_decision") == {(0, 0.5): (2, 0, 3, 3)}


def test_labels_count_up_to_the_oldest_open_request(any_state: State, clock: ManualClock) -> None:
    """Agreements are judged at once and disagreements twice: in order of arrival a bad version looks perfect."""
    made = started(any_state, plan(Step(shadow=1.0, min_labels=3), FIVE, ALL, gates=(WRONG,)))
    now = made.active(None, NAME)
    assert now is not None
    with any_state.begin() as conn:
        at = any_state.now_us()
        for number, truth in enumerate(("good", None, "good", "good")):
            item(conn, number, truth=truth, said="good", rollout=now.id, created_us=at + number * 1_000_000)
            answer(conn, f"i{number}", V2, "defect" if truth is None else "good", role="shadow")
    clock.advance(10.0)
    with any_state.begin() as conn:
        made.count_labels(conn, now)
        assert labels.labels(conn, now, any_state.now_us()) == (1, 2)
        held = describe.progress(conn, now, any_state.now_us())
    waits = advance.waits(now, (), held, any_state.now_us())
    assert "2 judged ones wait for an older request that is still to be judged" in waits[0]
    assert counts(made, "wrong_decision") == {(0, 0.5): (0, 0, 1, 1)}
    clock.advance(labels.PATIENCE_US / 1e6)
    with any_state.begin() as conn:
        made.count_labels(conn, now)
        assert labels.labels(conn, now, any_state.now_us()) == (3, 0)
    assert counts(made, "wrong_decision") == {(0, 0.5): (0, 0, 3, 3)}


def test_a_sticky_unit_s_wrong_decision_counts_once(any_state: State) -> None:
    made = started(any_state, plan(Step(share=0.2), HALF, ALL, gates=(WRONG,), assign="unit"))
    now = made.active(None, NAME)
    assert now is not None
    with any_state.begin() as conn:
        for number in range(5):
            item(
                conn, number, truth="defect", rollout=now.id, unit="line 1", share=0.8,
                created_us=any_state.now_us(),
            )  # fmt: skip
        made.count_labels(conn, now)
    assert counts(made, "wrong_decision") == {(0, 0.2): (0, 1, 0, 5)}
    assert V1
