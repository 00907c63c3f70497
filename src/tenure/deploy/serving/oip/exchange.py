"""One infer call over HTTP as headers and bytes in, headers and bytes out, whatever carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from tenure.deploy.serving.http.edge import number_of, token_of
from tenure.deploy.serving.oip.body import HEADER_LENGTH, Sent, compressed, decompressed, read, write
from tenure.deploy.serving.oip.messages import InferRequest
from tenure.deploy.serving.oip.service import Service
from tenure.deploy.serving.predict.desk import Desk
from tenure.errors import CaseError, TenureError

_RAW = InferRequest(inputs=[])
_encode = msgspec.json.Encoder().encode


class Reply(NamedTuple):
    """An answer on its way out: its body, and the headers that say how to read it."""

    body: bytes
    headers: dict[str, str]


async def infer(service: Service, desk: Desk, headers: Mapping[str, str], body: bytes) -> Reply:
    """Answer one call; `headers` have lower-case names.

    Raises:
        TenureError: nothing was answered; `error_body` is what the client gets.
    """
    if "idempotency-key" in headers:
        raise CaseError(
            "no Idempotency-Key is kept over this protocol; POST /v1/{endpoint}/predict has safe retries",
            at="Idempotency-Key", status=400,
        )  # fmt: skip
    answered = await service.infer(
        desk, _sent(service, desk, headers, body), token=token_of(headers),
        unit=headers.get("tenure-unit") or None,
        deadline_s=number_of(headers.get("tenure-deadline-ms"), "Tenure-Deadline-Ms") / 1000.0,
    )  # fmt: skip
    out, length = write(answered.response, answered.tensors, binary=answered.binary)
    out, encoding = compressed(out, headers.get("accept-encoding", ""))
    said = {"content-type": "application/json" if length is None else "application/octet-stream"}
    if length is not None:
        said[HEADER_LENGTH.lower()] = str(length)
    if encoding:
        said["content-encoding"] = encoding
    return Reply(out, said)


def error_body(error: TenureError) -> bytes:
    """Return the protocol's form of an error."""
    return _encode({"error": error.message})


def _sent(service: Service, desk: Desk, headers: Mapping[str, str], body: bytes) -> Sent:
    body = decompressed(body, headers.get("content-encoding", ""), desk.spec.serve.max_body)
    length = _header_length(headers)
    if length == 0:
        return Sent(_RAW, [service.raw(desk, body)])
    return read(body, length)


def _header_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get(HEADER_LENGTH.lower())
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise CaseError(
            f"{HEADER_LENGTH} is a number of bytes, got {text[:40]!r}",
            code="invalid_number", at=HEADER_LENGTH, status=400,
        )  # fmt: skip
    return int(text)
