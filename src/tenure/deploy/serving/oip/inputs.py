"""What an endpoint takes as tensors, and from tensors to its inputs. Pure.

Every endpoint takes `input`: texts, clips, pictures (encoded, or pixels), JSON objects where a record declares no
fields, or a matrix with a column for each field where all fields are numbers. A record with declared fields also
takes one tensor for each field.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from tenure.data import pictures, sound
from tenure.data.decode import read_json, read_text
from tenure.data.schema import INT64, InputSchema
from tenure.deploy.serving.oip.messages import Parameter, TensorMetadata
from tenure.deploy.serving.oip.tensors import DTYPES, Tensor, from_bytes, of_bytes
from tenure.errors import CaseError
from tenure.scope.project import Field
from tenure.types import Audio, Image, Input

INPUT = "input"
MAX_ROWS = 4096
"""Rows of one request; more are refused with 413."""

Item = Input | CaseError
_NUMBERS = ("int", "float")
_LARGEST = float(np.finfo(np.float64).max)


class Inputs:
    """The inputs of one endpoint.

    Attributes:
        metadata: the tensors that clients are told of; the others are taken as well.
    """

    def __init__(self, model: str, schema: InputSchema) -> None:
        self._model = model
        self._schema = schema
        self._fields = schema.fields
        numbers = bool(self._fields) and all(f.type in _NUMBERS for f in self._fields.values())
        self._has_matrix = numbers and INPUT not in self._fields
        self.metadata = self._metadata()

    def raw(self, body: bytes) -> Tensor:
        """Return a whole body as the tensor of a model that has one: numbers fill rows, bytes are one element.

        Raises:
            CaseError: 400, the model has several inputs, or the body is no whole number of rows.
        """
        if len(self.metadata) != 1:
            names = ", ".join(m.name for m in self.metadata)
            raise _wrong(f"a raw body needs a model with one input; {self._model!r} has {names}")
        told = self.metadata[0]
        if told.datatype == "BYTES":
            return of_bytes(told.name, [body])
        row = DTYPES[told.datatype].itemsize * math.prod(told.shape[1:])
        return from_bytes(told.name, told.datatype, (len(body) // row, *told.shape[1:]), body)

    def items(self, tensors: Sequence[Tensor]) -> list[Item]:
        """Return the input of each row; a CaseError stands for a row that cannot be used.

        Raises:
            CaseError: 400, the tensors are not those of the endpoint; 413, too many rows.
        """
        named = {tensor.name: tensor for tensor in tensors}
        if len(named) != len(tensors):
            raise _wrong(f"an input of model {self._model!r} is given twice")
        rows = self._rows(tensors)
        if not self._fields or (self._has_matrix and INPUT in named):
            self._expect(named, {INPUT}, needed={INPUT})
            return self._of_one(named[INPUT])
        self._expect(named, set(self._fields), needed={n for n, f in self._fields.items() if f.required})
        columns = {name: self._column(name, tensor) for name, tensor in named.items()}
        return self._records(columns, rows)

    # What clients are told

    def _metadata(self) -> tuple[TensorMetadata, ...]:
        if self._has_matrix:
            columns: dict[str, Parameter] = {"columns": ",".join(self._fields)}
            return (TensorMetadata(INPUT, "FP64", (-1, len(self._fields)), columns),)
        if self._fields:
            return tuple(TensorMetadata(n, _datatype(f), (-1,)) for n, f in self._fields.items())
        return (TensorMetadata(INPUT, "BYTES", (-1,)),)

    # What they sent

    def _rows(self, tensors: Sequence[Tensor]) -> int:
        counts = {tensor.shape[0] if tensor.shape else 0 for tensor in tensors}
        if len(counts) != 1:
            raise _wrong(f"the inputs of a request to {self._model!r} have one and the same number of rows")
        (rows,) = counts
        if rows == 0:
            raise _wrong(f"the request to {self._model!r} has no rows")
        if rows > MAX_ROWS:
            raise CaseError(
                f"{rows} rows are more than {MAX_ROWS}; send them in several requests",
                code="too_large", at="inputs", status=413,
            )  # fmt: skip
        return rows

    def _expect(self, named: dict[str, Tensor], known: set[str], *, needed: set[str]) -> None:
        other = sorted(named.keys() - known)
        if other:
            told = ", ".join(m.name for m in self.metadata)
            raise _wrong(
                f"unexpected inference input {other[0]!r} for model {self._model!r}; it takes {told}", at=other[0]
            )
        missing = sorted(needed - named.keys())
        if missing:
            raise _wrong(
                f"expected {len(needed)} inputs for model {self._model!r}, {missing[0]!r} is missing",
                at=missing[0],
            )

    def _of_one(self, tensor: Tensor) -> list[Item]:
        if self._fields:
            return self._matrix(tensor)
        if self._schema.kind == "image" and tensor.datatype != "BYTES":
            return _pixels(self._model, tensor)
        return self._elements(tensor)

    def _matrix(self, tensor: Tensor) -> list[Item]:
        width = len(self._fields)
        if tensor.data.ndim != 2 or tensor.shape[1] != width:
            raise _shape(self._model, tensor, f"[-1,{width}]")
        columns = {
            name: self._column(name, Tensor(name, tensor.datatype, tensor.data[:, i]))
            for i, name in enumerate(self._fields)
        }
        return self._records(columns, tensor.shape[0])

    def _column(self, name: str, tensor: Tensor) -> _Column:
        shape = tensor.shape
        if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
            raise _shape(self._model, tensor, "[-1]")
        field, flat = self._fields[name], tensor.data.ravel()
        family = "number" if field.type in _NUMBERS else "bool" if field.type == "bool" else "text"
        if family != _family(tensor.datatype):
            raise _datatypes(self._model, tensor, _datatype(field))
        if family == "number":
            return _whole(flat, field) if field.type == "int" else _floats(flat, field)
        if family == "bool":
            return _Column(flat.tolist(), np.zeros(len(flat), bool), {})
        return _texts(flat.tolist())

    def _records(self, columns: dict[str, _Column], rows: int) -> list[Item]:
        """Put rows together; those that look wrong are checked value by value, for the words of a refusal."""
        nothing = [None] * rows
        values = [columns[name].values if name in columns else nothing for name in self._fields]
        names = tuple(self._fields)
        items: list[Item] = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        doubtful = np.zeros(rows, bool)
        for column in columns.values():
            doubtful |= column.doubtful
        for i in np.flatnonzero(doubtful).tolist():
            items[i] = _tried(self._schema.check_record, items[i])
        for column in columns.values():
            for i, error in column.faults.items():
                items[i] = error
        return items

    def _elements(self, tensor: Tensor) -> list[Item]:
        """Read texts, objects, pictures or clips; together they may not cost more than one large one."""
        shape = tensor.shape
        if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
            raise _shape(self._model, tensor, "[-1]")
        if tensor.datatype != "BYTES":
            raise _datatypes(self._model, tensor, "BYTES")
        left, items = {"image": pictures.MAX_PIXELS, "audio": sound.MAX_SAMPLES}.get(self._schema.kind, 0), []
        for body in tensor.data.ravel().tolist():
            items.append(_tried(partial(self._element, left=left), body or b""))
            left -= _cost(items[-1])
        return items

    def _element(self, body: bytes, *, left: int) -> Input:
        if self._schema.kind == "image":
            return pictures.read_image(body, max_pixels=left)
        if self._schema.kind == "audio":
            return sound.read_audio(body, max_samples=left)
        if self._schema.kind == "text":
            return read_text(body)
        return self._schema.check_record(read_json(body))


class _Column(NamedTuple):
    """The values of a field, the rows that need a closer look, and those whose value cannot be read at all."""

    values: list[Any]
    doubtful: npt.NDArray[np.bool_]
    faults: dict[int, CaseError]


def _floats(flat: npt.NDArray[Any], field: Field) -> _Column:
    data = flat.astype(np.float64)
    doubtful = ~((data >= _least(field)) & (data <= _most(field)))  # NaN and infinities, too
    return _Column(_with_nulls(data.tolist(), data, doubtful), doubtful, {})


def _whole(flat: npt.NDArray[Any], field: Field) -> _Column:
    """Read integers; floats do as well where they are whole."""
    if flat.dtype.kind in "iu":
        doubtful = ~((flat >= _least(field)) & (flat <= _most(field)))
        if flat.dtype.kind == "u" and flat.dtype.itemsize == 8:
            doubtful |= flat >= np.uint64(INT64)
        return _Column(flat.tolist(), doubtful, {})
    data = flat.astype(np.float64)
    doubtful = ~((data >= _least(field)) & (data <= _most(field)) & (np.abs(data) < INT64))
    doubtful |= data != np.trunc(data)
    values = np.where(doubtful, 0.0, data).astype(np.int64).tolist()
    for i in np.flatnonzero(doubtful).tolist():
        values[i] = float(data[i])
    return _Column(_with_nulls(values, data, doubtful), doubtful, {})


def _texts(raw: list[bytes | None]) -> _Column:
    values: list[str | None] = []
    faults: dict[int, CaseError] = {}
    for i, each in enumerate(raw):
        try:
            values.append(None if each is None else each.decode())
        except UnicodeDecodeError as error:
            values.append(None)
            faults[i] = CaseError(f"row {i} is not UTF-8 text: {error}", code="unreadable_text", at="body")
    doubtful = np.fromiter((value is None for value in values), bool, len(values))
    return _Column(values, doubtful, faults)


def _with_nulls(values: list[Any], data: npt.NDArray[np.float64], doubtful: npt.NDArray[np.bool_]) -> list[Any]:
    for i in np.flatnonzero(doubtful & np.isnan(data)).tolist():
        values[i] = None
    return values


def _pixels(model: str, tensor: Tensor) -> list[Item]:
    if tensor.datatype != "UINT8":
        raise _datatypes(model, tensor, "BYTES (encoded pictures) or UINT8 (pixels)")
    if tensor.data.ndim != 4 or tensor.shape[3] != 3 or 0 in tensor.shape:
        raise _shape(model, tensor, "[-1,-1,-1,3]")
    if tensor.data.size // 3 > pictures.MAX_PIXELS:
        raise _wrong(f"more than {pictures.MAX_PIXELS} pixels in one request", at=tensor.name)
    return [_picture(pixels) for pixels in np.ascontiguousarray(tensor.data)]


def _picture(pixels: npt.NDArray[np.uint8]) -> Image:
    """Return an image whose encoded form is a PNG, so that a reviewer can be shown what the model saw."""
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "PNG", compress_level=1)
    own = pixels.copy()
    own.flags.writeable = False
    return Image(own, out.getvalue(), "image/png")


def _tried(read: Callable[[Any], Input], value: Any) -> Item:
    try:
        return read(value)
    except CaseError as error:
        return error


def _cost(item: Item) -> int:
    if isinstance(item, Image):
        return item.height * item.width
    return len(item.samples) if isinstance(item, Audio) else 0


def _least(field: Field) -> float:
    return -_LARGEST if field.min is None else field.min


def _most(field: Field) -> float:
    return _LARGEST if field.max is None else field.max


def _datatype(field: Field) -> str:
    """Return the datatype that clients are told; where null is allowed it can say NaN."""
    if field.type == "int" and not field.nullable:
        return "INT64"
    return {"int": "FP64", "float": "FP64", "bool": "BOOL"}.get(field.type, "BYTES")


def _family(datatype: str) -> str:
    return {"BOOL": "bool", "BYTES": "text"}.get(datatype, "number")


def _wrong(text: str, *, at: str = "inputs") -> CaseError:
    return CaseError(text, code="invalid_body", at=at, status=400)


def _datatypes(model: str, tensor: Tensor, expected: str) -> CaseError:
    return _wrong(
        f"inference input {tensor.name!r} data-type is {tensor.datatype!r}, model {model!r} expects {expected}",
        at=tensor.name,
    )


def _shape(model: str, tensor: Tensor, expected: str) -> CaseError:
    got = ",".join(str(n) for n in tensor.shape)
    return _wrong(
        f"unexpected shape for input {tensor.name!r} for model {model!r}: expected {expected}, got [{got}]",
        at=tensor.name,
    )
