"""Rows of Parquet files: types are checked from the files' heads, and a resumed run skips whole row groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tenure.deploy.offline.rows import Item
from tenure.deploy.offline.source import Fingerprint, Wanted, prints
from tenure.errors import CaseError

_ROWS = 1024


class ParquetSource:
    """Parquet files, in order of their names.

    Raises:
        CaseError: a file is no Parquet, lacks a column, or has one of a type that the field cannot take.
    """

    is_exact = True

    def __init__(self, files: Sequence[Path], wanted: Wanted) -> None:
        self._files, self._wanted = files, wanted
        self.name = files[0].name if len(files) == 1 else f"{len(files)} Parquet files"
        self._rows = [self._check(path) for path in files]
        self.total: int | None = sum(self._rows)

    def fingerprint(self) -> Fingerprint:
        return prints(self._files)

    def items(self, start: int) -> Iterator[Item]:
        first = 0
        for path, rows in zip(self._files, self._rows, strict=True):
            if start < first + rows:
                yield from self._read(path, first, max(0, start - first))
            first += rows

    def _check(self, path: Path) -> int:
        try:
            with pq.ParquetFile(path) as file:
                schema, rows = file.schema_arrow, int(file.metadata.num_rows)
        except (pa.ArrowInvalid, OSError) as error:
            raise CaseError(f"cannot read {path.name} as Parquet: {error}", at=path.name) from error
        self._wanted.check(schema.names, path.name)
        for name in self._wanted.fields:
            if name in schema.names:
                _check_type(self._wanted, name, schema.field(name).type, path.name)
        return rows

    def _read(self, path: Path, first: int, skip: int) -> Iterator[Item]:
        with pq.ParquetFile(path) as file:
            groups, at = [], 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if at + rows > skip:
                    groups.append((group, at))
                at += rows
            if not groups:
                return
            columns = self._wanted.chosen(file.schema_arrow.names)
            row, skip = first + groups[0][1], skip - groups[0][1]
            for batch in file.iter_batches(_ROWS, row_groups=[g for g, _ in groups], columns=columns):
                if skip < batch.num_rows:
                    values = zip(*(_values(batch.column(n)) for n in columns), strict=True)
                    for i, line in enumerate(values):
                        if i >= skip:
                            yield Item(row + i, dict(zip(columns, line, strict=True)))
                skip = max(0, skip - batch.num_rows)
                row += batch.num_rows


def _values(column: pa.Array) -> list[Any]:
    """Return plain values; NaN, which some writers put where a value is missing, is null."""
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type):
        return [None if v is None or math.isnan(v) else v for v in values]
    return values


def _check_type(wanted: Wanted, name: str, found: pa.DataType, where: str) -> None:
    """Raise CaseError (code `column_type`) where no value of the column could be one of the field."""
    kind = wanted.schema.fields[name].type if name in wanted.schema.fields else "text"
    if pa.types.is_dictionary(found):
        found = found.value_type
    text = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
    fits = {
        "int": pa.types.is_integer(found),
        "float": pa.types.is_integer(found) or pa.types.is_floating(found),
        "bool": pa.types.is_boolean(found),
        "text": text,
        "category": text,
    }[kind]
    if not (fits or pa.types.is_null(found)):
        raise CaseError(
            f"{where}: column {name} is {found}, the endpoint's field is {kind}; cast it in the file",
            code="column_type",
            at=name,
        )
