"""The replay on made-up logs whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tenure.deploy.replay.replay import replay
from tenure.deploy.replay.stages import Replayed
from tenure.deploy.replay.traffic import NEVER, Arms, Labels, Origin, Traffic, coupled, coverage, draws, kept
from tenure.deploy.rollout.plan import WRONG, Plan
from tenure.scope.project import GateSpec, SliceSpec, Step

SECOND = 1_000_000_000
RAMP = (Step(share=0.1, min=100), Step(share=0.5, min=500), Step(share=1.0))


def plan(*steps: Step, gate: str = "failed", **fields: object) -> Plan:
    made = {"steps": steps or RAMP, "gates": (GateSpec(bad=gate),)} | fields  # type: ignore[arg-type]
    return Plan(**made)  # type: ignore[arg-type]


def log(
    n: int,
    *,
    share: float,
    base: float = 0.02,
    harm: float = 1.0,
    both: bool = False,
    seed: int = 1,
    units: int = 0,
) -> tuple[Traffic, Arms]:
    """Return a log whose own canary had `share`, and what each version would have answered to every request."""
    rng = np.random.default_rng(seed)
    luck, mine = rng.random(n), rng.random(n) < share
    bad = Arms(luck < base * harm, luck < base)
    known = Arms(np.ones(n, bool), np.ones(n, bool)) if both else Arms(mine, ~mine)
    shown = Arms(bad.candidate & known.candidate, bad.stable & known.stable)
    traffic = Traffic(
        run=np.ones(n, "u8"), seq=np.arange(n, dtype="u8"), t_ns=np.arange(n, dtype="i8") * SECOND,
        unit=rng.integers(1, units + 1, n).astype("u8") if units else np.zeros(n, "u8"),
        chance=np.full(n, share), known=dict.fromkeys(("failed", "over_latency", WRONG), known),
        bad={"failed": shown, WRONG: shown}, labels=judged(n),
    )  # fmt: skip
    return traffic, bad


def judged(n: int) -> Labels:
    """Return labels of all requests, each a minute after it."""
    every, at = np.ones(n, bool), (np.arange(n, dtype="i8") + 60) * SECOND
    return Labels(every, every, every, every, at, at)


def run(traffic: Traffic, chosen: Plan) -> Replayed:
    return replay(traffic, chosen, candidate="v2@2", stable="v1@1", least_look_s=40.0)


def test_a_good_version_completes_and_a_bad_one_falls_back() -> None:
    good = run(log(6000, share=0.5)[0], plan())
    assert (good.state, [s.outcome for s in good.stages]) == ("completed", ["advanced", "advanced", "completed"])
    bad = run(log(6000, share=0.5, harm=6.0)[0], plan())
    assert bad.state == "rolled_back"
    assert bad.stages[-1].verdicts["failed"]["outcome"] == "fail"
    assert bad.requests < 6000
    assert "failed" in bad.stages[-1].reason


def test_a_smaller_first_share_serves_fewer_bad_answers() -> None:
    traffic = log(20_000, share=0.5, harm=6.0, both=True)[0]
    careful = run(traffic, plan(Step(share=0.01, min=100), *RAMP[1:]))
    bold = run(traffic, plan(Step(share=0.5, min=500), Step(share=1.0)))
    assert careful.state == bold.state == "rolled_back"
    assert careful.bad["failed"] < bold.bad["failed"]
    assert careful.at_us > bold.at_us


def test_with_shadow_answers_the_bad_answers_are_counted_exactly() -> None:
    traffic, bad = log(5000, share=0.1, both=True)
    found = run(traffic, plan())
    drawn = draws(traffic, plan())
    served, at = 0, 0
    for stage, step in zip(found.stages, RAMP, strict=True):
        rows = np.arange(at, at + stage.requests)
        served += int(bad.candidate[rows[drawn[rows] < (step.share or 0.0)]].sum())
        at += stage.requests
        assert stage.shown == stage.drawn
    assert found.bad["failed"] == served
    assert found.log == {"both": 1.0, "candidate": 0.0, "stable": 0.0, "neither": 0.0}


def test_without_shadow_answers_the_estimate_is_right_on_average() -> None:
    estimates, truths = [], []
    for seed in range(20):
        traffic, bad = log(3000, share=0.3, base=0.05, seed=seed)
        found = run(traffic, plan(Step(share=0.5, min=10_000), Step(share=1.0), gate="failed"))
        estimates.append(found.bad["failed"])
        truths.append(int(bad.candidate[: found.requests][draws(traffic, plan())[: found.requests] < 0.5].sum()))
    spread = float(np.std(np.subtract(estimates, truths))) / 20**0.5
    assert abs(np.mean(estimates) - np.mean(truths)) < 4 * spread
    assert spread > 0


@pytest.mark.parametrize(("share", "steps"), [(0.05, RAMP), (0.5, RAMP), (0.9, RAMP), (0.2, (RAMP[1], RAMP[2]))])
def test_a_version_that_is_no_worse_rarely_falls_back(share: float, steps: tuple[Step, ...]) -> None:
    """The log's share and the plan's differ; a false share in the gate would break the promise."""
    backs = sum(
        run(log(3000, share=share, base=0.05, seed=s)[0], plan(*steps)).state == "rolled_back" for s in range(20)
    )
    assert backs <= 20 * 0.05 + 3 * (20 * 0.05 * 0.95) ** 0.5


def drawn_alike(n: int, *, shares: tuple[float, float], assign: str = "request", seed: int = 1) -> Traffic:
    """Return a log whose ramp drew by a salt that is known; units differ in how often they are bad."""
    rng = np.random.default_rng(seed)
    made = log(n, share=0.5, units=0 if assign == "request" else 300, seed=seed)[0]
    origin = Origin(salt=f"s{seed}", assign=assign, epoch=600.0, since_ns=0, until_ns=NEVER)  # type: ignore[arg-type]
    made = replace(
        made, chance=np.repeat(shares, n // 2), origin=origin, units=[f"u{u}" for u in made.unit.tolist()]
    )
    mine = draws(made, plan(assign=assign)) < made.chance
    known, rates = Arms(mine, ~mine), 0.2 * rng.random(301) ** 3
    wrong = rng.random(n) < rates[made.unit.astype(int)] if assign != "request" else rng.random(n) < 0.05
    bad = Arms(wrong & mine, wrong & ~mine)
    return replace(made, known=dict.fromkeys(made.known, known), bad=dict.fromkeys(made.bad, bad))


@pytest.mark.parametrize("assign", ["request", "unit", "unit_epoch"])
def test_by_the_logs_own_draw_a_good_version_rarely_falls_back_too(assign: str) -> None:
    backs = 0
    for seed in range(16):
        traffic = drawn_alike(3000, shares=(0.1, 0.5), assign=assign, seed=seed)
        chosen = plan(Step(share=0.25, min=500), RAMP[2], assign=assign)
        assert coupled(traffic, chosen, draws(traffic, chosen)).all()
        backs += run(traffic, chosen).state == "rolled_back"
    assert backs <= 16 * 0.05 + 3 * (16 * 0.05 * 0.95) ** 0.5


def test_by_the_logs_own_draw_an_equal_share_leaves_nothing_out() -> None:
    traffic = drawn_alike(3000, shares=(0.5, 0.5))
    long = (Step(share=0.5, min=3000), Step(share=1.0))
    found = run(traffic, plan(*long)).stages[0]
    told = found.verdicts["failed"]
    assert (found.shown, told["n1"] + told["n0"]) == (found.drawn, found.requests)
    assert found.bad["failed"] == traffic.bad["failed"].candidate[: found.requests].sum()
    fewer = run(traffic, plan(Step(share=0.2, min=10_000), Step(share=1.0))).stages[0]
    assert fewer.shown == fewer.drawn  # whoever is drawn at 20 % was drawn at 50 %
    assert fewer.verdicts["failed"]["n1"] / 2100 == pytest.approx(0.2 / 0.7, rel=0.1)


def test_units_of_another_plan_are_drawn_anew() -> None:
    traffic = drawn_alike(300, shares=(0.5, 0.5), assign="unit")
    for other in (plan(assign="unit_epoch"), plan(assign="request")):
        assert not coupled(traffic, other, draws(traffic, other)).any()
    gone = replace(traffic, units=[None] * 300)
    assert not coupled(gone, plan(assign="unit"), draws(gone, plan(assign="unit"))).any()


def test_a_log_without_the_candidate_shows_nothing() -> None:
    found = run(log(2000, share=0.0)[0], plan())
    assert (found.state, found.stages[0].shown) == ("running", 0)
    assert "no requests of v2@2" in found.stages[0].reason
    assert found.log["stable"] == 1.0


def test_the_way_from_shadow_needs_labels_and_a_paired_gate() -> None:
    steps = (Step(shadow=1.0, min_labels=300), Step(share=1.0))
    good = run(log(3000, share=0.0, both=True)[0], plan(*steps, gate=WRONG))
    assert good.state == "completed"
    assert good.stages[0].bad == {WRONG: 0.0}  # nobody saw its answers
    assert good.stages[0].verdicts[WRONG]["n1"] >= 300
    bad = run(log(3000, share=0.0, both=True, harm=6.0)[0], plan(*steps, gate=WRONG))
    assert (bad.state, bad.bad) == ("rolled_back", {WRONG: 0.0})


def test_a_unit_counts_once_and_stays_with_its_version() -> None:
    traffic = log(4000, share=0.5, both=True, base=0.5, units=40)[0]
    chosen = plan(Step(share=0.5, min=5000), Step(share=1.0), assign="unit")
    found = run(traffic, chosen)
    told = found.stages[0].verdicts["failed"]
    assert told["x1"] + told["x0"] == 40
    drawn = draws(traffic, chosen)
    assert all(len(set(drawn[traffic.unit == u])) == 1 for u in range(1, 41))
    epochs = draws(traffic, plan(assign="unit_epoch", epoch=600.0))
    assert len(set(epochs[traffic.unit == 1])) > 1


def test_a_constant_is_replayed_also_where_the_candidate_answers_all() -> None:
    chosen = plan(gates=(GateSpec(bad="failed", constant=0.04),))
    assert run(log(6000, share=0.5)[0], chosen).state == "completed"
    assert run(log(6000, share=0.5, harm=8.0)[0], chosen).state == "rolled_back"


def test_bake_time_is_that_of_the_log() -> None:
    found = run(log(4000, share=0.5)[0], plan(Step(share=0.5, bake=1800.0), Step(share=1.0)))
    assert found.stages[0].ended_us - found.stages[0].began_us >= 1800 * 1_000_000


def test_the_chance_to_be_kept_is_one_where_both_answered() -> None:
    traffic = log(100, share=0.3)[0]
    new, old = kept(traffic, "failed", np.arange(100), share=0.5, same=np.zeros(100, bool))
    assert np.allclose(new, 0.3)
    assert np.allclose(old, 0.7)
    assert abs(coverage(traffic)["candidate"] - 0.3) < 0.2
    with pytest.raises(ValueError, match="no request"):
        run(log(0, share=0.3)[0], plan())


def valued(n: int, *, less: float = 0.0, share: float = 0.3, units: int = 0, seed: int = 6) -> Traffic:
    """Return a log with confidences, of which the candidate's are lower, and two lines by turns."""
    traffic = log(n, share=share, units=units, seed=seed)[0]
    rng = np.random.default_rng(seed)
    sure = rng.uniform(0.5, 1.0, n)
    known = traffic.known["failed"]
    one, two = np.where(known.candidate, sure - less, np.nan), np.where(known.stable, sure, np.nan)
    return replace(
        traffic,
        values={"confidence": (one, two)},
        texts={"unit": [("a", "b")[i % 2] for i in range(n)]},
    )


