"""From matrices and columns to records, each row checked as its JSON would be. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tenure.data.schema import INT64, InputSchema
from tenure.data.typed import EXACT
from tenure.deploy.serving.oip.refusals import wrong_datatype, wrong_shape
from tenure.deploy.serving.oip.tensors import Tensor
from tenure.errors import CaseError
from tenure.scope.project import Field
from tenure.types import Input

Item = Input | CaseError
NUMBERS = ("int", "float")
_LARGEST = float(np.finfo(np.float64).max)


class Records:
    """The records of an endpoint whose fields are declared."""

    def __init__(self, model: str, schema: InputSchema) -> None:
        self._model, self._schema, self._fields = model, schema, schema.fields
        self._least = np.array([_least(field) for field in self._fields.values()])
        self._most = np.array([_most(field) for field in self._fields.values()])
        self._is_open = bool((self._least == -_LARGEST).all() and (self._most == _LARGEST).all())
        self._whole = [i for i, field in enumerate(self._fields.values()) if field.type == "int"]

    def matrix(self, tensor: Tensor) -> list[Item]:
        """Read a tensor with a column for each field, in order."""
        width = len(self._fields)
        if tensor.data.ndim != 2 or tensor.shape[1] != width:
            raise wrong_shape(self._model, tensor, f"[-1,{width}]")
        if tensor.data.dtype.kind == "f":
            return self._floats(tensor.data.astype(np.float64))
        columns = {name: Tensor(name, tensor.datatype, tensor.data[:, i]) for i, name in enumerate(self._fields)}
        return self.columns(columns, tensor.shape[0])

    def values(self, tensor: Tensor) -> npt.NDArray[np.float64] | None:
        """Return a matrix of floats whose every row is right, as it is; None where a row needs a look."""
        if tensor.data.ndim != 2 or tensor.shape[1] != len(self._fields) or tensor.data.dtype.kind != "f":
            return None
        data: npt.NDArray[np.float64] = np.array(tensor.data, dtype=np.float64)
        if self._is_open:  # every finite number will do
            fits = math.isfinite(np.maximum.reduce(np.abs(tensor.data), axis=None, initial=0.0))
        else:
            fits = bool(((data >= self._least) & (data <= self._most)).all())
        if not fits:
            return None
        whole = data[:, self._whole]
        return (
            data
            if not len(self._whole) or bool(((whole == np.trunc(whole)) & (np.abs(whole) <= EXACT)).all())
            else None
        )

    def columns(self, named: Mapping[str, Tensor], rows: int) -> list[Item]:
        """Read a tensor for each field; one that is optional may be absent."""
        return self._together({name: self._column(name, tensor) for name, tensor in named.items()}, rows)

    def _floats(self, data: npt.NDArray[np.float64]) -> list[Item]:
        """Read a matrix of floats at once: the short way of `columns`, for the request that must be fast."""
        doubtful = ~((data >= self._least) & (data <= self._most)).all(axis=1)
        for i in self._whole:
            doubtful |= (data[:, i] != np.trunc(data[:, i])) | (np.abs(data[:, i]) >= INT64)
        names = tuple(self._fields)
        items: list[Item] = [dict(zip(names, row, strict=True)) for row in data.tolist()]
        for i in self._whole:
            for item, value in zip(
                items, np.where(doubtful, 0.0, data[:, i]).astype(np.int64).tolist(), strict=True
            ):
                item[names[i]] = value  # type: ignore[index]
        for n in np.flatnonzero(doubtful).tolist():
            record = {name: _said(self._fields[name], data[n, i]) for i, name in enumerate(names)}
            items[n] = tried(self._schema.check_record, record)
        return items

    def _column(self, name: str, tensor: Tensor) -> _Column:
        shape = tensor.shape
        if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
            raise wrong_shape(self._model, tensor, "[-1]")
        field, flat = self._fields[name], tensor.data.ravel()
        family = "number" if field.type in NUMBERS else "bool" if field.type == "bool" else "text"
        if family != _family(tensor.datatype):
            raise wrong_datatype(self._model, tensor, datatype_of(field))
        if family == "number":
            return _whole(flat, field) if field.type == "int" else _floats(flat, field)
        if family == "bool":
            return _Column(flat.tolist(), np.zeros(len(flat), bool), {})
        return _texts(flat.tolist())

    def _together(self, columns: dict[str, _Column], rows: int) -> list[Item]:
        """Put rows together; those that look wrong are checked value by value, for the words of a refusal."""
        nothing = [None] * rows
        values = [columns[name].values if name in columns else nothing for name in self._fields]
        names = tuple(self._fields)
        items: list[Item] = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        doubtful = np.zeros(rows, bool)
        for column in columns.values():
            doubtful |= column.doubtful
        for i in np.flatnonzero(doubtful).tolist():
            items[i] = tried(self._schema.check_record, items[i])
        for column in columns.values():
            for i, error in column.faults.items():
                items[i] = error
        return items


def datatype_of(field: Field) -> str:
    """Return the datatype that clients are told; where null is allowed it can say NaN."""
    if field.type == "int" and not field.nullable:
        return "INT64"
    return {"int": "FP64", "float": "FP64", "bool": "BOOL"}.get(field.type, "BYTES")


def tried(read: Callable[[Any], Input], value: Any) -> Item:
    """Return what is read, or the refusal of this row."""
    try:
        return read(value)
    except CaseError as error:
        return error


class _Column(NamedTuple):
    """The values of a field, the rows that need a closer look, and those whose value cannot be read at all."""

    values: list[Any]
    doubtful: npt.NDArray[np.bool_]
    faults: dict[int, CaseError]


def _floats(flat: npt.NDArray[Any], field: Field) -> _Column:
    data = flat.astype(np.float64)
    doubtful = ~((data >= _least(field)) & (data <= _most(field)))  # NaN and infinities, too
    return _Column(_corrected(data.tolist(), data, doubtful, field), doubtful, {})


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
    return _Column(_corrected(values, data, doubtful, field), doubtful, {})


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


def _said(field: Field, value: np.float64) -> float | int | None:
    """Return a float as JSON would have said it: null for NaN, a whole one as integer where the field is one."""
    number = float(value)
    if number != number:
        return None
    return int(number) if field.type == "int" and math.isfinite(number) and number == int(number) else number


def _corrected(
    values: list[Any], data: npt.NDArray[np.float64], doubtful: npt.NDArray[np.bool_], field: Field
) -> list[Any]:
    for i in np.flatnonzero(doubtful).tolist():
        values[i] = _said(field, data[i])
    return values


def _least(field: Field) -> float:
    return -_LARGEST if field.min is None else field.min


def _most(field: Field) -> float:
    return _LARGEST if field.max is None else field.max


def _family(datatype: str) -> str:
    return {"BOOL": "bool", "BYTES": "text"}.get(datatype, "number")
