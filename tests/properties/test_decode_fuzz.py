"""Whatever bytes and media types arrive, decoding answers or refuses; it never fails."""

import io
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from tenure.data.decode import decode
from tenure.data.extract import extract, metric_names
from tenure.data.schema import InputSchema
from tenure.errors import CaseError
from tenure.scope.project import Field

SCHEMAS = [
    InputSchema("image"),
    InputSchema("audio"),
    InputSchema("text"),
    InputSchema("record"),
    InputSchema("record", {"a": Field(type="float", nullable=True), "b": Field(type="category", required=False)}),
]


def _seeds() -> list[bytes]:
    noisy = Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8))
    out = [
        b'{"a": 1, "b": "x"}',
        "grüße".encode(),
        b"RIFF\x34\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x10\0\0\0"
        + bytes(16),
    ]
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        buffer = io.BytesIO()
        noisy.save(buffer, kind)
        out.append(buffer.getvalue())
    return out


SEEDS = _seeds()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid body with some bytes overwritten, cut out or put in."""
    body = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(body)))
        end = min(len(body), at + draw(st.integers(0, 8)))
        body[at:end] = draw(st.binary(max_size=8))
    return bytes(body)


MEDIA = st.sampled_from(
    ["", "image/png", "audio/wav", "audio/flac", "text/plain", "text/plain; charset=utf-16", "application/json"]
) | st.text(max_size=30)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SCHEMAS), damaged() | st.binary(max_size=200), MEDIA)
def test_decoding_gives_a_measurable_input_or_a_case_error(schema: InputSchema, body: bytes, media: str) -> None:
    try:
        value = decode(schema, body, media)
    except CaseError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.status in (415, 422)
        assert refused.message
        return
    measured = extract(schema.kind, value, schema.fields)
    assert len(measured) == len(metric_names(schema.kind, schema.fields))
    if schema.kind != "record":
        assert all(math.isfinite(v) for v in measured)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SCHEMAS[3:]), JSON)
def test_checking_a_record_is_stable_or_refused(schema: InputSchema, value: object) -> None:
    try:
        checked = schema.check_record(value)
    except CaseError:
        return
    assert schema.check_record(checked) == checked
