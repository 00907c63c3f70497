"""The generated decoder accepts, refuses and returns exactly what the checker in words does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tenure.data.decode import read_json
from tenure.data.schema import InputSchema
from tenure.data.typed import EXACT, RecordDecoder
from tenure.errors import CaseError
from tenure.model.columns import Columns, Rows, matrix
from tenure.scope.project import Field

bounds = st.one_of(st.none(), st.floats(-100, 100), st.integers(-100, 100).map(float))


@st.composite
def fields(draw: st.DrawFn) -> Field:
    kind = draw(st.sampled_from(["int", "float", "bool", "text", "category"]))
    low, high = (draw(bounds), draw(bounds)) if kind in ("int", "float") else (None, None)
    if low is not None and high is not None and low > high:
        low, high = high, low
    return Field(
        type=kind, required=draw(st.booleans()), nullable=draw(st.booleans()), min=low, max=high,  # type: ignore[arg-type]
    )  # fmt: skip


NAMES = ["a", "b", "f0", "f1", "é", "a b", '"', ""]
schemas = st.dictionaries(st.sampled_from(NAMES), fields(), min_size=1, max_size=4).map(
    lambda found: InputSchema("record", found)
)
numbers = st.one_of(
    st.integers(-200, 200), st.floats(-200, 200), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400, 1e308]),
)  # fmt: skip
values = st.one_of(
    numbers, st.none(), st.booleans(), st.text(max_size=5), st.just("\ud800"), st.lists(numbers, max_size=2)
)
records = st.dictionaries(st.sampled_from([*NAMES, "other"]), values, max_size=5)


def as_json(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=True).encode()


def outcome(call: Any) -> tuple[str, Any]:
    try:
        return "record", call()
    except CaseError as error:
        return "refused", (error.code, error.at, error.message)


@given(schemas, st.one_of(records, values), st.sampled_from([b"", b" ", b"\n"]))
def test_the_fast_decoder_is_the_checker(schema: InputSchema, record: Any, pad: bytes) -> None:
    decoder, body = RecordDecoder(schema), pad + as_json(record) + pad

    def fast() -> Any:
        found = decoder.decode(body)
        return decoder.unpack(found) if isinstance(found, tuple) else found

    kind, expected = outcome(lambda: schema.check_record(read_json(body)))
    got_kind, got = outcome(fast)
    assert (got_kind, got) == (kind, expected)
    if kind == "record":
        assert {k: type(v) for k, v in got.items()} == {k: type(v) for k, v in expected.items()}


@given(schemas, st.binary(max_size=60))
def test_no_bytes_are_read_differently(schema: InputSchema, body: bytes) -> None:
    decoder = RecordDecoder(schema)
    assert outcome(lambda: decoder.decode(body))[0] == outcome(lambda: schema.check_record(read_json(body)))[0]


NUMERIC = InputSchema(
    "record",
    {"x": Field(type="float", nullable=True), "n": Field(type="int", required=False), "b": Field(type="bool")},
)
rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        st.one_of(st.none(), st.integers(-EXACT, EXACT)), st.booleans(),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@given(rows)
def test_a_matrix_of_records_reads_as_the_records(found: list[tuple[Any, ...]]) -> None:
    decoder = RecordDecoder(NUMERIC)
    assert decoder.numeric
    listed = [decoder.unpack(row) for row in found]
    packed = [decoder.pack(record) for record in listed]
    assert packed == found
    made = Rows(decoder.names, decoder.kinds, np.array(packed, dtype=np.float64))
    assert list(made) == listed
    assert [type(v) for r in made for v in r.values()] == [type(v) for r in listed for v in r.values()]
    half = len(found) // 2
    assert list(made[half:]) == listed[half:]
    assert list(made.select([0, -1])) == [listed[0], listed[-1]]
    with np.errstate(over="ignore"):  # float64 beyond float32
        for names in ((), ("b", "x"), ("x", "missing")):
            np.testing.assert_array_equal(matrix(made, names), matrix(listed, names or tuple(decoder.names)))
    numbers = Columns(made)
    for name in ("x", "n", "b"):
        np.testing.assert_array_equal(
            numbers[name], np.array([np.nan if r[name] is None else r[name] for r in listed], np.float64)
        )
