"""Turn finished segments into Parquet, merge small files, and let payloads go. No tailing here, no SQL.

Every file is put in place by rename and only then its source removed, so that each row is at all times in at
least one place. For a moment it is in two; readers count it once (see `view`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tenure.data.frames import Frame, read, resume
from tenure.data.parquet import Placed, tables
from tenure.data.records import Kind
from tenure.data.spool import SchemaStore, SegmentName, sync_folder
from tenure.errors import StoreError

_SEGMENTS = b"tenure.segments"
_HOUR_NS = 3_600_000_000_000
_PAYLOAD_ROWS = 128
_SOUGHT = ("run", "seq", "t_ns", "t")
"""Columns by whose extremes rows are found: a request, a span of time."""


class LogFile(msgspec.Struct, frozen=True):
    """One sealed file; the columns of the `log_files` table.

    `run` is a decimal number, empty for a merged file. `path` is relative to the data folder.
    """

    path: str
    kind: int
    endpoint: str
    run: str
    segment: str
    first_seq: int
    last_seq: int
    rows: int
    bytes: int
    sha256: str
    sealed_us: int


class Merged(msgspec.Struct, frozen=True):
    """What a compaction or a retention did: new files, and the paths that are gone."""

    added: tuple[LogFile, ...]
    removed: tuple[str, ...]


def frames_of(data: bytes, segment: str, schemas: SchemaStore) -> Iterator[Placed]:
    """Yield every good frame of a finished segment; step over bad ones."""
    parts = SegmentName.parse(segment)
    run, at = parts.run if parts else None, 0
    readable: dict[int, bool] = {}
    while True:
        got = read(data, at, run=run, schemas=schemas.get)
        if isinstance(got, Frame):
            at = got.end
            if got.schema_id not in readable:
                readable[got.schema_id] = _is_readable(got)
            if readable[got.schema_id]:
                yield Placed(segment, got.offset, got)
            continue
        following = resume(data, at, run=run) if got.why == "bad" else None
        if following is None:
            return
        at = following


def _is_readable(frame: Frame) -> bool:
    try:
        return bool(frame.schema.columns)
    except StoreError:
        return False


def seal_segment(folder: Path, segment: str, schemas: SchemaStore, *, now_ns: int) -> list[LogFile]:
    """Write the Parquet files of a finished segment, then remove it. Doing it twice gives the same files."""
    source = folder / "spool" / f"{segment}.seg"
    groups = tables(frames_of(source.read_bytes(), segment, schemas), coded=True)
    hour = hour_of(min((pc.min(t["t_ns"]).as_py() for t in groups.values()), default=0))
    files = [
        _put(folder, kind, endpoint, table, stem=segment, hour=hour, now_ns=now_ns)
        for (kind, endpoint), table in groups.items()
    ]
    source.unlink()
    sync_folder(source.parent)
    del groups
    pa.default_memory_pool().release_unused()  # a segment's worth, held until the next one otherwise
    return files


def hour_of(t_ns: int) -> str:
    """Return the partition of a time: the hour in UTC of a segment's first row."""
    at = datetime.fromtimestamp(t_ns // 1_000_000_000, UTC)
    return f"dt={at:%Y-%m-%d}/hour={at:%H}"


def _group(schema: pa.Schema) -> int | None:
    """Return the rows per row group: few where rows hold whole inputs, which are read one at a time."""
    return _PAYLOAD_ROWS if "data" in schema.names else None


def _repeated(schema: pa.Schema) -> list[str]:
    """Return the columns whose values come again: a dictionary of measurements would cost more than it saves."""
    single = ("record", "probabilities", "regions", "text", "seq", "t_ns", "t", "data")
    return [f.name for f in schema if not pa.types.is_floating(f.type) and f.name not in single]


def _home(kind: Kind) -> str:
    return "payload" if kind == Kind.PAYLOAD else f"log/kind={kind.name.lower()}"


def _put(
    folder: Path, kind: Kind, endpoint: str, table: pa.Table, *, stem: str, hour: str, now_ns: int
) -> LogFile:
    path = folder / _home(kind) / hour / f"{stem}.{endpoint}.parquet"
    with _replacing(path) as temporary:
        _write(_tight(table), temporary, _tags([stem]))
    return _described(folder, path, table["seq"], now_ns=now_ns)


def _tight(table: pa.Table) -> pa.Table:
    """Say of each column without nulls that it has none, so that nothing is written about them.

    The columns of another file may be otherwise: who reads several takes them for nullable.
    """
    fields = [
        field.with_nullable(column.null_count > 0)
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields))


