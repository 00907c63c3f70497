"""A record is checked field by field; every refusal names the field and what was expected."""

import math
from typing import Any

import pytest

from tenure.data.schema import Contract, InputSchema, breaks, check_output, compatible, infer
from tenure.errors import CaseError
from tenure.scope.project import Field, Output
from tenure.types import Box, Failed, Prediction

FIELDS = {
    "age": Field(type="int", min=0, max=150),
    "weight": Field(type="float", nullable=True),
    "smoker": Field(type="bool"),
    "city": Field(type="category", values=("Bonn", "Köln")),
    "note": Field(type="text", required=False),
}
SCHEMA = InputSchema("record", FIELDS)
GOOD = {"age": 3, "weight": 5, "smoker": False, "city": "Bonn", "note": "x"}


def refused(**change: Any) -> CaseError:
    with pytest.raises(CaseError) as caught:
        SCHEMA.check_record({**GOOD, **change})
    return caught.value


def test_a_good_record_passes_and_whole_numbers_become_floats() -> None:
    out = SCHEMA.check_record(GOOD)
    assert out == {**GOOD, "weight": 5.0}
    assert isinstance(out["weight"], float)


def test_optional_and_nullable_fields_may_be_empty() -> None:
    record = {k: v for k, v in GOOD.items() if k != "note"} | {"weight": None}
    assert SCHEMA.check_record(record) == {**record, "note": None}
    assert SCHEMA.check_record({**GOOD, "note": None})["note"] is None


def test_a_category_that_was_never_declared_is_watched_and_not_refused() -> None:
    assert SCHEMA.check_record({**GOOD, "city": "Ulm"})["city"] == "Ulm"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"age": "3"}, "wrong_type", "expected an integer, got a text"),
        ({"age": True}, "wrong_type", "got true"),
        ({"age": 3.0}, "wrong_type", "expected an integer"),
        ({"age": -1}, "out_of_range", ">= 0"),
        ({"age": 151}, "out_of_range", "<= 150"),
        ({"age": 2**70}, "out_of_range", "64 bits"),
        ({"age": None}, "null_field", "must not be null"),
        ({"weight": math.nan}, "out_of_range", "finite"),
        ({"weight": math.inf}, "out_of_range", "finite"),
        ({"weight": [1]}, "wrong_type", "expected a number, got a list"),
        ({"smoker": 1}, "wrong_type", "true or false"),
        ({"city": 5}, "wrong_type", "expected a text"),
        ({"note": "\ud800"}, "wrong_type", "surrogate"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], code: str, words: str) -> None:
    found = refused(**change)
    assert found.at == next(iter(change))
    assert found.code == code
    assert words in found.message


def test_an_unknown_field_names_the_nearest() -> None:
    found = refused(agee=3)
    assert (found.at, found.code) == ("agee", "unknown_field")
    assert "did you mean 'age'" in found.message
    assert "age, city, note" in refused(zzzz=3).message


def test_a_missing_field_is_named() -> None:
    with pytest.raises(CaseError, match="missing field 'age'"):
        SCHEMA.check_record({})


# Contracts

OUTPUT = Output(labels=("good", "defect"))


def changed(**fields: Field | None) -> tuple[str, ...]:
    new = {k: v for k, v in {**FIELDS, **fields}.items() if v is not None}
    return breaks(Contract(SCHEMA, OUTPUT), Contract(InputSchema("record", new), OUTPUT))


def test_a_version_may_accept_more() -> None:
    assert changed() == ()
    assert changed(age=Field(type="float")) == ()
    assert changed(city=Field(type="text", required=False)) == ()
    assert changed(extra=Field(type="int", required=False)) == ()
    assert compatible(Contract(SCHEMA, OUTPUT), Contract(InputSchema("record"), OUTPUT))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"age": None}, "no longer accepted"),
        ({"extra": Field(type="int")}, "new and required"),
        ({"weight": Field(type="int", nullable=True)}, "was float, is int"),
        ({"weight": Field(type="float")}, "no longer be null"),
        ({"note": Field(type="text")}, "became required"),
        ({"age": Field(type="int", min=1, max=150)}, "higher minimum"),
        ({"age": Field(type="int", min=0, max=99)}, "lower maximum"),
    ],
)
def test_a_version_may_not_accept_less(fields: dict[str, Field | None], words: str) -> None:
    (fault,) = changed(**fields)
    assert words in fault


