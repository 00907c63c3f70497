"""From tensors to the inputs of an endpoint."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from tenure.data import pictures
from tenure.data.decode import decode
from tenure.data.schema import InputSchema
from tenure.deploy.serving.oip.inputs import MAX_ROWS, Inputs
from tenure.deploy.serving.oip.records import Records
from tenure.deploy.serving.oip.tensors import DTYPES, Tensor, of_bytes
from tenure.errors import CaseError
from tenure.scope.project import Field
from tenure.types import Audio, Image

NUMBERS = InputSchema("record", {"a": Field(type="float", min=-10.0), "b": Field(type="int")})
MIXED = InputSchema(
    "record",
    {
        "amount": Field(type="float", nullable=True),
        "count": Field(type="int", required=False, max=9.0),
        "first": Field(type="bool"),
        "colour": Field(type="category", values=("red", "blue")),
        "note": Field(type="text", nullable=True),
    },
)


def numbers(name: str, values: Any, datatype: str = "FP64") -> Tensor:
    return Tensor(name, datatype, np.array(values, DTYPES[datatype]))


def items(schema: InputSchema, *tensors: Tensor) -> list[Any]:
    return list(Inputs("m", schema).items(tensors))


def refusal(schema: InputSchema, *tensors: Tensor) -> CaseError:
    with pytest.raises(CaseError) as refused:
        items(schema, *tensors)
    return refused.value


def png(size: tuple[int, int] = (4, 3)) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", size, "red").save(out, "PNG")
    return out.getvalue()


# What clients are told


def test_a_record_of_numbers_is_one_matrix_and_others_a_tensor_for_each_field() -> None:
    (told,) = Inputs("m", NUMBERS).metadata
    assert (told.name, told.datatype, told.shape) == ("input", "FP64", (-1, 2))
    assert told.parameters == {"columns": "a,b"}
    mixed = {m.name: (m.datatype, m.shape) for m in Inputs("m", MIXED).metadata}
    assert mixed == {
        "amount": ("FP64", (-1,)), "count": ("INT64", (-1,)), "first": ("BOOL", (-1,)),
        "colour": ("BYTES", (-1,)), "note": ("BYTES", (-1,)),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["text", "image", "audio", "record"])
def test_what_has_no_fields_is_one_tensor_of_bytes(kind: Any) -> None:
    (told,) = Inputs("m", InputSchema(kind)).metadata
    assert (told.name, told.datatype, told.shape) == ("input", "BYTES", (-1,))


def test_a_field_called_input_is_a_field() -> None:
    schema = InputSchema("record", {"input": Field(type="float")})
    assert items(schema, numbers("input", [1.5])) == [{"input": 1.5}]


# Records


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "FP16", "INT32", "UINT8", "INT64"])
def test_a_matrix_of_any_number_type_is_rows(datatype: str) -> None:
    made = items(NUMBERS, numbers("input", [[1, 2], [3, 4]], datatype))
    assert made == [{"a": 1.0, "b": 2}, {"a": 3.0, "b": 4}]
    assert [type(v) for v in made[0].values()] == [float, int]


def test_columns_by_name_are_the_same_rows_as_a_matrix() -> None:
    by_name = items(NUMBERS, numbers("b", [[2], [4]], "INT64"), numbers("a", [1.0, 3.0]))
    assert by_name == items(NUMBERS, numbers("input", [[1, 2], [3, 4]]))
    odd = [[np.nan, 2.5], [np.inf, np.nan], [-11.0, 2.0**63], [1.0, -np.inf], [0.5, 7.0]]
    a, b = np.array(odd).T
    pairs = zip(
        items(NUMBERS, numbers("a", a), numbers("b", b)), items(NUMBERS, numbers("input", odd)), strict=True
    )
    for one, other in pairs:
        assert str(one) == str(other)


def test_one_bad_row_is_refused_alone_and_in_words() -> None:
    made = items(NUMBERS, numbers("input", [[1, 2], [np.nan, 2], [-11, 2], [1, 2.5], [np.inf, 1], [1, 2.0**63]]))
    assert made[0] == {"a": 1.0, "b": 2}
    errors = [(each.code, each.at) for each in made[1:]]
    assert errors == [
        ("null_field", "a"), ("out_of_range", "a"), ("wrong_type", "b"), ("out_of_range", "a"),
        ("out_of_range", "b"),
    ]  # fmt: skip


def test_mixed_fields_nulls_and_absent_ones() -> None:
    made = items(
        MIXED, numbers("amount", [1.5, np.nan], "FP32"), numbers("first", [True, False], "BOOL"),
        of_bytes("colour", [b"red", b"green"]), of_bytes("note", [b"h\xc3\xa9", None]),
    )  # fmt: skip
    assert made == [
        {"amount": 1.5, "count": None, "first": True, "colour": "red", "note": "hé"},
        {"amount": None, "count": None, "first": False, "colour": "green", "note": None},
    ]


def test_text_that_is_no_text_fails_its_row_only() -> None:
    rest = [numbers("amount", [1.0, 1.0]), numbers("first", [True, True], "BOOL"), of_bytes("note", [b"", b""])]
    good, bad = items(MIXED, *rest, of_bytes("colour", [b"red", b"\xff"]))
    assert good["colour"] == "red"
    assert (bad.code, bad.status) == ("unreadable_text", 422)


def test_unsigned_numbers_beyond_64_bits_signed_are_refused() -> None:
    schema = InputSchema("record", {"b": Field(type="int")})
    good, bad = items(schema, numbers("b", [2**63 - 1, 2**63], "UINT64"))
    assert good == {"b": 2**63 - 1}
    assert bad.code == "out_of_range"


def test_a_record_without_fields_is_json() -> None:
    good, bad = items(InputSchema("record"), of_bytes("input", [b'{"a": [1]}', b"{"]))
    assert good == {"a": [1]}
    assert bad.code == "invalid_json"


@given(st.lists(st.tuples(st.floats(width=64), st.floats(width=64)), min_size=1, max_size=8))
def test_a_matrix_says_what_the_same_records_in_json_would(rows: list[tuple[float, float]]) -> None:
    schema = InputSchema("record", {"a": Field(type="float", min=-5.0, max=5.0), "b": Field(type="float")})
    for item, (a, b) in zip(items(schema, numbers("input", rows)), rows, strict=True):
        record = {"a": None if a != a else a, "b": None if b != b else b}
        expected = checked(schema, record)
        if isinstance(expected, CaseError):
            assert (item.code, item.at) == (expected.code, expected.at)
        else:
            assert item == expected


def checked(schema: InputSchema, record: Any) -> Any:
    try:
        return schema.check_record(record)
    except CaseError as error:
        return error


# Texts, pictures, clips


def test_texts_are_read_or_refused_one_by_one() -> None:
    good, bad = items(InputSchema("text"), of_bytes("input", ["größer".encode(), b"\xff"]))
    assert good == "größer"
    assert bad.code == "unreadable_text"


def test_encoded_pictures_keep_their_bytes() -> None:
    good, bad = items(InputSchema("image"), of_bytes("input", [png(), b"none"]))
    assert isinstance(good, Image)
    assert (good.pixels.shape, good.data) == ((3, 4, 3), png())
    assert bad.code == "unreadable_image"


def test_pixels_become_pictures_that_a_reviewer_can_be_shown() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (2, 5, 7, 3), np.uint8)
    made = items(InputSchema("image"), Tensor("input", "UINT8", pixels))
    for image, wanted in zip(made, pixels, strict=True):
        np.testing.assert_array_equal(image.pixels, wanted)
        again = decode(InputSchema("image"), image.data, image.media_type)
        assert isinstance(again, Image)
        np.testing.assert_array_equal(again.pixels, wanted)
        assert not image.pixels.flags.writeable


def test_many_small_bombs_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 30)
    made = items(InputSchema("image"), of_bytes("input", [png(), png(), png()]))
    assert [type(each) for each in made] == [Image, Image, CaseError]


def test_clips_are_decoded() -> None:
    samples = (np.sin(np.arange(800) / 5) * 20000).astype("<i2").tobytes()
    head = b"WAVEfmt \x10\0\0\0\x01\0\x01\0" + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little")
    body = head + b"\x02\0\x10\0data" + len(samples).to_bytes(4, "little") + samples
    wav = b"RIFF" + len(body).to_bytes(4, "little") + body
    good, bad = items(InputSchema("audio"), of_bytes("input", [wav, b"RIFF"]))
    assert isinstance(good, Audio)
    assert (len(good.samples), good.rate, good.data) == (800, 8000, wav)
    assert bad.code == "unreadable_audio"


# A body without a header


def test_a_raw_body_is_rows_or_one_element() -> None:
    matrix = np.array([[1, 2], [3, 4]], "<f8")
    assert Inputs("m", NUMBERS).raw(matrix.tobytes()).data.tolist() == matrix.tolist()
    assert Inputs("m", InputSchema("image")).raw(b"jpeg").data.tolist() == [b"jpeg"]
    with pytest.raises(CaseError, match="expecting"):
        Inputs("m", NUMBERS).raw(matrix.tobytes()[:-1])
    with pytest.raises(CaseError, match="one input"):
        Inputs("m", MIXED).raw(b"")


# Refusals of the whole request


def test_tensors_that_are_not_the_endpoints_are_refused() -> None:
    a, b = numbers("a", [1.0]), numbers("b", [1], "INT64")
    wrong = [
        refusal(NUMBERS),
        refusal(NUMBERS, a),
        refusal(NUMBERS, a, b, numbers("c", [1])),
        refusal(NUMBERS, a, a, b),
        refusal(NUMBERS, a, numbers("b", [1, 2], "INT64")),
        refusal(NUMBERS, a, numbers("b", [[1, 2]], "INT64")),
        refusal(NUMBERS, a, of_bytes("b", [b"1"])),
        refusal(NUMBERS, a, numbers("b", [True], "BOOL")),
        refusal(NUMBERS, numbers("input", [[1, 2, 3]])),
        refusal(NUMBERS, numbers("input", [1, 2])),
        refusal(NUMBERS, numbers("input", np.zeros((0, 2)))),
        refusal(NUMBERS, numbers("input", 1.0)),
        refusal(NUMBERS, numbers("input", [[1, 2]]), a),
        refusal(InputSchema("text"), numbers("input", [1])),
        refusal(InputSchema("text"), of_bytes("other", [b"x"])),
        refusal(InputSchema("image"), numbers("input", np.zeros((1, 2, 2, 3)), "FP32")),
        refusal(InputSchema("image"), numbers("input", np.zeros((1, 2, 2, 4)), "UINT8")),
        refusal(InputSchema("image"), numbers("input", np.zeros((1, 0, 2, 3)), "UINT8")),
    ]
    assert {(each.status, each.code) for each in wrong} == {(400, "invalid_body")}
    many = refusal(NUMBERS, numbers("input", np.zeros((MAX_ROWS + 1, 2))))
    assert (many.status, many.code) == (413, "too_large")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_a_matrix_with_a_number_that_is_none_is_looked_at_row_by_row(bad: float, dtype: str) -> None:
    free = InputSchema("record", {"a": Field(type="float"), "b": Field(type="float")})
    bound = InputSchema("record", {"a": Field(type="float", min=-1e9), "b": Field(type="float")})
    for schema in (free, bound):
        records = Records("risk", schema)
        good = np.array([[1.5, -2.0], [np.finfo(dtype).max, 0.0]], dtype)
        found = records.values(Tensor("input", "FP32", good))
        assert found is not None
        assert found.dtype == np.float64
        assert found.tolist() == good.astype(np.float64).tolist()
        assert records.values(Tensor("input", "FP32", np.zeros((0, 2), dtype))) is not None
        wrong = good.copy()
        wrong[1, 1] = bad
        assert records.values(Tensor("input", "FP32", wrong)) is None
