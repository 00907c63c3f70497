"""Gates on means: the oracles, what arms them, how sums are kept, and when they are looked at."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from rollout_rig import ALL, FIVE, HALF, NAME, SHADOW, V2, VERSIONS, ledger, plan, rollout, rows
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.rollout import moments
from tenure.deploy.rollout.advance import Verdict
from tenure.deploy.rollout.counts import Moments
from tenure.deploy.rollout.judge import FAMILY, judge
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.outline import in_words
from tenure.deploy.rollout.plan import Plan, problems
from tenure.deploy.rollout.values import STEPS, gather
from tenure.scope.project import GateSpec, Step
from tenure.stats.means import Sums, row_sums, unit_sums
from tenure.types import Outcome

SLOW = GateSpec(mean="latency_ms", harm="up", cap=100.0, margin=2.0)
SURE = GateSpec(mean="confidence", harm="down", cap=1.0, margin=0.05)
CLICKS = GateSpec(mean="reaction:click", harm="down", cap=10.0, margin=1.0, maturity=60.0)


def spread(mean: float, se: float, units: int, cap: float = 100.0) -> Sums:
    """Return units, half a little above and half below, whose mean has this standard error."""
    off = se * math.sqrt(units - 1)
    steps = np.rint(np.repeat([mean - off, mean + off], units // 2) / cap * STEPS).astype(np.int64)
    return row_sums(steps)


def both(step: int, one: Sums, two: Sums, gate: GateSpec = SLOW) -> list[Moments]:
    return [Moments(step=step, gate=gate.name, arm=arm, sums=sums) for arm, sums in ((1, one), (0, two))]


def verdict(asked: Plan, found: list[Moments], step: int = 0, gate: GateSpec = SLOW, **reached: float) -> Verdict:
    told = judge(rollout(asked, step=step), [], reached, moments=found)
    return next(v for v in told if v.gate == gate.name)


def test_the_evidence_is_that_of_the_specification() -> None:
    """Z = 3, V = 4: one-sided 32.6151; with two steps that split, their average."""
    se = 0.1 / math.sqrt(2.0)
    found = both(0, spread(50.3, se, 1000), spread(50.0, se, 1000))
    gate = GateSpec(mean="latency_ms", harm="up", cap=100.0, margin=2.0, effect=0.2)
    one = verdict(plan(HALF, ALL, gates=(gate,)), found, gate=gate)
    assert math.exp(one.numbers["log_e"]) == pytest.approx(32.6151, rel=0.01)
    assert one.numbers["se"] == pytest.approx(0.1, rel=1e-3)
    assert one.outcome is Outcome.FAIL
    two = verdict(plan(FIVE, HALF, ALL, gates=(gate,)), found, gate=gate)
    assert math.exp(two.numbers["log_e"]) == pytest.approx((32.6151 + 1.0) / 2.0, rel=0.01)
    assert two.outcome is Outcome.PASS
    turned = msg(gate, harm="down")
    better = verdict(plan(HALF, ALL, gates=(turned,)), found, gate=turned)
    assert better.outcome is Outcome.PASS
    assert better.numbers["log_e"] < math.log(0.163113)


def msg(gate: GateSpec, **fields: Any) -> GateSpec:
    known = {name: getattr(gate, name) for name in GateSpec.__struct_fields__}
    return GateSpec(**(known | fields))


def test_a_pass_says_the_band_the_cap_and_what_is_absent() -> None:
    found = [
        Moments(step=0, gate=SLOW.name, arm=1, sums=spread(50.3, 0.4, 400), capped=4, absent=2),
        Moments(step=0, gate=SLOW.name, arm=0, sums=spread(50.0, 0.1, 4000), capped=10),
    ]
    said = verdict(plan(HALF, ALL, gates=(SLOW,)), found)
    assert said.outcome is Outcome.PASS
    assert said.sentence.startswith("mean latency_ms 50.3 of v2@2 in 400 requests against 50 of v1@1 in 4,000, ")
    assert "a difference of +0.3, about 95 % -" in said.sentence
    assert "1.00% and 0.25% of the values lie beyond 0 to 100" in said.sentence
    assert "2 and 0 requests without a value" in said.sentence
    assert said.numbers["low"] < 0.3 < said.numbers["high"]


def test_shown_needs_a_difference_below_the_margin() -> None:
    asked = plan(HALF, ALL, gates=(SLOW,), advance="shown")
    wide = verdict(asked, both(0, spread(50.0, 2.0, 200), spread(50.0, 2.0, 200)))
    assert (wide.outcome, "not yet shown to be less than 2 higher (about 95 %)" in wide.sentence) == (
        Outcome.WAIT, True,
    )  # fmt: skip
    close = verdict(asked, both(0, spread(50.0, 0.3, 200), spread(50.0, 0.3, 200)))
    assert (close.outcome, "shown to be less than 2 higher" in close.sentence) == (Outcome.PASS, True)
    at = verdict(asked, both(0, spread(52.0, 0.3, 200), spread(50.0, 0.3, 200)))
    assert at.outcome is Outcome.FAIL  # at the margin it is harm by now


def test_few_or_very_unequal_units_do_not_arm_it() -> None:
    asked = plan(HALF, ALL, gates=(SLOW,))
    assert verdict(asked, []).outcome is Outcome.NO_DATA
    few = verdict(asked, both(0, spread(90.0, 0.1, 80), spread(10.0, 0.1, 400)))
    assert (few.outcome, few.numbers["log_e"], few.numbers["missing"]) == (Outcome.WAIT, 0.0, 40)
    assert few.sentence == "80 requests of v2@2 in this step; a mean needs 100, 20 more"
    whale = unit_sums(5000, 5000 * STEPS)
    one = verdict(asked, both(0, spread(90.0, 0.1, 400) + whale, spread(10.0, 0.1, 400)))
    assert one.outcome is Outcome.WAIT
    assert "tell as much as 1 alike; a mean needs 50" in one.sentence
    alike = verdict(asked, both(0, row_sums(np.full(500, 7)), spread(10.0, 0.1, 400)))
    assert alike.outcome is Outcome.WAIT


def test_shadow_and_all_requests_split_nothing() -> None:
    asked = plan(SHADOW, HALF, ALL, gates=(SLOW,))
    assert verdict(asked, [], step=0).outcome is Outcome.PASS
    assert verdict(asked, [], step=2).outcome is Outcome.PASS


def test_a_mean_shares_the_family() -> None:
    se = 0.1 / math.sqrt(2.0)
    found = both(0, spread(50.3, se, 1000), spread(50.0, se, 1000))
    gate = msg(SLOW, effect=0.2)
    asked = rollout(plan(HALF, ALL, gates=(gate, GateSpec(bad="failed"))))
    told = {v.gate: v for v in judge(asked, [], {}, moments=found)}
    assert math.exp(told[FAMILY].numbers["log_e"]) == pytest.approx((32.6151 + 1.0) / 2.0, rel=0.01)
    kept = {v.gate: v for v in judge(asked, [], {FAMILY: 3.1, gate.name: 3.8})}
    assert kept[gate.name].outcome is Outcome.FAIL  # what was reached stays reached


def test_values_are_capped_counted_and_gathered_by_unit() -> None:
    values = np.array([-5.0, 50.0, 250.0, np.nan, 10.0, 20.0, math.inf])
    arm = np.array([True, True, True, True, False, False, False])
    units = ["", "", "a", "a", "b", "b", ""]
    told = gather(SLOW, values, arm, units=units, epochs=[0] * 7)
    assert told.rows[0] == row_sums(np.array([0, STEPS // 2]))
    assert told.rows[1] == row_sums(np.array([STEPS]))
    assert [(p.unit, p.candidate, p.n, p.y) for p in told.units] == [
        ("a", True, 1, STEPS), ("b", False, 2, STEPS * 3 // 10),
    ]  # fmt: skip
    assert (told.capped, told.absent) == ((2, 1), (1, 0))


def serve(made: Rollouts, candidate: list[bool], ms: list[float], units: list[int] | None = None) -> None:
    with made.state.begin() as conn:
        add(made, conn, candidate, ms, units)


def add(made: Rollouts, conn: Any, candidate: list[bool], ms: list[float], units: list[int] | None) -> None:
    now = made.active(conn, NAME)
    assert now is not None
    share, at_ns = now.plan.share(now.step), made.state.clock.now_ns()
    columns = rows(candidate, share, at_ns, **({} if units is None else {"unit": units}))
    columns["latency_us"] = np.array(ms) * 1000.0
    made.observe(conn, made.observed(NAME, now, columns, VERSIONS))


def killed(made: Rollouts, batch: tuple[list[bool], list[float], list[int]]) -> None:
    with made.state.begin() as conn:
        add(made, conn, *batch)
        raise RuntimeError("killed between two writes")


def look(made: Rollouts) -> list[str]:
    with made.state.begin() as conn:
        return [m.kind for m in made.reconcile(conn, NAME, made.state.now_us())]


def sums(made: Rollouts) -> dict[tuple[int, int], Sums]:
    number = made.history(NAME)[0]["id"]
    with made.state.read() as conn:
        return {(m.step, m.arm): m.sums for m in moments.read(conn, number)}


def test_gates_look_at_fixed_times_only(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL, gates=(SLOW,)))
    serve(made, [True, False], [10.0, 20.0])
    look(made)
    assert sums(made) == {(0, 1): Sums(), (0, 0): Sums()}
    clock.advance(moments.LOOK_US / 1e6)
    look(made)
    first = {(0, 1): row_sums(np.array([STEPS // 10])), (0, 0): row_sums(np.array([STEPS // 5]))}
    assert sums(made) == first
    serve(made, [True, False], [30.0, 30.0])
    look(made)
    assert sums(made) == first
    clock.advance(moments.LOOK_US / 1e6)
    look(made)
    assert sums(made)[0, 1].n == 2
    told = made.describe(made.history(NAME)[0]["id"])["means"]
    assert told[1]["sums"]["y"] == str(sums(made)[0, 1].y)


def test_a_unit_counts_as_one_however_often_it_comes(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    chosen = plan(Step(share=0.2), HALF, ALL, assign="unit", gates=(SLOW,))
    number = made.start(NAME, V2, by="ann", plan=chosen)
    serve(made, [True, True, False, False], [10.0, 20.0, 30.0, 40.0], [1, 1, 2, 0])
    serve(made, [True, False, True], [30.0, 50.0, 60.0], [1, 2, 3])
    made.promote(number, by="ann")
    serve(made, [True], [70.0], [2])  # of another step, which is compared within itself
    clock.advance(60.0)
    look(made)
    tenth = STEPS // 10
    assert sums(made)[0, 1] == unit_sums(3, 6 * tenth) + unit_sums(1, 6 * tenth)
    assert sums(made)[0, 0] == unit_sums(2, 8 * tenth) + unit_sums(1, 4 * tenth)
    assert sums(made)[1, 1] == unit_sums(1, 7 * tenth)


def test_a_unit_is_drawn_anew_in_each_epoch(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL, assign="unit_epoch", epoch=60.0, gates=(SLOW,)))
    serve(made, [True, True], [10.0, 10.0], [1, 1])
    clock.advance(60.0)
    serve(made, [False], [20.0], [1])
    look(made)
    tenth = STEPS // 10
    clock.advance(60.0)
    look(made)
    assert sums(made) == {(0, 1): unit_sums(2, 2 * tenth), (0, 0): unit_sums(1, 2 * tenth)}


def test_a_transaction_that_is_rolled_back_leaves_no_trace(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL, assign="unit", gates=(SLOW,)))
    batch: tuple[list[bool], list[float], list[int]] = ([True, False, True], [10.0, 20.0, 30.0], [1, 2, 0])
    serve(made, *batch)
    with pytest.raises(RuntimeError, match="killed"):
        killed(made, batch)
    made.forget()
    serve(made, *batch)  # read again from the same position
    clock.advance(60.0)
    look(made)
    tenth = STEPS // 10
    assert sums(made)[0, 1] == unit_sums(2, 2 * tenth) + row_sums(np.array([3 * tenth, 3 * tenth]))
    assert sums(made)[0, 0] == unit_sums(2, 4 * tenth)


def test_an_end_keeps_the_sums_and_a_jump_back_begins_anew(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    number = made.start(NAME, V2, by="ann", plan=plan(FIVE, HALF, ALL, gates=(SLOW,)))
    made.promote(number, by="ann")
    serve(made, [True, False], [10.0, 20.0])
    clock.advance(60.0)
    look(made)
    made.jump(number, 0, by="ann")
    assert sums(made) == {}
    assert made.describe(number)["moves"][-1]["numbers"]["means"][0]["gate"] == SLOW.name
    serve(made, [True, False], [10.0, 20.0])
    clock.advance(60.0)
    look(made)
    made.rollback(number, by="ann")
    assert len(sums(made)) == 2
    with made.state.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(t.mean_units)).scalar() == 0


def test_reactions_with_a_number_are_averaged_when_mature(any_state: State, clock: ManualClock) -> None:
    made = ledger(any_state)
    made.start(NAME, V2, by="ann", plan=plan(HALF, ALL, gates=(CLICKS,)))
    now = made.active(None, NAME)
    assert now is not None
    columns = rows([True, True, True, False, False], 0.5, clock.now_ns())
    columns["seq"] = np.arange(5, dtype="<u8")
    made.saw(now, 1, columns, VERSIONS)
    at_us = clock.now_ns() // 1000
    told: list[tuple[int, Any]] = [(0, 2.5), (0, 9.0), (1, None), (2, False), (3, 99.0), (4, 10**400)]
    for seq, value in told:
        made.heard(NAME, (1, seq), "click", value, at_us + 5)
    look(made)
    assert sums(made) == {}
    for _ in range(2):
        clock.advance(80.0)
        later = rows([False], 0.5, clock.now_ns())
        later["seq"] = np.arange(1, dtype="<u8")
        made.saw(now, 99, later, VERSIONS)
        look(made)
    tenth = STEPS // 10
    assert sums(made)[0, 1] == row_sums(np.array([tenth * 5 // 2, tenth, 0]))  # 2.5, a bare click, none
    assert sums(made)[0, 0].n == 3  # 99 capped at 10, one without a usable number, and the first later one
    assert sums(made)[0, 0].y == STEPS + tenth


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (GateSpec(), "either bad"),
        (GateSpec(bad="failed", mean="number"), "either bad"),
        (GateSpec(mean="speed"), "expected number, confidence"),
        (msg(SLOW, harm=None), "needs harm: up or down"),
        (msg(SLOW, cap=None), "needs cap"),
        (msg(SLOW, cap=0.0), "must be above floor"),
        (msg(SLOW, margin=None), "needs margin"),
        (msg(SLOW, margin=101.0), "no difference above 100"),
        (msg(SLOW, constant=0.5), "leave constant out"),
        (msg(CLICKS, maturity=0.0), "needs maturity"),
        (GateSpec(bad="failed", cap=2.0), "cap belongs to a mean"),
    ],
)
def test_means_that_cannot_be_are_refused(bad: GateSpec, why: str) -> None:
    assert why in "; ".join(problems(plan(HALF, ALL, gates=(bad,))))


def test_the_plan_in_words_says_what_is_averaged() -> None:
    said = in_words(plan(HALF, ALL, gates=(SLOW, SURE)))
    assert any(
        "mean latency_ms (worse when higher, from 0 to 100, margin 2; about 95 %)" in line for line in said
    )
