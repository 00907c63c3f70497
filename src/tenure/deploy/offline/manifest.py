"""What a run is, how far it came, and whether it may go on: a value that both sinks store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from tenure.deploy.offline.rows import Counts
from tenure.deploy.offline.source import Fingerprint
from tenure.errors import ConflictError, StoreError

FORMAT = 1

State = Literal["running", "finished"]
Format = Literal["parquet", "csv", "jsonl", "sql"]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a resumed run must share with its beginning.

    Attributes:
        endpoint, version: what answers.
        input: what is read.
        contract: SHA-256 of the endpoint's input and output.
        format: of the output.
        chunk: rows per chunk; a chunk is committed as a whole.
        limit: rows to read; None = all.
        keep: input columns that are copied to the output.
        predict_only: nobody decides.
        review: undecided rows become review items.
    """

    endpoint: str
    version: str
    input: Fingerprint
    contract: str
    format: Format
    chunk: int
    limit: int | None = None
    keep: tuple[str, ...] = ()
    predict_only: bool = False
    review: bool = True


class FilePart(msgspec.Struct, frozen=True):
    """One committed file; `name` is relative to the output folder."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Chunk(msgspec.Struct, frozen=True):
    """One committed chunk: rows `first` to `first + counts.rows - 1` of the input."""

    number: int
    first: int
    counts: Counts
    files: tuple[FilePart, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `run` is the number under which its rows are logged; a row's `seq` is its number + 1."""

    format: int = FORMAT
    run: str
    state: State = "running"
    terms: Terms
    started_us: int
    finished_us: int = 0
    chunks: tuple[Chunk, ...] = ()

    @property
    def rows(self) -> int:
        """Rows that are committed; the next one to read."""
        return self.counts.rows

    @property
    def counts(self) -> Counts:
        return sum((chunk.counts for chunk in self.chunks), Counts())

    @property
    def number(self) -> int:
        """The run's number in the prediction log."""
        return int(self.run, 16)


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def decode(data: bytes | str, where: str) -> Manifest:
    """Return a stored manifest.

    Raises:
        StoreError: code `format_newer` for one of a newer tenure; code `manifest_invalid` for anything else.
    """
    try:
        plain = msgspec.json.decode(data)
        if isinstance(plain, dict) and isinstance(plain.get("format"), int) and plain["format"] > FORMAT:
            raise StoreError(f"{where} was written by a newer version of tenure", code="format_newer", at=where)
        return msgspec.convert(plain, Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"{where} is no manifest of a scoring run: {error}", code="manifest_invalid") from error


def changes(old: Terms, new: Terms) -> list[str]:
    """Say in words what differs between two runs; empty when one may continue the other."""
    before, after = dict(_flat(msgspec.to_builtins(old))), dict(_flat(msgspec.to_builtins(new)))
    names = dict.fromkeys([*before, *after])
    return [
        f"{name}: {_short(before.get(name))} became {_short(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def refuse_changes(old: Terms, new: Terms) -> None:
    """Raise ConflictError (code `run_changed`) where a run may not go on, with what changed."""
    changed = changes(old, new)
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise ConflictError(
            f"this run began with other terms: {'; '.join(changed[:5])}{more}. "
            "Go on with the old ones, choose another output, or start over with --restart",
            code="run_changed",
        )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple) and any(isinstance(v, dict) for v in value):
        for i, inner in enumerate(value):
            name = inner.get("name", i) if isinstance(inner, dict) else i
            yield from _flat(inner, f"{path} {name}")
    else:
        yield path, value


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value)) or None
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
