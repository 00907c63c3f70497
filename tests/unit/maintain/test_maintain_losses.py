"""The comparison of two versions by the loss that the project names."""

from __future__ import annotations

import numpy as np
import pytest
from maintain_world import World, add_judged

from tenure.deploy import loss
from tenure.maintain import compare
from tenure.maintain.compare import judge
from tenure.maintain.dataset import build_snapshot
from tenure.maintain.snapshot import Row
from tenure.scope.project import LossSpec
from tenure.stats import champion
from tenure.types import Box, Prediction, Value

BOX, FAR = Box(0, 0, 10, 10, "crack"), Box(50, 50, 60, 60, "crack")
COSTS = LossSpec(costs={"defect": {"good": 10.0}, "good": {"defect": 1.0}})


def row(i: int, label: Value = "a", boxes: tuple[Box, ...] = (), unit: str = "") -> Row:
    return Row(
        id=str(i), label=label, boxes=boxes, at_us=i, split="test", source="single", kind="uncertain", unit=unit
    )


@pytest.mark.parametrize(
    ("by", "truth", "said", "found"),
    [
        (loss.EQUAL, row(0, True), Prediction(1), 1.0),
        (LossSpec(tolerance=0.5), row(0, 3.0), Prediction(3.4), 0.0),
        (LossSpec(tolerance=0.5), row(0, 3.0), Prediction(3.6), 1.0),
        (LossSpec(word_error=0.3), row(0, "one two three four"), Prediction("one two three for"), 0.0),
        (LossSpec(iou=0.5), row(0, "defect", (BOX,)), Prediction("defect", regions=(BOX,)), 0.0),
        (LossSpec(iou=0.5), row(0, "defect", (BOX,)), Prediction("defect", regions=(FAR,)), 1.0),
        (COSTS, row(0, "good"), Prediction("defect"), 0.1),
        (COSTS, row(0, "defect"), Prediction("good"), 1.0),
    ],
)
def test_what_is_wrong_is_what_the_project_says(by: LossSpec, truth: Row, said: Prediction, found: float) -> None:
    assert compare._loss(by, truth, said) == pytest.approx(found)


def test_losses_between_zero_and_one_are_compared_by_bets() -> None:
    rng, n = np.random.default_rng(1), 1200
    new, old = (np.where(rng.random(n) < rate, 0.1, 0.0) for rate in (0.02, 0.2))
    found = judge([row(i) for i in range(n)], new.tolist(), old.tolist())
    assert found.p == champion.compare_losses(new - old, margin=0.02).p
    assert found.verdict == "not worse"
    assert (found.challenger_errors, found.champion_loss) == (int((new > 0).sum()), pytest.approx(old.mean()))
    told = compare.sentence(found)
    assert "mean loss 0.00" in told
    assert f"higher in {found.b}, lower in {found.c}" in told


def test_units_take_losses_too() -> None:
    n = 400
    new, old = [0.1 * (i % 3 == 0) for i in range(n)], [0.1 * (i % 2 == 0) for i in range(n)]
    found = judge([row(i, unit=f"u{i % 40}") for i in range(n)], new, old)
    sums = [sum(new[i] - old[i] for i in range(u, n, 40)) for u in range(40)]
    assert found.p == pytest.approx(champion.compare_units([10] * 40, sums, margin=0.02).p)


def test_answers_without_labels_are_not_cut_by_label() -> None:
    cases = [row(i, float(i)) for i in range(300)]
    assert judge(cases, [0.0] * 300, [1.0] * 300, sliced=False).slices == {}


def test_few_cases_show_nothing() -> None:
    found = judge([row(i) for i in range(100)], [0.0] * 100, [0.1] * 100)
    assert (found.verdict, found.p) == ("too few", None)


def test_versions_are_run_and_judged_by_the_loss(world: World) -> None:
    version = world.registry.get(world.first_version())
    add_judged(world.state, world.clock, [f"a{i:05d}" for i in range(40)])
    with world.state.begin() as conn:
        made = build_snapshot(
            conn, "phones", world.data, since_us=0, payload=lambda _: None, now_us=1, test_share=0.5
        )
    found = compare.compare(made, version, version, by=COSTS)
    assert (found.b, found.c, found.verdict) == (0, 0, "too few")
    assert found.loss == "cost of mistakes, in parts of the dearest (10)"
    assert found.loss in found.sentence
    plain = compare.compare(made, version, version)
    assert (plain.loss, plain.challenger_errors) == ("", found.challenger_errors)
