"""Tensors of the Open Inference Protocol: JSON and binary, both ways. Pure.

Binary is little-endian and row-major; a BOOL is one byte, a BYTES element is its length as uint32 and its bytes.
JSON is flat or nested lists in row-major order.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.errors import CaseError

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"), "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}  # fmt: skip
"""How each datatype lies in memory. BF16 travels as the upper half of an FP32 and is widened at once."""

MAX_RANK = 8
_LONGEST = 2**31 - 1  # of one dimension
_LENGTH = struct.Struct("<I")
_HALVES = ("FP16", "BF16")


class Tensor(NamedTuple):
    """A named array. BYTES are objects: bytes, or None where JSON said null; BF16 is held as float32."""

    name: str
    datatype: str
    data: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.data.shape)


def count(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Return how many elements a tensor has.

    Raises:
        CaseError: 400, no such datatype or no such shape.
    """
    if datatype not in DTYPES:
        raise fault(name, f"unknown datatype {datatype[:40]!r}, expected one of {', '.join(DTYPES)}")
    if len(shape) > MAX_RANK or not all(0 <= n <= _LONGEST for n in shape):
        raise fault(name, f"a shape has at most {MAX_RANK} dimensions, each 0 to {_LONGEST}, got {_short(shape)}")
    return math.prod(shape)


def from_bytes(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Tensor:
    """Read a binary tensor; numbers are not copied.

    Raises:
        CaseError: 400, the bytes do not fill the shape, or overfill it.
    """
    size = count(name, datatype, shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, _shaped(_elements(name, raw, size), shape))
    dtype = DTYPES[datatype]
    if len(raw) != size * dtype.itemsize:
        raise fault(
            name, f"unexpected total byte size {len(raw)}, expecting {size * dtype.itemsize} for {_short(shape)}"
        )
    if datatype == "BOOL":
        return Tensor(name, datatype, (np.frombuffer(raw, np.uint8) != 0).reshape(shape))
    flat: npt.NDArray[Any] = np.frombuffer(raw, dtype)
    return Tensor(name, datatype, (_widened(flat) if datatype == "BF16" else flat).reshape(shape))


def to_bytes(tensor: Tensor) -> bytes:
    """Write a binary tensor."""
    if tensor.datatype == "BYTES":
        texts = tensor.data.ravel().tolist()
        coded = {each: _LENGTH.pack(len(each)) + each for each in set(texts)}  # labels come again and again
        return b"".join([coded[each] for each in texts])
    return tensor.data.astype(DTYPES[tensor.datatype], copy=False).tobytes()


def from_json(
    name: str, datatype: str, shape: Sequence[int], text: bytes | msgspec.Raw, *, coded: bool
) -> Tensor:
    """Read the `data` of a tensor in JSON; null is NaN in FP32 and FP64 and nothing in BYTES.

    With `coded` the texts of BYTES are base64.

    Raises:
        CaseError: 400, other types than the datatype's, or another number of elements than the shape's.
    """
    size = count(name, datatype, shape)
    if datatype in _HALVES:
        raise fault(name, f"{datatype} cannot be sent as JSON; send binary data")
    text = bytes(text)
    nested = len(shape) > 1 and _is_nested(text)
    try:
        values = _decoder(datatype, len(shape) if nested else 1).decode(text)
        with np.errstate(over="ignore"):
            data: npt.NDArray[Any] = np.array(values, DTYPES[datatype])
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        raise fault(name, f"its data are no {datatype} of shape {_short(shape)}: {error}") from error
    if data.size != size or (nested and data.shape != tuple(shape)):
        raise fault(name, f"unexpected number of elements {data.size}, expecting {size} for {_short(shape)}")
    if datatype == "BYTES":
        texts = [_encoded(name, each, coded=coded) for each in data.ravel().tolist()]
        return Tensor(name, datatype, _shaped(texts, shape))
    return Tensor(name, datatype, data.reshape(shape))


def to_json(tensor: Tensor) -> list[Any]:
    """Return the flat values; NaN and infinities become null when they are written."""
    flat: list[Any] = tensor.data.ravel().tolist()
    if tensor.datatype == "BYTES":
        return [each.decode("utf-8", "replace") for each in flat]
    return flat


def of_bytes(name: str, values: Sequence[bytes | None], shape: Sequence[int] | None = None) -> Tensor:
    """Return a BYTES tensor, of rank 1 unless a shape is given."""
    return Tensor(name, "BYTES", _shaped(values, (len(values),) if shape is None else shape))


def fault(name: str, text: str) -> CaseError:
    """Return the 400 of a tensor that cannot be read."""
    return CaseError(f"tensor {name[:100]!r}: {text}", code="invalid_body", at=name[:100], status=400)


def _elements(name: str, raw: bytes | memoryview, size: int) -> list[bytes]:
    view, at = memoryview(raw), 0
    out: list[bytes] = []
    while at < len(view):
        if len(out) == size:
            raise fault(name, f"it has more than the {size} elements of its shape")
        end = at + 4 + (_LENGTH.unpack_from(view, at)[0] if at + 4 <= len(view) else 0)
        if at + 4 > len(view) or end > len(view):
            raise fault(name, f"element {len(out)} ends beyond the data")
        out.append(bytes(view[at + 4 : end]))
        at = end
    if len(out) != size:
        raise fault(name, f"it has {len(out)} elements, expecting {size}")
    return out


def _shaped(values: Sequence[bytes | None], shape: Sequence[int]) -> npt.NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(tuple(shape))


def _widened(flat: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return (flat.astype(np.uint32) << 16).view(np.float32)


def _encoded(name: str, text: str | None, *, coded: bool) -> bytes | None:
    if text is None:
        return None
    if not coded:
        return text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise fault(name, f"an element is not base64: {error}") from error


def _is_nested(text: bytes) -> bool:
    return text.lstrip()[1:].lstrip()[:1] == b"["


@cache
def _decoder(datatype: str, rank: int) -> msgspec.json.Decoder[Any]:
    form: Any = _element(datatype)
    for _ in range(rank):
        form = list[form]
    return msgspec.json.Decoder(form)


def _element(datatype: str) -> Any:
    if datatype == "BYTES":
        return str | None
    kind = DTYPES[datatype].kind
    if kind == "f":
        return float | None
    if kind == "b":
        return bool
    if datatype == "UINT64":  # numpy checks its upper end
        return Annotated[int, msgspec.Meta(ge=0)]
    info = np.iinfo(DTYPES[datatype])
    return Annotated[int, msgspec.Meta(ge=int(info.min), le=int(info.max))]


def _short(shape: Sequence[int]) -> str:
    return f"shape [{','.join(str(n) for n in shape[: MAX_RANK + 1])}]"
