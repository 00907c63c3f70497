"""Values of stages as bytes, for another process: records, texts, pixels, samples, arrays, predictions.

A parcel is a MessagePack head that names the large parts, and the large parts behind it, unchanged: arrays are
read where they lie. Nothing in it can name code, so a parcel is safe to open whoever sent it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from tenure.model.answer import Scores, as_prediction
from tenure.model.columns import Rows
from tenure.types import Audio, Failed, Image, Prediction

_PLAIN = frozenset({str, int, float, bool, type(None)})
_LARGE = 4096  # bytes below this stand in the head
_ALIGN = 64  # of each large part, so that arrays are aligned wherever they are read
_COUNTS = struct.Struct("<II")
_SIZE = struct.Struct("<Q")
_TUPLE, _ARRAY, _SCALAR, _IMAGE, _AUDIO, _PREDICTION, _FAILED, _ROWS, _SCORES, _PART = range(1, 11)

Part = bytes | memoryview

_encode = msgspec.msgpack.Encoder().encode
_prediction = msgspec.msgpack.Decoder(Prediction).decode
_failed = msgspec.msgpack.Decoder(Failed).decode


def pack(value: Any) -> list[Part]:
    """Return a value as parts that are sent one after the other.

    Plain values, lists, tuples, dicts, bytes, NumPy arrays and scalars, `Image`, `Audio`, `Prediction`, `Failed`
    and what tenure hands to stages go through; a prediction is checked on the way, as `as_prediction` does.

    Raises:
        TypeError: a value of another type.
        ValueError, OverflowError: a text that is no Unicode, a number beyond 64 bits.
    """
    parts: list[Part] = []
    head = _encode(_Packer(parts).put(value))
    sizes = b"".join(_SIZE.pack(len(part)) for part in parts)
    front = _COUNTS.pack(len(head), len(parts)) + sizes + head
    out: list[Part] = [front, bytes(-len(front) % _ALIGN)]
    for part in parts:
        out += (part, bytes(-len(part) % _ALIGN))
    return [part for part in out if len(part)]


def unpack(parcel: bytes | bytearray | memoryview) -> Any:
    """Return the value; arrays and pixels are read-only views of the parcel.

    Raises:
        ValueError: it is no parcel.
    """
    view = memoryview(parcel).toreadonly()
    try:
        size, n = _COUNTS.unpack_from(view)
        at = _COUNTS.size + n * _SIZE.size
        head, parts = view[at : at + size], list[memoryview]()
        at = _aligned(at + size)
        for (length,) in _SIZE.iter_unpack(view[_COUNTS.size : _COUNTS.size + n * _SIZE.size]):
            parts.append(view[at : at + length])
            at = _aligned(at + length)
        return _Unpacker(parts).value(head)
    except (struct.error, msgspec.MsgspecError, IndexError, TypeError) as error:
        raise ValueError(f"not a parcel: {error}") from error


def _aligned(at: int) -> int:
    return at + (-at % _ALIGN)


class _Packer:
    def __init__(self, parts: list[Part]) -> None:
        self._parts = parts

    def put(self, value: Any) -> Any:
        """Return the value as MessagePack can hold it; large parts are put aside."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is dict:
            return {k: v if type(v) in _PLAIN else self.put(v) for k, v in value.items()}
        if kind is list:
            return [v if type(v) in _PLAIN else self.put(v) for v in value]
        special = _PACKERS.get(kind)
        if special is not None:
            return special(self, value)
        if isinstance(value, np.ndarray):
            return _array(self, value)
        if isinstance(value, np.generic):
            return self.tagged(_SCALAR, _array(self, np.asarray(value)))
        for base in (str, int, float):  # an enumeration, say
            if isinstance(value, base):
                return base(value)
        raise TypeError(
            f"a {kind.__name__} cannot go to another process: return plain values, arrays, images, predictions, "
            "or give the stage `placement: thread`"
        )

    def tagged(self, code: int, content: Any) -> msgspec.msgpack.Ext:
        return msgspec.msgpack.Ext(code, _encode(content))

    def part(self, data: Part) -> Any:
        """Put bytes aside when they are many."""
        if len(data) < _LARGE:
            return bytes(data)
        self._parts.append(data)
        return self.tagged(_PART, len(self._parts) - 1)


def _array(packer: _Packer, array: np.ndarray[Any, Any]) -> msgspec.msgpack.Ext:
    if array.dtype.hasobject or array.dtype.fields is not None:
        raise TypeError(f"an array of {array.dtype} cannot go to another process: use numbers, or a list")
    flat = np.ascontiguousarray(array).reshape(-1)
    data = flat.view(np.uint8).data if flat.size else memoryview(b"")
    return packer.tagged(_ARRAY, [array.dtype.str, list(array.shape), packer.part(data)])


_PACKERS: dict[type[Any], Callable[[_Packer, Any], Any]] = {
    tuple: lambda p, v: p.tagged(_TUPLE, p.put(list(v))),
    bytes: lambda p, v: p.part(v),
    Image: lambda p, v: p.tagged(_IMAGE, [_array(p, v.pixels), p.part(v.data), v.media_type]),
    Audio: lambda p, v: p.tagged(_AUDIO, [_array(p, v.samples), v.rate, p.part(v.data), v.media_type]),
    Prediction: lambda p, v: _checked(p, v),
    Failed: lambda p, v: p.tagged(_FAILED, v),
    Rows: lambda p, v: p.tagged(_ROWS, [v.names, v.kinds, _array(p, v.values)]),
    Scores: lambda p, v: p.tagged(_SCORES, [v.labels, _array(p, v.probabilities)]),
}


def _checked(packer: _Packer, value: Prediction) -> msgspec.msgpack.Ext:
    prediction = as_prediction(value)
    return packer.tagged(_FAILED if isinstance(prediction, Failed) else _PREDICTION, prediction)


class _Unpacker:
    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts
        self._decode = msgspec.msgpack.Decoder(ext_hook=self._special).decode

    def value(self, head: memoryview) -> Any:
        return self._decode(head)

    def _special(self, code: int, data: memoryview) -> Any:
        if code == _PREDICTION:
            return _prediction(data)
        if code == _FAILED:
            return _failed(data)
        content = self._decode(data)
        if code == _PART:
            return self._parts[content]
        if code == _TUPLE:
            return tuple(content)
        if code == _SCALAR:
            return content[()]
        return _MAKERS[code](*content) if code in _MAKERS else _unknown(code)


def _unknown(code: int) -> Any:
    raise ValueError(f"a parcel has no part of kind {code}")


def _made_array(dtype: str, shape: list[int], data: bytes | memoryview) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, np.dtype(dtype)).reshape(shape)


_MAKERS: dict[int, Callable[..., Any]] = {
    _ARRAY: _made_array,
    _IMAGE: lambda pixels, data, media_type: Image(pixels, bytes(data), media_type),
    _AUDIO: lambda samples, rate, data, media_type: Audio(samples, rate, bytes(data), media_type),
    _ROWS: Rows,
    _SCORES: Scores,
}
