"""Slices: places in the family, who gets one, evidence of each, and what a step asks of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rollout_rig import (
    ALL,
    FAILED,
    FIVE,
    HALF,
    LATE,
    NAME,
    SHADOW,
    V2,
    VERSIONS,
    WRONG,
    failing,
    item,
    ledger,
    plan,
    rollout,
    rows,
)  # fmt: skip
from tenure.clock import ManualClock
from tenure.data.state import State, dumps
from tenure.deploy.rollout import slices
from tenure.deploy.rollout.advance import Progress, Verdict, advance, waits
from tenure.deploy.rollout.counts import MISSING, REQUESTS, Count
from tenure.deploy.rollout.forecast import forecast
from tenure.deploy.rollout.judge import FAMILY, cases, judge
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.outline import in_words
from tenure.deploy.rollout.plan import Plan, alone, problems
from tenure.errors import ConflictError
from tenure.scope.project import Field, GateSpec, SliceSpec, Step
from tenure.types import Outcome

LINES = SliceSpec(by="unit", values=("a", "b"))
TONGUES = SliceSpec(by="tongue", each=2)
MEAN = GateSpec(mean="latency_ms", harm="up", cap=100.0, margin=2.0)


def told(asked: Plan, counts: Sequence[Count], step: int = 0, **reached: float) -> dict[str, Verdict]:
    return {v.gate: v for v in judge(rollout(asked, step=step), counts, reached)}


def count(gate: str, x1: int, x0: int, n: int = 500) -> Count:
    return Count(step=0, gate=gate, rho=0.5, x1=x1, x0=x0, n1=n, n0=n)


def test_weights_of_all_places_are_one_whatever_came() -> None:
    asked = plan(HALF, ALL, gates=(FAILED, GateSpec(bad="over_latency", alpha=0.01)), slices=(LINES, TONGUES))
    came = [count(f"{REQUESTS} @ tongue={word}", 1, 1) for word in ("da", "en")]
    members = cases(rollout(asked), came)
    assert [m.part for m in members[::2]] == ["", "unit=a", "unit=b", "tongue=da", "tongue=en"]
    assert sum(m.weight for m in members) == pytest.approx(1.0)
    few = cases(rollout(asked), [])
    assert [m.weight for m in few] == [m.weight for m in members[:6]]  # nothing that comes changes a weight
    assert members[0].weight / members[1].weight == pytest.approx(5.0)


def test_harm_in_one_slice_is_named_where_the_total_shows_none() -> None:
    asked = plan(HALF, ALL, slices=(LINES,))
    counts = [count("failed", 112, 100), count("failed @ unit=a", 88, 97), count("failed @ unit=b", 24, 3)]
    found = told(asked, counts)
    assert found["failed"].outcome is Outcome.PASS
    assert found["failed @ unit=a"].outcome is Outcome.PASS
    assert found["failed @ unit=b"].outcome is Outcome.FAIL
    assert found["failed @ unit=b"].sentence.startswith("where unit=b: 24 failed answers of v2@2 in 500 requests")
    assert told(plan(HALF, ALL), counts[:1])[FAMILY].outcome is Outcome.PASS
    move = advance(rollout(asked), list(found.values()), Progress(requests=1000), 0)
    assert move is not None
    assert move.state == "rolled_back"
    assert "where unit=b" in move.reason


def test_places_that_are_still_empty_have_an_e_value_of_one() -> None:
    asked = plan(HALF, ALL, slices=(TONGUES,))
    found = told(asked, [count("failed", 6, 0)])
    assert math.exp(found[FAMILY].numbers["log_e"]) == pytest.approx((21.2 + 1.0) / 2.0, abs=1e-2)


def test_a_slice_with_too_few_says_so_and_holds_only_where_the_plan_says_so() -> None:
    counts = [count("failed", 3, 3), count("failed @ unit=a", 3, 3), count("failed @ unit=b", 0, 0, n=2)]
    asked = plan(HALF, ALL, slices=(LINES,))
    found = told(asked, counts)
    assert found["failed @ unit=b"].outcome is Outcome.WAIT
    assert found["failed @ unit=b"].sentence.startswith(
        "where unit=b: 2 requests of v2@2 in this step; with fewer"
    )
    assert found["failed @ unit=b"].numbers["missing"] > 0
    made = list(found.values())
    assert waits(rollout(asked), made, Progress(requests=1000), 0) == []
    strict = plan(HALF, ALL, slices=(SliceSpec(by="unit", values=("a", "b"), advance="enough"),))
    held = waits(rollout(strict), made, Progress(requests=1000), 0)
    assert [line.startswith("where unit=b") for line in held] == [True]
    assert forecast(rollout(asked), made, Progress(requests=1000), 10**6).requests == 0
    assert forecast(rollout(strict), made, Progress(requests=1000), 10**6).requests != 0


def test_slices_may_have_to_be_shown() -> None:
    shown = SliceSpec(by="unit", values=("a", "b"), advance="shown")
    asked = plan(HALF, ALL, slices=(shown,))
    counts = [count("failed", 70, 70), count("failed @ unit=a", 60, 60, n=3000), count("failed @ unit=b", 10, 10)]
    found = told(asked, counts)
    assert found["failed"].outcome is Outcome.PASS
    assert "shown to be less than 2 times" in found["failed @ unit=a"].sentence
    assert found["failed @ unit=b"].outcome is Outcome.WAIT
    assert len(waits(rollout(asked), list(found.values()), Progress(requests=9000), 0)) == 1


def test_in_the_shadow_slices_wait_for_the_first_share() -> None:
    asked = plan(SHADOW, HALF, ALL, gates=(WRONG, FAILED), slices=(LINES,))
    paired = [Count(step=0, gate="wrong_decision", rho=0.5, x1=9, x0=9, n1=200, n0=200)]
    assert {v.outcome for v in told(asked, paired).values()} == {Outcome.PASS}


def test_each_value_gets_a_place_until_there_is_none() -> None:
    asked = plan(HALF, ALL, slices=(TONGUES,))
    texts = {"tongue": ["en", None, "da", "en", "sv"]}
    found = slices.masks(asked, texts, [])
    assert {part: mask.tolist() for part, mask in found.items()} == {
        "tongue=en": [True, False, False, True, False], "tongue=da": [False, False, True, False, False],
    }  # fmt: skip
    assert list(slices.masks(asked, texts, ["tongue=sv"])) == ["tongue=sv", "tongue=en"]
    assert list(slices.parts_of(asked, {"tongue": "da"}, "", ["tongue=da"])) == ["tongue=da"]
    assert list(slices.parts_of(asked, {"tongue": "fi"}, "", ["tongue=da"])) == []
    assert slices.text_of("n", {"n": 7}, None) == "7"
    assert slices.text_of("n", {"n": 7.5}, None) is None


def observe(made: Rollouts, candidate: list[bool], bad: list[bool], where: list[str], **more: Any) -> None:
    with made.state.begin() as conn:
        now = made.active(conn, NAME)
        assert now is not None
        share = now.plan.share(now.step)
        columns = rows(candidate, share, made.state.clock.now_ns(), status=failing(bad), **more)
        columns["latency_us"] = np.full(len(candidate), 10_000.0)
        parts = slices.masks(now.plan, {"unit": where, "tongue": where}, slices.known(conn, now.id))
        made.observe(conn, made.observed(NAME, now, columns, VERSIONS, parts))


def evidence(made: Rollouts, gate: str) -> list[tuple[float, int, int, int, int]]:
    found = made.describe(made.history(NAME)[0]["id"])["evidence"]
    return [(c["rho"], c["x1"], c["x0"], c["n1"], c["n0"]) for c in found if c["gate"] == gate]


def test_rows_count_in_their_slice_too(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    tongues = SliceSpec(by="tongue", each=1)
    started = made.endpoints[NAME]
    made.endpoints = {NAME: type(started)(input="record", fields={"tongue": Field(type="text")})}
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL, gates=(FAILED, MEAN), slices=(LINES, tongues)))
    observe(made, [True, True, False, False], [True, False, True, False], ["a", "a", "a", "c"])
    observe(made, [True, False], [True, True], ["b", "a"])
    assert evidence(made, "failed") == [(0.5, 2, 2, 3, 3)]
    assert evidence(made, "failed @ unit=a") == [(0.5, 1, 2, 2, 2)]
    assert evidence(made, "failed @ unit=b") == [(0.5, 1, 0, 1, 0)]
    assert evidence(made, "failed @ tongue=a") == [(0.5, 1, 2, 2, 2)]
    assert evidence(made, "failed @ tongue=b") == []  # its place was taken
    assert evidence(made, f"{REQUESTS} @ unit=a") == [(0.5, 2, 2, 2, 2)]
    clock.advance(60.0)
    with made.state.begin() as conn:
        made.reconcile(conn, NAME, made.state.now_us())
    means = {(m["gate"], m["arm"]): m["sums"]["n"] for m in made.describe(made.history(NAME)[0]["id"])["means"]}
    assert means["mean:latency_ms @ unit=a", 1] == "2"
    assert means["mean:latency_ms", 0] == "3"


def test_a_sticky_unit_counts_once_in_each_slice(any_state: State) -> None:
    made = ledger(any_state)
    made.endpoints = {NAME: type(made.endpoints[NAME])(input="record", fields={"tongue": Field(type="text")})}
    chosen = plan(Step(share=0.2), HALF, ALL, assign="unit", slices=(SliceSpec(by="tongue", values=("a", "b")),))
    made.start(NAME, V2, by="ann", plan=chosen)
    observe(made, [True] * 4, [True] * 4, ["a", "a", "b", "b"], unit=[1, 1, 1, 2])
    observe(made, [True] * 2, [True] * 2, ["a", "b"], unit=[1, 1])
    assert evidence(made, "failed") == [(0.2, 2, 0, 2, 0)]
    assert evidence(made, "failed @ tongue=a") == [(0.2, 1, 0, 1, 0)]
    assert evidence(made, "failed @ tongue=b") == [(0.2, 2, 0, 2, 0)]


def test_labels_count_in_the_slice_of_their_request(any_state: State) -> None:
    made = ledger(any_state)
    made.endpoints = {NAME: type(made.endpoints[NAME])(input="record", fields={"tongue": Field(type="text")})}
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL, gates=(WRONG,), slices=(LINES, TONGUES)))
    now = made.active(None, NAME)
    assert now is not None
    observe(made, [True], [False], ["da"])  # a place for its tongue
    with any_state.begin() as conn:
        for number, (unit, tongue, truth, state) in enumerate(
            [("a", "da", "bad", "resolved"), ("a", "fi", "good", "resolved"), ("b", "da", "good", "expired")]
        ):
            item(
                conn, number, truth=truth, rollout=now.id, arm="candidate", share=0.5, unit=unit, state=state,
                version=V2, record=dumps({"tongue": tongue}), created_us=now.created_us,
            )  # fmt: skip
        made.count_labels(conn, now)
    assert evidence(made, "wrong_decision") == [(0.5, 1, 0, 2, 0)]
    assert evidence(made, "wrong_decision @ unit=a") == [(0.5, 1, 0, 2, 0)]
    assert evidence(made, "wrong_decision @ tongue=da") == [(0.5, 1, 0, 1, 0)]
    assert evidence(made, "wrong_decision @ tongue=fi") == []
    assert evidence(made, f"{MISSING} @ unit=b") == [(0.5, 1, 0, 1, 0)]
    with any_state.begin() as conn:
        made.count_labels(conn, now)
        made.forget()
        made.count_labels(conn, now)
    assert evidence(made, "wrong_decision @ unit=a") == [(0.5, 1, 0, 2, 0)]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (SliceSpec(by="unit"), "either values, a list, or each"),
        (SliceSpec(by="unit", values=("a",), each=3), "either values, a list, or each"),
        (SliceSpec(by="unit", values=("a", "a")), "each value once"),
        (SliceSpec(by="unit", each=65), "at most 64 values"),
        (SliceSpec(by="age", each=3), "age is a float"),
        (SliceSpec(by="name", each=3), "name is masked"),
        (SliceSpec(by="city", each=3), "expected unit, tongue, got 'city'"),
    ],
)
def test_slices_that_cannot_be_are_refused(state: State, bad: SliceSpec, why: str) -> None:
    made = ledger(state)
    fields = {
        "tongue": Field(type="category"), "age": Field(type="float"), "name": Field(type="text", masked=True),
    }  # fmt: skip
    made.endpoints = {NAME: type(made.endpoints[NAME])(input="record", fields=fields)}
    with pytest.raises(ConflictError, match=why):
        made.start(NAME, V2, by="ann", plan=plan(HALF, ALL, slices=(bad,)))


def test_a_unit_with_one_version_is_no_slice() -> None:
    assert "one unit has one version" in "; ".join(problems(plan(HALF, ALL, assign="unit", slices=(LINES,))))
    assert problems(plan(HALF, ALL, assign="unit_epoch", slices=(LINES,))) == []
    assert alone(plan(HALF, ALL, slices=(LINES,))).slices == ()


def test_the_plan_in_words_names_the_slices() -> None:
    said = "\n".join(in_words(plan(FIVE, ALL, gates=(FAILED, LATE), slices=(LINES, TONGUES))))
    assert "judged apart by unit: a, b; harm in one rolls back, too little of one does not hold a step" in said
    assert "judged apart by tongue: each value, the first 2" in said
