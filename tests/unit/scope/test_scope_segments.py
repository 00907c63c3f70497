"""Segments in the project file: what a field can have, what each promises, and what is refused."""

from __future__ import annotations

import pytest

from tenure.errors import ProjectError
from tenure.scope.project import Automation, Segments, SegmentSpec, Side
from tenure.scope.reader import read_project

TEXT = """
tenure: 1
project: factory
scope: {case: assist, y: {labels: [good, bad]}}
endpoints:
  parts:
    input: record
    fields:
      line: {type: category, values: [A, B, C]}
      shift: {type: int}
      night: {type: bool}
      weight: {type: float}
    automation:
      start: assist
      max: partial
      errors: 5%
      segments:
        by: line
        values:
          A: {errors: 1%}
          B: {max: assist}
"""


def test_a_segment_promises_what_it_says_and_else_what_its_endpoint_does() -> None:
    auto = read_project(TEXT).endpoints["parts"].automation
    assert auto.names() == ("", "A", "B")
    assert [auto.of(s).errors for s in auto.names()] == [0.05, 0.01, 0.05]
    assert [auto.of(s).max for s in auto.names()] == ["partial", "partial", "assist"]
    assert auto.population("A") == "line 'A'"
    assert auto.population("") == "line none of 'A', 'B'"


def test_bounds_by_label_replace_the_bound_of_all_answers() -> None:
    told = SegmentSpec(sides={"good": Side(errors=0.02)})
    auto = Automation(errors=0.05, segments=Segments(by="unit", values={"A": told}))
    assert (auto.of("A").errors, auto.of("A").sides) == (None, told.sides)
    assert (auto.of("").errors, auto.of("").sides) == (0.05, {})


def test_without_segments_an_endpoint_is_its_only_one() -> None:
    auto = Automation(errors=0.05)
    assert (auto.names(), auto.of(""), auto.population("")) == (("",), auto, "")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("by: line", "by: lane", "expected one of the fields line, shift, night or unit, got 'lane'"),
        ("by: line", "by: weight", "expected a field of few values; weight is a float"),
        ("A: {errors: 1%}", "D: {}", "expected one of the field's values A, B, C"),
        ("by: line", "by: shift", "expected a whole number"),
        ("by: line", "by: night", "expected true or false"),
        ("{max: assist}", "{max: shadow}", "shadow is below start: assist"),
        ("{errors: 1%}", "{errors: 1%, sides: {good: {errors: 1%}}}", "either errors or sides, not both"),
        ("{errors: 1%}", "{sides: {godo: {errors: 1%}}}", "expected one of the labels good, bad"),
        ("{errors: 1%}", "{errors: 0%}", "more than 0"),
        ("{errors: 1%}", "{erors: 1%}", "did you mean errors?"),
    ],
)
def test_refuses_and_says_what_was_expected(old: str, new: str, says: str) -> None:
    with pytest.raises(ProjectError) as refused:
        read_project(TEXT.replace(old, new))
    assert any(says in fault for fault in refused.value.faults), refused.value.faults


def test_a_segment_may_be_automated_where_its_endpoint_may_not_and_needs_a_bound() -> None:
    low = TEXT.replace("max: partial\n      errors: 5%", "max: assist")
    assert read_project(low).endpoints["parts"].automation.of("A").max == "assist"
    high = low.replace("{errors: 1%}", "{max: partial, errors: 1%}")
    assert read_project(high).endpoints["parts"].automation.of("A").max == "partial"
    with pytest.raises(ProjectError, match="needs a bound"):
        read_project(low.replace("{errors: 1%}", "{max: partial}"))


def test_a_photo_has_no_field_but_a_unit() -> None:
    fields = TEXT[TEXT.index("    fields:") : TEXT.index("    automation:")]
    photo = TEXT.replace("input: record", "input: image").replace(fields, "")
    assert read_project(photo.replace("by: line", "by: unit")).endpoints["parts"].automation.segments
    with pytest.raises(ProjectError, match="expected unit: no field is declared"):
        read_project(photo)
