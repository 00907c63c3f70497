"""From the bytes of a request to an input: text and records here, pictures and sound in their own files.

Whatever the bytes are, the only exception is CaseError.
"""

from __future__ import annotations

import codecs
from typing import Any

import msgspec

from tenure.data import pictures, sound
from tenure.data.schema import InputSchema
from tenure.errors import CaseError
from tenure.types import Input

ACCEPTED = {
    "image": "image/jpeg, image/png, image/webp, image/gif, image/bmp, image/tiff",
    "audio": "audio/wav, audio/flac, audio/ogg",
    "text": "text/plain",
    "record": "application/json",
}
"""What a 415 names, by kind of input."""

CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1", "utf-16", "cp1252"})
"""Python's names of the text encodings that are read; others are refused, not guessed."""

_UNNAMED = ("", "application/octet-stream")


def decode(schema: InputSchema, body: bytes, media_type: str) -> Input:
    """Turn a request's body into an input of the endpoint's kind.

    `media_type` may carry parameters (`text/plain; charset=utf-8`). Pictures and sound are recognised by their
    content, so a PNG that is called image/jpeg is read, and so is a body without a media type.

    Raises:
        CaseError: 415 `unsupported_media_type`; 422 `unreadable_image`, `unreadable_audio`, `unreadable_text`,
            `invalid_json`, or what `InputSchema.check_record` finds.
    """
    essence, _, parameters = media_type.partition(";")
    essence = essence.strip().lower()
    if not accepts(schema, essence):
        raise unsupported(schema, essence)
    if schema.kind == "image":
        return pictures.read_image(body, min_side=schema.min_side or 0)
    if schema.kind == "audio":
        return sound.read_audio(body)
    if schema.kind == "text":
        return read_text(body, parameters)
    return schema.check_record(read_json(body))


def accepts(schema: InputSchema, essence: str) -> bool:
    """Say whether a media type (without parameters, lower case) may hold this endpoint's input."""
    if schema.kind in ("image", "audio"):
        return essence.startswith(schema.kind + "/") or essence in _UNNAMED
    if schema.kind == "text":
        return essence in ("text/plain", "")
    return essence in ("application/json", "") or (
        essence.startswith("application/") and essence.endswith("+json")
    )


def unsupported(schema: InputSchema, essence: str) -> CaseError:
    """Return the 415 that says what is accepted instead."""
    return CaseError(
        f"cannot read {essence[:100] or 'a body without a media type'!r}; "
        f"this endpoint takes {schema.kind}: {ACCEPTED[schema.kind]}",
        code="unsupported_media_type",
        at="content-type",
        status=415,
    )


def read_text(body: bytes, parameters: str = "") -> str:
    """Decode a text strictly; the charset is that of the media type's parameters, else UTF-8.

    Raises:
        CaseError: 415 for a charset that is not read, 422 for bytes that are not text in it.
    """
    charset = _charset(parameters)
    try:
        text = body.decode(charset)
    except UnicodeDecodeError as error:
        raise CaseError(
            f"the body is not {charset} text: byte {error.start} cannot be read",
            code="unreadable_text",
            at="body",
        ) from error
    return text.removeprefix("\ufeff")


def read_json(body: bytes) -> Any:
    """Decode JSON; NaN, infinities and nesting beyond the interpreter's depth are refused.

    Raises:
        CaseError: 422 `invalid_json` with the position.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise CaseError(f"the body is not valid JSON: {error}", code="invalid_json", at="body") from error


def _charset(parameters: str) -> str:
    for item in parameters.split(";"):
        key, _, value = item.partition("=")
        if key.strip().lower() == "charset":
            return _known_charset(value.strip().strip("\"'"))
    return "utf-8"


def _known_charset(name: str) -> str:
    try:
        known = codecs.lookup(name).name
    except (LookupError, ValueError, UnicodeError):
        known = ""
    if known not in CHARSETS:
        raise CaseError(
            f"cannot read the charset {name[:40]!r}; send utf-8",
            code="unsupported_media_type",
            at="content-type",
            status=415,
        )
    return known
