"""Plans with means and slices as people write them: read with units, refused with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenure.deploy.rollout.outline import in_words
from tenure.deploy.rollout.plan import plan_from_spec, problems
from tenure.errors import ProjectError
from tenure.scope.project import SliceSpec
from tenure.scope.reader import load_plan, load_project

PLAN = """steps:
  - {share: 25%, min: 500}
  - {share: 100%}
gates:
  - {bad: wrong_decision, missing: at_random}
  - {mean: latency_ms, harm: up, cap: 2000, margin: 20, effect: 40}
  - {mean: "reaction:click", harm: down, cap: 50, margin: 0.5, maturity: 1h}
slices:
  - {by: language, values: [da, en]}
  - {by: unit, each: 8, advance: enough}
"""
PROJECT = """project: shop
scope: {y: {labels: [good, bad]}}
endpoints:
  offers:
    input: record
    automation: {max: assist}
    fields:
      language: {type: category, values: [da, en]}
      name: {type: text, masked: true}
    rollout:
"""


def wrong(folder: Path, old: str, new: str) -> str:
    """Return the one fault of the plan with a change."""
    assert old in PLAN
    file = folder / "plan.yaml"
    file.write_text(PLAN.replace(old, new))
    with pytest.raises(ProjectError) as caught:
        load_plan(file, None)
    (fault,) = caught.value.faults
    return fault


def test_a_plan_file_is_read_and_told(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    plan = plan_from_spec(load_plan(file, None))
    assert [gate.name for gate in plan.gates] == ["wrong_decision", "mean:latency_ms", "mean:reaction:click"]
    assert (plan.gates[1].cap, plan.gates[1].effect, plan.gates[2].maturity) == (2000.0, 40.0, 3600.0)
    assert plan.slices == (
        SliceSpec(by="language", values=("da", "en")), SliceSpec(by="unit", each=8, advance="enough"),
    )  # fmt: skip
    assert (problems(plan), plan.places) == ([], 10)
    told = "\n".join(in_words(plan))
    assert "mean latency_ms (worse when higher, from 0 to 2000, margin 20, found from 40 on; about 95 %)" in told
    assert "judged apart by unit: each value, the first 8" in told


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (", harm: up", "", "plan.yaml:6: gates[1]: a mean needs harm"),
        ("cap: 2000", "cap: -1", "plan.yaml:6: gates[1].cap: cap -1 must be above floor 0"),
        ("mean: latency_ms", "mean: speed", "plan.yaml:6: gates[1].mean: expected number, confidence"),
        (", maturity: 1h", "", "plan.yaml:7: gates[2]: a reaction needs maturity"),
        ("missing: at_random", "cap: 3", "plan.yaml:5: gates[0].cap: cap belongs to a mean"),
        ("values: [da, en]", "values: [da, da]", "plan.yaml:9: slices[0].values: expected each value once"),
        ("each: 8", "each: 8, values: [a]", "plan.yaml:10: slices[1].values: expected either values"),
        ("by: unit", "by: language", "plan.yaml:9: slices: two slices are by language"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert says in wrong(tmp_path, old, new).replace("rollout.", "")


@pytest.mark.parametrize(
    ("by", "says"),
    [("language", ""), ("unit", ""), ("name", "name is masked"), ("age", "unit, language, got 'age'")],
)
def test_a_project_file_knows_its_fields(tmp_path: Path, by: str, says: str) -> None:
    plan = PLAN.replace("by: unit", "by: other").replace("by: language", f"by: {by}")
    plan = plan.replace("  - {by: other, each: 8, advance: enough}\n", "")
    file = tmp_path / "tenure.yaml"
    file.write_text(PROJECT + "".join(f"      {line}\n" for line in plan.splitlines()))
    if not says:
        assert load_project(file).endpoints["offers"].rollout.slices[0].by == by
        return
    with pytest.raises(ProjectError, match=says):
        load_project(file)
