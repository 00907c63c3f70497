"""Tensors of the Open Inference Protocol in JSON and binary."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tenure.deploy.serving.oip import tensors
from tenure.deploy.serving.oip.tensors import DTYPES, Tensor, from_bytes, from_json, of_bytes, to_bytes, to_json
from tenure.errors import CaseError

NUMBERS = sorted(set(DTYPES) - {"BF16", "BYTES"})
WHOLE = [name for name in NUMBERS if DTYPES[name].kind in "iu"]


def read(datatype: str, shape: list[int], data: Any, *, coded: bool = False) -> Tensor:
    return from_json("t", datatype, shape, msgspec.json.encode(data), coded=coded)


@st.composite
def tensor(draw: st.DrawFn) -> Tensor:
    datatype = draw(st.sampled_from(NUMBERS))
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    return Tensor("t", datatype, draw(arrays.arrays(DTYPES[datatype], shape)))


@given(tensor())
def test_binary_there_and_back_is_the_same_bits(made: Tensor) -> None:
    raw = to_bytes(made)
    again = from_bytes("t", made.datatype, made.shape, raw)
    assert again.shape == made.shape
    assert to_bytes(again) == raw == made.data.tobytes()


@given(st.lists(st.binary(max_size=20), max_size=12))
def test_bytes_there_and_back_are_the_same(values: list[bytes]) -> None:
    raw = to_bytes(of_bytes("t", values))
    assert from_bytes("t", "BYTES", [len(values)], raw).data.tolist() == values


@given(tensor())
def test_json_there_and_back_is_the_same_number(made: Tensor) -> None:
    if made.datatype == "FP16":
        return
    text = msgspec.json.encode(to_json(made))
    again = from_json("t", made.datatype, made.shape, text, coded=False)
    finite = made.data if made.data.dtype.kind != "f" else np.where(np.isfinite(made.data), made.data, np.nan)
    np.testing.assert_array_equal(again.data, finite.reshape(made.shape))


@given(st.binary(max_size=60), st.sampled_from(sorted(DTYPES)), st.lists(st.integers(-2, 9), max_size=10))
def test_no_bytes_raise_anything_but_a_refusal(raw: bytes, datatype: str, shape: list[int]) -> None:
    for look in (lambda: from_bytes("t", datatype, shape, raw), lambda: _json(datatype, shape, raw)):
        assert refused_with(look) in (None, 400)


def refused_with(look: Callable[[], Tensor]) -> int | None:
    try:
        look()
    except CaseError as error:
        return error.status
    return None


def _json(datatype: str, shape: list[int], raw: bytes) -> Tensor:
    return from_json("t", datatype, shape, raw, coded=True)


def test_bf16_is_widened_and_never_json() -> None:
    values = np.array([1.0, -2.5, 3.140625], np.float32)
    raw = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    np.testing.assert_array_equal(from_bytes("t", "BF16", [3], raw).data, values)
    for half in ("BF16", "FP16"):
        with pytest.raises(CaseError, match="cannot be sent as JSON"):
            read(half, [1], [1.0])


def test_nested_and_flat_json_are_the_same_tensor() -> None:
    flat, nested = read("INT32", [2, 3], [1, 2, 3, 4, 5, 6]), read("INT32", [2, 3], [[1, 2, 3], [4, 5, 6]])
    assert flat.data.tolist() == nested.data.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read("BYTES", [2, 1], [["a"], ["b"]]).data.tolist() == [[b"a"], [b"b"]]


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", [2], [1.0]),
        ("FP32", [2, 2], [[1.0, 2.0], [3.0]]),
        ("FP32", [4], [[1.0, 2.0], [3.0, 4.0]]),
        ("FP32", [1], [True]),
        ("FP32", [1], ["1"]),
        ("FP32", [1], 1.0),
        ("INT8", [1], [128]),
        ("UINT8", [1], [-1]),
        ("UINT64", [1], [2**64]),
        ("INT32", [1], [1.5]),
        ("BOOL", [1], [1]),
        ("BYTES", [1], [5]),
        ("BYTES", [2], [["a", "b"]]),
        ("FP12", [1], [1.0]),
        ("FP32", [-1], [1.0]),
        ("FP32", [1] * 9, [1.0]),
        ("FP32", [2**40], [1.0]),
    ],
)
def test_data_that_are_not_the_datatype_or_shape_are_refused(datatype: str, shape: list[int], data: Any) -> None:
    with pytest.raises(CaseError) as refused:
        read(datatype, shape, data)
    assert (refused.value.status, refused.value.at) == (400, "t")


@pytest.mark.parametrize("datatype", WHOLE)
def test_the_ends_of_every_integer_type_pass(datatype: str) -> None:
    ends = [int(np.iinfo(DTYPES[datatype]).min), int(np.iinfo(DTYPES[datatype]).max)]
    assert read(datatype, [2], ends).data.tolist() == ends


def test_null_is_nan_or_nothing() -> None:
    assert np.isnan(read("FP32", [2], [1.0, None]).data[1])
    assert read("BYTES", [2], ["a", None]).data.tolist() == [b"a", None]


def test_base64_is_read_where_it_is_said() -> None:
    text = base64.b64encode(b"\xff\xd8").decode()
    assert read("BYTES", [1], [text], coded=True).data.tolist() == [b"\xff\xd8"]
    assert read("BYTES", [1], [text]).data.tolist() == [text.encode()]
    with pytest.raises(CaseError, match="base64"):
        read("BYTES", [1], ["not base64!"], coded=True)


@pytest.mark.parametrize(
    "raw", [b"\x01\x00", struct.pack("<I", 9) + b"ab", struct.pack("<I", 1) + b"ab", struct.pack("<I", 2**31)]
)
def test_bytes_elements_that_do_not_fill_their_space_are_refused(raw: bytes) -> None:
    with pytest.raises(CaseError, match="tensor 't'"):
        from_bytes("t", "BYTES", [1], raw)


def test_depth_cannot_exhaust_the_stack() -> None:
    with pytest.raises(CaseError):
        from_json("t", "FP32", [1], b"[" * 100_000 + b"]" * 100_000, coded=False)
    assert tensors.MAX_RANK == 8