SURE = GateSpec(mean="confidence", harm="down", cap=1.0, margin=0.05)


@pytest.mark.parametrize("units", [0, 600])
def test_a_mean_is_replayed_from_re_weighted_answers(units: int) -> None:
    long = (Step(share=0.5, min=4000), Step(share=1.0))
    chosen = plan(*long, gates=(SURE,), assign="unit" if units else "request")
    good = run(valued(12_000, units=units), chosen)
    told = good.stages[0].verdicts[SURE.name]
    assert good.state != "rolled_back"
    assert abs(told["mean0"] - 0.75) < 0.02
    assert told["units0"] <= (units or 12_000)
    bad = run(valued(12_000, less=0.1, units=units), chosen)
    assert bad.state == "rolled_back"
    assert bad.stages[-1].reason.startswith("mean confidence 0.6")


def test_slices_are_replayed_apart() -> None:
    traffic = valued(12_000)
    known = traffic.known["failed"]
    luck = np.random.default_rng(8).random(12_000)
    where = np.arange(12_000) % 2 == 1
    bad = Arms(known.candidate & (luck < np.where(where, 0.2, 0.02)), known.stable & (luck < 0.1))
    traffic = replace(traffic, bad={"failed": bad, WRONG: bad})
    long = (Step(share=0.5, min=4000), Step(share=1.0))
    assert run(traffic, plan(*long)).state == "completed"
    for by in (SliceSpec(by="unit", values=("a", "b")), SliceSpec(by="unit", each=2)):
        found = run(traffic, plan(*long, slices=(by,)))
        assert found.state == "rolled_back"
        assert found.stages[-1].reason.startswith("where unit=b: ")


def test_a_good_version_with_means_and_slices_is_seldom_rolled_back() -> None:
    chosen = plan(gates=(GateSpec(bad="failed"), SURE), slices=(SliceSpec(by="unit", each=2),))
    ends = [run(valued(2000, seed=seed), chosen).state for seed in range(8)]
    assert ends.count("rolled_back") <= 1
