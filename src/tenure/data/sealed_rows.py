"""Find single rows in sealed files quickly: where each key lies, and the row groups that were read last."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

FILES, GROUPS = 64, 6
"""How many files' keys, and how many row groups, are remembered."""

_Stamp = tuple[str, int, int, int]
U64 = npt.NDArray[np.uint64]


class _Keys(msgspec.Struct, frozen=True):
    """The keys of one file in row order, and the first row of each row group."""

    run: U64
    seq: U64
    starts: npt.NDArray[np.int64]


class SealedRows:
    """Rows of sealed files by (run, seq); neighbours in time are found without reading the file again."""

    def __init__(self) -> None:
        self._keys: OrderedDict[_Stamp, _Keys] = OrderedDict()
        self._groups: OrderedDict[tuple[_Stamp, int], pa.Table] = OrderedDict()

    def find(self, path: Path, run: int, seq: int) -> dict[str, Any] | None:
        """Return the row of a key in one file, or None; raises FileNotFoundError when the file is gone."""
        found = path.stat()
        stamp = (os.fspath(path), found.st_ino, found.st_mtime_ns, found.st_size)
        keys = _remembered(self._keys, stamp, FILES, lambda: _read_keys(path))
        rows = np.flatnonzero((keys.seq == np.uint64(seq)) & (keys.run == np.uint64(run)))
        if not len(rows):
            return None
        group = int(np.searchsorted(keys.starts, rows[0], side="right")) - 1
        table = _remembered(self._groups, (stamp, group), GROUPS, lambda: _read_group(path, group))
        row: dict[str, Any] = table.slice(int(rows[0] - keys.starts[group]), 1).to_pylist()[0]
        return row


def _remembered(cache: OrderedDict[Any, Any], key: Any, size: int, make: Any) -> Any:
    if key in cache:
        cache.move_to_end(key)
    else:
        cache[key] = make()
        while len(cache) > size:
            cache.popitem(last=False)
    return cache[key]


def _read_keys(path: Path) -> _Keys:
    with pq.ParquetFile(path) as file:
        table = file.read(columns=["run", "seq"])
        rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)[:-1]]) if rows else np.zeros(0, np.int64)
    return _Keys(table["run"].to_numpy().astype(np.uint64), table["seq"].to_numpy().astype(np.uint64), starts)


def _read_group(path: Path, group: int) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read_row_group(group)
