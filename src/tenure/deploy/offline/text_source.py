"""Rows of CSV and JSON-lines files. A line that cannot be read is a row that fails, under its own number."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tenure.data.decode import read_json
from tenure.deploy.offline.rows import Item
from tenure.deploy.offline.source import Fingerprint, Wanted, prints
from tenure.errors import CaseError

_LONGEST = 16 * 2**20
_LOOK = 100
_SAMPLE = 2**20
_INT = re.compile(r"[+-]?\d{1,19}")
_WORDS = {"true": True, "false": False, "t": True, "f": False, "1": True, "0": False}


class CsvSource:
    """CSV files with a line of names, in order of their names; the delimiter is found in that line.

    An empty cell is null. A cell that is not of its field's type stays a text, so that the checker says so.

    Raises:
        CaseError: a file has no line of names, or lacks a column.
    """

    is_exact = False

    def __init__(self, files: Sequence[Path], wanted: Wanted) -> None:
        self._files, self._wanted = files, wanted
        self.name = files[0].name if len(files) == 1 else f"{len(files)} CSV files"
        csv.field_size_limit(_LONGEST)
        self._heads = [self._head(path) for path in files]
        self.total: int | None = sum(max(0, _lines(path) - 1) for path in files)

    def fingerprint(self) -> Fingerprint:
        return prints(self._files)

    def items(self, start: int) -> Iterator[Item]:
        lines = itertools.chain.from_iterable(map(self._read, self._files, self._heads))
        for row, (raw, fault) in enumerate(lines):
            if row >= start:
                yield Item(row, raw, fault)

    def _head(self, path: Path) -> tuple[str, list[str]]:
        with _open(path) as file:
            line = file.readline()
        mark = max(",;\t|", key=line.count)
        names = next(csv.reader([line], delimiter=mark), [])
        if not names or len(set(names)) < len(names):
            raise CaseError(f"{path.name}: expected a first line of different column names", at=path.name)
        self._wanted.check(names, path.name)
        return mark, names

    def _read(self, path: Path, head: tuple[str, list[str]]) -> Iterator[tuple[Any, str | None]]:
        mark, names = head
        chosen = [(names.index(name), name, self._parser(name)) for name in self._wanted.chosen(names)]
        with _open(path) as file:
            reader = csv.reader(file, delimiter=mark)
            next(reader, None)
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield "", f"invalid_csv: {path.name} line {reader.line_num}: {error}"
                    continue
                if not cells:
                    continue  # an empty line
                if len(cells) != len(names):
                    where = f"{path.name} line {reader.line_num}"
                    yield cells, f"invalid_csv: {where}: expected {len(names)} cells, got {len(cells)}"
                    continue
                yield {name: parse(cells[i]) for i, name, parse in chosen}, None

    def _parser(self, name: str) -> Callable[[str], Any]:
        field = self._wanted.schema.fields.get(name)
        return _PARSERS["text" if field is None else field.type]


class JsonSource:
    """Files of one JSON object per line, in order of their names; empty lines are left out.

    Raises:
        CaseError: none of the first lines has a column that must be there.
    """

    is_exact = False

    def __init__(self, files: Sequence[Path], wanted: Wanted) -> None:
        self._files, self._wanted = files, wanted
        self.name = files[0].name if len(files) == 1 else f"{len(files)} files of JSON lines"
        self._look()
        self.total: int | None = sum(map(_lines, files))

    def fingerprint(self) -> Fingerprint:
        return prints(self._files)

    def items(self, start: int) -> Iterator[Item]:
        for row, line in enumerate(self._lines()):
            if row >= start:
                yield _object(row, line)

    def _lines(self) -> Iterator[bytes]:
        for path in self._files:
            with path.open("rb") as file:
                yield from (line for line in file if line.strip())

    def _look(self) -> None:
        first = [_object(i, line) for i, line in enumerate(itertools.islice(self._lines(), _LOOK))]
        if first and first[0].fault is not None and str(first[0].raw).lstrip().startswith("["):
            raise CaseError(f"{self.name} holds an array; expected one JSON object per line", at=self.name)
        names = dict.fromkeys(name for item in first if item.fault is None for name in item.raw)
        if names:
            self._wanted.check(list(names), f"{self.name} (first {len(first)} lines)")


def _object(row: int, line: bytes) -> Item:
    try:
        found = read_json(line)
    except CaseError as error:
        return Item(row, line.decode("utf-8", "replace").rstrip("\r\n"), f"{error.code}: {error.message}")
    if isinstance(found, dict):
        return Item(row, found)
    return Item(row, found, "invalid_case: expected a JSON object in each line")


def _open(path: Path) -> Any:
    return path.open(newline="", encoding="utf-8-sig", errors="surrogateescape")


def _lines(path: Path) -> int:
    """Return about how many lines a file has, from its first bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_SAMPLE)
    lines = head.count(b"\n") + (size == len(head) and not head.endswith(b"\n") and bool(head))
    return lines if size == len(head) else max(1, round(size * lines / len(head)))


def _int(cell: str) -> Any:
    text = cell.strip()
    return int(text) if _INT.fullmatch(text) else cell or None


def _float(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell or None


def _bool(cell: str) -> Any:
    return _WORDS.get(cell.strip().lower(), cell or None)


def _text(cell: str) -> Any:
    return cell or None


_PARSERS: dict[str, Callable[[str], Any]] = {
    "int": _int, "float": _float, "bool": _bool, "text": _text, "category": _text,
}  # fmt: skip