def _write(table: pa.Table, path: Path, tags: dict[bytes, bytes]) -> None:
    group = _group(table.schema)
    # what is merged within two hours is compressed for good then; until then the cheaper way does
    with _writer(path, table.schema, "lz4" if group is None else "zstd") as writer:
        writer.add_key_value_metadata(tags)
        writer.write_table(table, row_group_size=group)


def _writer(path: Path, schema: pa.Schema, compression: str) -> pq.ParquetWriter:
    """Return a writer that spends its time where it saves bytes or helps a query.

    The bytes of float64 are put apart by their place, so that those of numbers which were float32 once compress
    to nothing. Extremes are kept of what rows are found by. Without the Arrow schema a column of words is read as
    text, whether it was written as a dictionary or not.
    """
    floats = [f.name for f in schema if pa.types.is_floating(f.type)]
    return pq.ParquetWriter(
        path,
        schema,
        compression=compression,
        use_dictionary=_repeated(schema),
        use_byte_stream_split=[name for name in floats if schema.field(name).type == pa.float64()],
        write_statistics=[name for name in schema.names if name in _SOUGHT],
        store_schema=False,
    )


class _replacing:  # noqa: N801 - used as a verb in `with`
    """Write a temporary file, then fsync, rename and fsync the folder; nothing is left after a failure."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")

    def __enter__(self) -> Path:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._temporary.unlink(missing_ok=True)
            return
        with self._temporary.open("rb+") as file:
            os.fsync(file.fileno())
        self._temporary.replace(self._path)
        sync_folder(self._path.parent)


def _tags(segments: Sequence[str]) -> dict[bytes, bytes]:
    return {_SEGMENTS: msgspec.json.encode(sorted(segments))}


def segments_of(path: Path) -> frozenset[str]:
    """Return the segments whose rows a sealed file holds."""
    found = pq.read_schema(path).metadata or {}
    return frozenset(msgspec.json.decode(found[_SEGMENTS], type=list[str]))


def describe(folder: Path, path: Path, *, now_ns: int) -> LogFile:
    """Return the manifest row of a sealed file, from the file itself."""
    held = pq.read_table(path, columns=["seq"], partitioning=None)["seq"]
    return _described(folder, path, held, now_ns=now_ns)


def _described(folder: Path, path: Path, seqs: pa.ChunkedArray, *, now_ns: int) -> LogFile:
    stem, endpoint = path.name.removesuffix(".parquet").rsplit(".", 1)
    part = SegmentName.parse(stem)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return LogFile(
        path=str(path.relative_to(folder)),
        kind=int(_kind_of(folder, path)),
        endpoint=endpoint,
        run=str(part.run) if part else "",
        segment=stem,
        first_seq=pc.min(seqs).as_py() or 0,
        last_seq=pc.max(seqs).as_py() or 0,
        rows=len(seqs),
        bytes=path.stat().st_size,
        sha256=digest,
        sealed_us=now_ns // 1000,
    )


def _kind_of(folder: Path, path: Path) -> Kind:
    first, second = path.relative_to(folder).parts[:2]
    return Kind.PAYLOAD if first == "payload" else Kind[second.removeprefix("kind=").upper()]


def sealed_files(folder: Path, kind: Kind) -> list[Path]:
    """Return the sealed files of a kind, in order of time.

    The listing is repeated until two agree: one listing alone may miss a file that was merged while it ran.
    """
    home = folder / _home(kind)
    before = sorted(home.glob("dt=*/hour=*/*.parquet"))
    while True:
        after = sorted(home.glob("dt=*/hour=*/*.parquet"))
        if after == before:
            return after
        before = after


def superseded(files: Collection[Path]) -> set[Path]:
    """Return the files whose rows all stand in a merged file of the same folder and endpoint."""
    merged = [p for p in files if p.name.startswith("hour-")]
    if not merged:
        return set()
    held = {p: segments_of(p) for p in merged}
    out = set()
    for path in files:
        mine = held.get(path) or frozenset([path.name.rsplit(".", 2)[0]])
        if any(_covers(big, path) and mine <= held[big] for big in merged):
            out.add(path)
    return out


def _covers(big: Path, small: Path) -> bool:
    same_endpoint = big.name.rsplit(".", 2)[1] == small.name.rsplit(".", 2)[1]
    return big != small and big.parent == small.parent and same_endpoint


def compact(folder: Path, *, now_ns: int, settle_ns: int = 300_000_000_000) -> Merged:
    """Merge the record files of each hour that ended `settle_ns` ago; payloads stay as they are.

    A file that comes later is merged into the hour's file at the next call.
    """
    added: list[LogFile] = []
    removed: list[str] = []
    before = hour_of(now_ns - settle_ns)
    for kind in Kind:
        if kind in (Kind.PAYLOAD, Kind.HEARTBEAT):
            continue
        for group in _hours(folder, kind):
            hour = "/".join(group[0].parent.parts[-2:])
            if hour < before:
                _merge(folder, group, now_ns, added=added, removed=removed)
    return Merged(tuple(added), tuple(removed))


def _hours(folder: Path, kind: Kind) -> list[list[Path]]:
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in sealed_files(folder, kind):
        groups.setdefault((path.parent, path.name.rsplit(".", 2)[1]), []).append(path)
    return [group for group in groups.values() if len(group) > 1]


def _merge(folder: Path, group: list[Path], now_ns: int, *, added: list[LogFile], removed: list[str]) -> None:
    old = superseded(group)  # left by a merge that was killed before it removed its sources
    sources = [path for path in group if path not in old]
    if len(sources) > 1:
        held = sorted(set[str]().union(*map(segments_of, sources)))
        stem = f"hour-{hashlib.sha256(' '.join(held).encode()).hexdigest()[:16]}"
        target = group[0].with_name(f"{stem}.{group[0].name.rsplit('.', 2)[1]}.parquet")
        _write_merged(target, sources, held)
        added.append(describe(folder, target, now_ns=now_ns))
        old |= set(sources)
    for path in sorted(old):
        path.unlink()
        removed.append(str(path.relative_to(folder)))
    sync_folder(group[0].parent)


def _write_merged(target: Path, sources: list[Path], held: list[str]) -> None:
    """Copy file after file, so that memory holds one of them; each becomes row groups of its own."""
    schema = _common([pq.read_schema(p).remove_metadata() for p in sources])
    with _replacing(target) as temporary, _writer(temporary, schema, "zstd") as writer:
        writer.add_key_value_metadata(_tags(held))
        for path in sources:
            table = _aligned(pq.read_table(path, partitioning=None), schema)
            writer.write_table(table, row_group_size=_group(schema))


def _common(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the schema of all; a column that some lack, or may be null in some, is nullable."""
    whole = pa.unify_schemas(schemas)
    lacking = {name for name in whole.names if any(name not in schema.names for schema in schemas)}
    return pa.schema([field.with_nullable(field.nullable or field.name in lacking) for field in whole])


