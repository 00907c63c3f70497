"""Values across processes: what goes in comes out, and what cannot go is said."""

from __future__ import annotations

import dataclasses
import math
import socket
import struct
import threading
from enum import StrEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.model import parcel, pipe
from tenure.model.answer import Scores
from tenure.model.columns import Rows
from tenure.types import Audio, Box, Failed, Image, Prediction


def across(value: Any) -> Any:
    return parcel.unpack(b"".join(parcel.pack(value)))


class Colour(StrEnum):
    RED = "red"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.binary(max_size=9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    | st.lists(inner, max_size=3).map(tuple),
    max_leaves=12,
)  # fmt: skip


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_plain_values_come_out_as_they_went_in_with_their_types(value: Any) -> None:
    assert repr(across(value)) == repr(value)


@pytest.mark.parametrize("dtype", ["u1", "<f4", "<f8", "?", "<i8", "<U5", "<M8[s]", "<c16"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (64, 65), (3, 0, 2)])
def test_arrays_keep_type_and_shape_and_are_read_only(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.dtype(dtype))
    array.reshape(-1)[:3] = np.array([1, 2, 3], "i8")[: array.size].astype(array.dtype)
    got = across({"a": array, "b": [array]})["a"]
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    assert np.array_equal(got, array)
    assert not got.flags.writeable
    assert got.flags.aligned


def test_an_array_that_is_not_contiguous_goes_too() -> None:
    array = np.arange(100_000, dtype=np.float32).reshape(100, 1000)[::3, ::7].T
    assert np.array_equal(across(array), array)


def test_scalars_and_enumerations_become_values() -> None:
    got = across([np.float32(0.5), np.int64(7), np.bool_(True), Colour.RED])
    assert got == [0.5, 7, True, "red"]
    assert isinstance(got[0], np.float32)


def test_images_and_clips_come_whole() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    image = across([Image(pixels, b"x" * 9000, "image/jpeg")])[0]
    assert np.array_equal(image.pixels, pixels)
    assert (image.data, image.media_type) == (b"x" * 9000, "image/jpeg")
    clip = across(Audio(np.linspace(-1, 1, 5000, dtype=np.float32), 16_000, b"r", "audio/wav"))
    assert (clip.rate, clip.data, clip.samples[0], len(clip.samples)) == (16_000, b"r", -1.0, 5000)


def test_predictions_failures_rows_and_scores_come_as_what_they_are() -> None:
    said = [
        Prediction("a", 0.5, {"a": 0.5, "b": 0.5}, (Box(1, 2, 3, 4, "x", 0.5),)),
        Prediction(None),
        Failed("no"),
        Prediction(3),
    ]
    assert across(said) == said
    rows = across(Rows(("a", "b"), ("float", "int"), np.array([[1.5, 2.0], [math.nan, 3.0]])))
    assert list(rows) == [{"a": 1.5, "b": 2}, {"a": None, "b": 3}]
    scores = across(Scores(("a", "b"), np.array([[0.25, 0.75]], np.float32)))
    assert list(scores) == [Prediction("b", 0.75, {"a": 0.25, "b": 0.75})]


def test_a_prediction_is_checked_on_the_way() -> None:
    assert across(Prediction(np.float32(0.5), np.float64(0.25))) == Prediction(0.5, 0.25)
    assert isinstance(across(Prediction("a", 1.5)), Failed)


@dataclasses.dataclass
class Own:
    n: int = 0


@pytest.mark.parametrize(
    "value", [Own(), {1, 2}, np.array([Own()]), np.zeros(2, [("a", "i4")]), [{"a": (Own(),)}], object]
)
def test_what_cannot_go_is_refused_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot go to another process"):
        parcel.pack(value)


@pytest.mark.parametrize("value", [2**70, "\ud800"])
def test_what_msgpack_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, OverflowError)):
        parcel.pack([value])


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_parcel_are_refused_and_nothing_else_happens(data: bytes) -> None:
    try:
        parcel.unpack(data)
    except ValueError:
        return
    assert len(data) >= 8


def test_a_message_of_any_size_goes_through_a_socket_in_pieces() -> None:
    one, other = socket.socketpair()
    value = [np.full(300_000, i, np.uint8) for i in range(20)] + [np.zeros(5000, np.uint8)] * 1500
    with one, other:
        thread = threading.Thread(target=pipe.send, args=(one, parcel.pack(value)))
        thread.start()
        message = pipe.receive(other)
        thread.join()
        assert message is not None
        assert all(np.array_equal(a, b) for a, b in zip(parcel.unpack(message), value, strict=True))
        one.close()
        assert pipe.receive(other) is None, "the end between two messages"


def test_a_message_that_breaks_off_is_an_error_and_one_that_never_comes_is_late() -> None:
    one, other = socket.socketpair()
    with one, other:
        with pytest.raises(TimeoutError):
            pipe.receive(other, lambda: 0.01)
        with pytest.raises(TimeoutError):
            pipe.receive(other, lambda: 0.0)
        one.sendall(struct.pack("<Q", 100) + b"only this")
        one.close()
        with pytest.raises(ConnectionResetError, match="9 of 100"):
            pipe.receive(other)
