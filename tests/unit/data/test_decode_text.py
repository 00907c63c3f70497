"""Texts and records: strict, and refused with the position or the field."""

import pytest

from tenure.data.decode import decode
from tenure.data.schema import InputSchema
from tenure.errors import CaseError
from tenure.scope.project import Field

TEXT = InputSchema("text")
RECORD = InputSchema("record", {"age": Field(type="int"), "note": Field(type="text", required=False)})
FREE = InputSchema("record")


def refusal(schema: InputSchema, body: bytes, media_type: str) -> CaseError:
    with pytest.raises(CaseError) as caught:
        decode(schema, body, media_type)
    return caught.value


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ("grüße".encode(), "text/plain"),
        (b"\xef\xbb\xbf" + "grüße".encode(), "text/plain; charset=UTF-8"),
        ("grüße".encode("latin-1"), 'text/plain; charset="iso-8859-1"'),
        ("grüße".encode("utf-16"), "Text/Plain;format=flowed; charset=utf-16"),
        ("grüße".encode("cp1252"), "text/plain; charset=windows-1252"),
    ],
)
def test_a_text_is_read_in_the_charset_that_it_names(body: bytes, media_type: str) -> None:
    assert decode(TEXT, body, media_type) == "grüße"


def test_bytes_that_are_no_text_are_refused_with_their_place() -> None:
    found = refusal(TEXT, b"ab\xff", "text/plain")
    assert (found.status, found.code) == (422, "unreadable_text")
    assert "byte 2" in found.message


@pytest.mark.parametrize("charset", ["zlib", "utf-7", "idna", "nonsense", "a" * 1000, "\0"])
def test_odd_charsets_are_415(charset: str) -> None:
    found = refusal(TEXT, b"abc", f"text/plain; charset={charset}")
    assert (found.status, found.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/problem+json; v=1", "Application/JSON", ""]
)
def test_a_record_is_json(media_type: str) -> None:
    assert decode(RECORD, b'{"age": 3}', media_type) == {"age": 3, "note": None}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"age": NaN}',
        b'{"age": 1e999}',
        b'{"age": 1}x',
        b"[" * 200_000 + b"]" * 200_000,
        b'{"age": "\\ud800"}',
        b"\xff",
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert refusal(RECORD, body, "application/json").code == "invalid_json"


def test_json_that_is_no_object_is_refused() -> None:
    assert "expected a JSON object, got a list" in refusal(RECORD, b"[]", "application/json").message


@pytest.mark.parametrize("schema", [TEXT, RECORD])
def test_another_media_type_says_what_is_accepted(schema: InputSchema) -> None:
    found = refusal(schema, b"x", "image/png")
    assert found.status == 415
    assert ("text/plain" if schema is TEXT else "application/json") in found.message


def test_free_records_have_limits() -> None:
    assert decode(FREE, b'{"a": {"b": [1, "x", null, true, 2.5]}}', "application/json")["a"]["b"][0] == 1
    deep = b'{"a":' * 40 + b"1" + b"}" * 40
    assert "too large" in refusal(FREE, deep, "application/json").message
    wide = b'{"a": [' + b",".join([b"0"] * 20_000) + b"]}"
    assert "too large" in refusal(FREE, wide, "application/json").message
    assert "64 bits" in refusal(FREE, b'{"a": 123456789012345678901234567890}', "application/json").message
