"""Rows as columns: what a stage gets that declares `Columns` as its input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from tenure.types import Record


class Rows(Sequence[Record]):
    """A batch of records whose fields are all numbers: a matrix that reads as a list of records.

    Attributes:
        names: the fields, in order.
        kinds: their types: `float`, `int` or `bool`.
        values: (n, fields) float64, NaN for null; read-only.
    """

    __slots__ = ("kinds", "names", "values")

    def __init__(self, names: Sequence[str], kinds: Sequence[str], values: npt.NDArray[np.float64]) -> None:
        self.names, self.kinds, self.values = tuple(names), tuple(kinds), values
        values.flags.writeable = False

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Record | Rows:
        if isinstance(index, slice):
            return Rows(self.names, self.kinds, self.values[index])
        row = self.values[index].tolist()
        return {n: _native(v, k) for n, v, k in zip(self.names, row, self.kinds, strict=True)}

    def select(self, indices: Sequence[int]) -> Rows:
        """Return the rows with these numbers, in this order."""
        return Rows(self.names, self.kinds, self.values[np.asarray(indices, np.intp)])

    def matrix(self, *names: str) -> npt.NDArray[np.float32]:
        """Return (n, len(names)) float32, NaN for missing; all fields in order when none is named."""
        if not names or names == self.names:
            return self.values.astype(np.float32)
        known = {name: i for i, name in enumerate(self.names)}
        out = np.full((len(self), len(names)), np.nan, dtype=np.float32)
        for i, name in enumerate(names):
            if name in known:
                out[:, i] = self.values[:, known[name]]
        return out


class Columns(Mapping[str, npt.NDArray[Any]]):
    """A batch of records by field: name -> (n,) array, read-only.

    Numbers and truth values are float64 with NaN for missing; everything else is an object array with None.
    `len(columns)` is the number of fields; `columns.rows` the number of records.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.rows = len(records)
        if isinstance(records, Rows):
            self._arrays = {name: records.values[:, i] for i, name in enumerate(records.names)}
            return
        names = dict.fromkeys(name for record in records for name in record)
        self._arrays = {name: _array([record.get(name) for record in records]) for name in names}

    def __class_getitem__(cls, _item: object) -> type[Columns]:
        return cls

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def matrix(self, *names: str) -> npt.NDArray[np.float32]:
        """Return (rows, len(names)) float32, NaN for missing; all fields in order when none is named.

        Raises:
            ValueError: a column is not numeric.
        """
        wanted = names or tuple(self._arrays)
        out = np.full((self.rows, len(wanted)), np.nan, dtype=np.float32)
        for i, name in enumerate(wanted):
            column = self._arrays.get(name)
            if column is None:
                continue
            if column.dtype == object and any(v is not None for v in column):
                raise ValueError(f"field {name!r} is not numeric")
            if column.dtype != object:
                out[:, i] = column
        return out


def matrix(records: Sequence[Record], names: Sequence[str] = ()) -> npt.NDArray[np.float32]:
    """Return what `Columns(records).matrix(*names)` is, without the columns: a small batch in a few microseconds.

    Raises:
        ValueError: a column is not numeric.
    """
    if isinstance(records, Rows):
        return records.matrix(*names)
    if not names:
        return Columns(records).matrix()
    rows = [[record.get(name) for name in names] for record in records]
    for row in rows:
        for value in row:
            if not (value is None or isinstance(value, int | float)):
                raise ValueError(f"field {names[row.index(value)]!r} is not numeric")
    return np.array(rows, dtype=np.float64).astype(np.float32)


def _native(value: float, kind: str) -> float | int | bool | None:
    if value != value:
        return None
    if kind == "float":
        return value
    return bool(value) if kind == "bool" else int(value)


def _array(values: list[Any]) -> npt.NDArray[Any]:
    numeric = all(v is None or isinstance(v, int | float) for v in values) and any(v is not None for v in values)
    if numeric:
        array = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    else:
        array = np.empty(len(values), dtype=object)
        array[:] = values
    array.flags.writeable = False
    return array