def test_a_version_answers_in_the_same_terms() -> None:
    def faults(**change: Any) -> tuple[str, ...]:
        new = Output(**{"labels": OUTPUT.labels, **change})
        return breaks(Contract(SCHEMA, OUTPUT), Contract(SCHEMA, new))

    assert faults(labels=("defect", "good")) == ()
    assert "scratch" in faults(labels=("good", "scratch"))[0]
    assert "regions" in faults(regions="box")[0]
    assert "number" in faults(kind="number")[0]
    assert breaks(Contract(SCHEMA, OUTPUT), Contract(InputSchema("image"), OUTPUT)) == (
        "input: record became image",
    )


# Inference


def test_fields_are_inferred_and_explained() -> None:
    rows = [{"n": i, "x": i / 2 if i else 3, "c": "ab"[i % 2], "t": f"text {i}", "b": i > 3} for i in range(60)]
    rows[5]["c"] = None
    del rows[7]["t"]
    found = infer(rows)
    assert {k: f.type for k, f in found.fields.items()} == {
        "n": "int", "x": "float", "c": "category", "t": "text", "b": "bool",
    }  # fmt: skip
    assert found.fields["c"].nullable
    assert found.fields["c"].values == ("a", "b")
    assert not found.fields["t"].required
    assert any("integers and numbers" in n for n in found.notes)
    assert any("null in 1 of 60" in n for n in found.notes)
    schema = InputSchema("record", found.fields)
    assert all(schema.check_record(row) for row in rows)


def test_one_row_is_said_to_be_a_guess() -> None:
    found = infer([{"a": None, "b": "x"}])
    assert "guess" in found.notes[0]
    assert found.fields["a"] == Field(type="text", nullable=True)
    assert found.fields["b"].type == "text"


def test_few_distinct_texts_in_few_rows_are_no_category() -> None:
    assert infer([{"a": "x"}] * 49).fields["a"].type == "text"
    assert infer([{"a": "x"}] * 50).fields["a"].type == "category"
    assert infer([{"a": str(i % 20)} for i in range(100)]).fields["a"].type == "text"


@pytest.mark.parametrize("rows", [[], [{"a": [1]}], [{"a": 1}, {"a": "x"}], [{"a": True}, {"a": 1}]])
def test_what_fits_no_type_is_refused(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(CaseError):
        infer(rows)


# Outputs

BOX = Box(1, 2, 3, 4, "scratch")


@pytest.mark.parametrize(
    ("prediction", "output"),
    [
        (Prediction("good"), OUTPUT),
        (Prediction(None), OUTPUT),
        (Prediction("good", regions=(BOX,)), Output(labels=("good",), regions="box")),
        (Prediction(3), Output(kind="number")),
        (Prediction("any text"), Output(kind="text")),
        (Prediction("good", 0.9, {"good": 0.9, "defect": 0.1}), OUTPUT),
    ],
)
def test_an_answer_in_the_endpoints_terms_passes(prediction: Prediction, output: Output) -> None:
    assert check_output(prediction, output) == prediction


@pytest.mark.parametrize(
    ("prediction", "output", "words"),
    [
        (Prediction("bad"), OUTPUT, "expected one of good, defect"),
        (Prediction(1), OUTPUT, "expected one of"),
        (Prediction("good", regions=(BOX,)), OUTPUT, "declares none"),
        (Prediction("1"), Output(kind="number"), "expected a number"),
        (Prediction(True), Output(kind="number"), "expected a number"),
        (Prediction(1), Output(kind="text"), "expected a text"),
        (Prediction("good", 0.9, {"other": 0.9}), OUTPUT, "not an output label"),
        (Prediction("x", regions=(Box(3, 2, 1, 4, "s"),)), Output(regions="box"), "before its first"),
        (Prediction("x", regions=(Box(math.nan, 2, 1, 4, "s"),)), Output(regions="box"), "finite"),
    ],
)
def test_an_answer_in_other_terms_fails_with_the_reason(
    prediction: Prediction, output: Output, words: str
) -> None:
    found = check_output(prediction, output)
    assert isinstance(found, Failed)
    assert words in found.reason
