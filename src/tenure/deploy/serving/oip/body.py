"""Bodies of the protocol over HTTP: a JSON header, binary tensors behind it, compression around both. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tenure.deploy.serving.oip.messages import (
    InferRequest,
    InferResponse,
    InputTensor,
    OutputTensor,
    TensorParameters,
)
from tenure.deploy.serving.oip.tensors import Tensor, fault, from_bytes, from_json, to_bytes, to_json
from tenure.deploy.serving.predict.core import too_large
from tenure.errors import CaseError

HEADER_LENGTH = "Inference-Header-Content-Length"
WORTH_COMPRESSING = 1024
"""Bytes from which an answer is compressed when the client accepts that."""

_WBITS = {"gzip": 31, "deflate": 15}
_FAST = 1  # level of zlib: an answer waits for it
_decode = msgspec.json.Decoder(InferRequest).decode
_encode = msgspec.json.Encoder().encode


class Sent(NamedTuple):
    """A request as it came: its JSON part and its tensors."""

    request: InferRequest
    tensors: list[Tensor]


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the body without its Content-Encoding, at most `limit` bytes of it.

    Raises:
        CaseError: 413 when there is more; 400 for broken data; 415 for another encoding.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _WBITS:
        raise CaseError(
            f"cannot read Content-Encoding {name[:40]!r}; send gzip or deflate",
            code="unsupported_media_type", at="content-encoding", status=415,
        )  # fmt: skip
    unpack = zlib.decompressobj(_WBITS[name])
    try:
        out = unpack.decompress(body, limit + 1)
    except zlib.error as error:
        raise _invalid(f"the body is no {name} data: {error}", at="content-encoding") from error
    if len(out) > limit:
        raise too_large(limit)
    if not unpack.eof or unpack.unused_data:
        raise _invalid(f"the body is not exactly one {name} stream", at="content-encoding")
    return out


def compressed(body: bytes, accepted: str) -> tuple[bytes, str]:
    """Return the body in an encoding that the client accepts, and the encoding's name; "" = as it was."""
    name = _chosen(accepted) if len(body) >= WORTH_COMPRESSING else ""
    if not name:
        return body, ""
    pack = zlib.compressobj(_FAST, zlib.DEFLATED, _WBITS[name])
    return pack.compress(body) + pack.flush(), name


def read(body: bytes, header_length: int | None) -> Sent:
    """Take a request apart; `header_length` counts the bytes of its JSON, None = the body is JSON only.

    Raises:
        CaseError: 400, saying what does not fit.
    """
    if header_length is not None and header_length > len(body):
        raise _invalid(
            f"{HEADER_LENGTH} is {header_length}, but the body has {len(body)} bytes", at=HEADER_LENGTH
        )
    end = len(body) if header_length is None else header_length
    try:
        request = _decode(memoryview(body)[:end])
    except msgspec.ValidationError as error:
        raise _invalid(f"the request is not as the protocol says: {error}", at="body") from error
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise _invalid(f"the JSON of the request cannot be read: {error}", at="body") from error
    tensors, at = [], end
    for sent in request.inputs:
        size = sent.parameters.binary_data_size if sent.parameters else None
        tensors.append(_tensor(sent, body, at))
        at += size or 0
    if at != len(body):
        raise _invalid(f"{len(body) - at} bytes follow the last tensor", at="body")
    return Sent(request, tensors)


def write(
    response: InferResponse, tensors: Sequence[Tensor], *, binary: Sequence[bool]
) -> tuple[bytes, int | None]:
    """Put an answer together; returns the body and the length of its JSON header, None where all is JSON."""
    blobs, outputs = [], []
    for tensor, is_binary in zip(tensors, binary, strict=True):
        parameters, data = None, None
        if is_binary:
            blobs.append(to_bytes(tensor))
            parameters = TensorParameters(binary_data_size=len(blobs[-1]))
        else:
            data = to_json(tensor)
        outputs.append(OutputTensor(tensor.name, tensor.shape, tensor.datatype, parameters, data))
    header = _encode(msgspec.structs.replace(response, outputs=outputs))
    return (b"".join([header, *blobs]), len(header)) if blobs else (header, None)


def _tensor(sent: InputTensor, body: bytes, at: int) -> Tensor:
    parameters = sent.parameters or TensorParameters()
    if parameters.shared_memory_region is not None:
        raise fault(sent.name, "shared memory is not offered; send the data")
    size = parameters.binary_data_size
    if size is None:
        if isinstance(sent.data, msgspec.UnsetType):
            raise fault(sent.name, "it has neither `data` nor a `binary_data_size`")
        coded = parameters.content_type == "base64"
        return from_json(sent.name, sent.datatype, sent.shape, sent.data, coded=coded)
    if size < 0 or at + size > len(body):
        raise fault(sent.name, f"its {size} bytes end beyond the body")
    return from_bytes(sent.name, sent.datatype, sent.shape, memoryview(body)[at : at + size])


def _chosen(accepted: str) -> str:
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, rest = part.partition(";")
        weights[name.strip()] = _weight(rest)
    return max(_WBITS, key=lambda n: weights.get(n, 0.0)) if any(weights.get(n, 0.0) > 0 for n in _WBITS) else ""


def _weight(parameters: str) -> float:
    key, _, value = parameters.partition("=")
    if key.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def _invalid(text: str, *, at: str) -> CaseError:
    return CaseError(text, code="invalid_body", at=at, status=400)