def _aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns: list[Any] = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays([*columns], schema=schema)


def retain(
    folder: Path,
    *,
    now_ns: int,
    retention_s: float,
    quota_bytes: int,
    protected: Collection[tuple[int, int]] = frozenset(),
) -> Merged:
    """Remove payload files that are too old, then the oldest ones until the rest fits the quota.

    Rows named in `protected` by (run, seq), such as those of open review items, are kept: their file is written
    again with only them.
    """
    files = sealed_files(folder, Kind.PAYLOAD)
    sizes = {path: path.stat().st_size for path in files}
    total, oldest = sum(sizes.values()), now_ns - int(retention_s * 1e9)
    added: list[LogFile] = []
    removed: list[str] = []
    for path in sorted(files, key=lambda p: (p.parent.parts[-2:], p.name)):
        if total <= quota_bytes and _ends_ns(path) > oldest:
            continue
        kept = _keep_only(folder, path, protected, now_ns)
        if kept is not None and kept.bytes >= sizes[path]:
            continue  # only protected rows were in it
        total -= sizes[path] - (kept.bytes if kept else 0)
        if kept:
            added.append(kept)
        else:
            removed.append(str(path.relative_to(folder)))
    return Merged(tuple(added), tuple(removed))


def _ends_ns(path: Path) -> int:
    """Return the end of the hour that a file lies in."""
    day, hour = (part.split("=")[1] for part in path.parent.parts[-2:])
    start = datetime.fromisoformat(f"{day}T{hour}:00:00+00:00")
    return int(start.timestamp()) * 1_000_000_000 + _HOUR_NS


def _keep_only(folder: Path, path: Path, protected: Collection[tuple[int, int]], now_ns: int) -> LogFile | None:
    keys = pq.read_table(path, columns=["run", "seq"], partitioning=None)
    pairs = zip(keys["run"].to_pylist(), keys["seq"].to_pylist(), strict=True)
    mask = [pair in protected for pair in pairs]
    if not any(mask):
        path.unlink()
        sync_folder(path.parent)
        return None
    if not all(mask):
        kept = pq.read_table(path, partitioning=None).filter(pa.array(mask))
        with _replacing(path) as temporary:
            _write(kept, temporary, _tags(sorted(segments_of(path))))
    return describe(folder, path, now_ns=now_ns)
