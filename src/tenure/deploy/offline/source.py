"""Where rows come from: files or a query, always in one order, so that a row's number names it."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from tenure.data.schema import InputSchema
from tenure.deploy.offline.rows import Item
from tenure.errors import CaseError, MissingError

WHOLE = 64 * 2**20
"""Files up to this size are hashed whole; of larger ones three samples, and the time of the change counts."""

_SAMPLE = 2**20
SUFFIXES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}


class FilePrint(msgspec.Struct, frozen=True):
    """What a file was when a run began; `mtime_ns` is 0 where the hash covers the whole file."""

    name: str
    size: int
    mtime_ns: int
    sha256: str


class Fingerprint(msgspec.Struct, frozen=True):
    """What an input was when a run began: files, or a query with its rows, extremes and a sample."""

    files: tuple[FilePrint, ...] = ()
    database: str = ""
    query: str = ""
    key: str = ""
    rows: int = 0
    sample: str = ""


class Source(Protocol):
    """An input whose columns were checked against an endpoint.

    Attributes:
        name: in words, for people.
        total: rows, as far as it can be known before they are read.
        is_exact: whether `total` is a count rather than an estimate.
    """

    name: str
    total: int | None
    is_exact: bool

    def fingerprint(self) -> Fingerprint:
        """Return what the input is now."""
        ...

    def items(self, start: int) -> Iterator[Item]:
        """Yield the rows from number `start` on, in order."""
        ...


class Wanted(msgspec.Struct, frozen=True):
    """Which columns are read: the endpoint's input, and those that are only copied to the output."""

    schema: InputSchema
    keep: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns of the input; none = every column is a field."""
        return ("text",) if self.schema.kind == "text" else tuple(self.schema.fields)

    def missing(self, columns: Sequence[str]) -> list[str]:
        """Return the columns that must be there and are not."""
        fields = self.schema.fields
        needed = [n for n in self.fields if n not in fields or fields[n].required]
        return [name for name in (*needed, *self.keep) if name not in columns]

    def check(self, columns: Sequence[str], where: str) -> None:
        """Refuse an input that lacks a column.

        Raises:
            CaseError: code `missing_column`; lists what is missing and what is there.
        """
        missing = self.missing(columns)
        if missing:
            names = ", ".join(missing)
            raise CaseError(
                f"{where} has no column {names}; there is: {', '.join(columns)}", code="missing_column", at=names
            )

    def chosen(self, columns: Sequence[str]) -> list[str]:
        """Return the columns to read, in the order of the fields."""
        if not self.fields:
            return list(columns)
        return [name for name in dict.fromkeys((*self.fields, *self.keep)) if name in columns]


def record_of(wanted: Wanted, raw: Mapping[str, object]) -> object:
    """Return the endpoint's input from a row: a text, or the fields that the row has."""
    if wanted.schema.kind == "text":
        return raw.get("text")
    if not wanted.fields:
        return {name: value for name, value in raw.items() if name not in wanted.keep}
    return {name: raw[name] for name in wanted.fields if name in raw}


def files_of(place: str) -> tuple[str, tuple[Path, ...]]:
    """Return (format, files in order of name) of a file, a folder or a glob.

    Raises:
        MissingError: nothing is there.
        CaseError: the files are of several formats or of none that is read.
    """
    path = Path(place)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    elif path.is_file():
        found = [path]
    else:
        found = sorted(Path(p) for p in glob.glob(place, recursive=True) if Path(p).is_file())
    if not found:
        raise MissingError(f"no input at {place}", at=place)
    formats = {SUFFIXES.get(p.suffix.lower()) for p in found}
    form = next(iter(formats))
    if len(formats) > 1 or form is None:
        odd = ", ".join(sorted({p.suffix or p.name for p in found}))
        raise CaseError(f"expected files of one of {', '.join(SUFFIXES)}; found {odd}", at=place)
    return form, tuple(found)


def prints(files: Sequence[Path]) -> Fingerprint:
    """Return the fingerprint of files."""
    return Fingerprint(files=tuple(_print(path) for path in files))


def _print(path: Path) -> FilePrint:
    stat = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if stat.st_size <= WHOLE:
            while block := file.read(_SAMPLE):
                digest.update(block)
            return FilePrint(path.name, stat.st_size, 0, digest.hexdigest())
        for at in (0, stat.st_size // 2, stat.st_size - _SAMPLE):
            file.seek(at)
            digest.update(file.read(_SAMPLE))
    return FilePrint(path.name, stat.st_size, stat.st_mtime_ns, digest.hexdigest())
