"""Frozen data sets: what people judged, with the inputs, in one folder that never changes.

```
snapshots/<id>/
  index.jsonl      one Row as JSON per line, oldest first
  media/<sha>.jpg  inputs that are files, named by their content
  manifest.json    Manifest: the SHA-256 of every file above; <id> is the beginning of its own
```
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.deploy.automation.items import fair
from tenure.errors import ConflictError, StoreError
from tenure.maintain.split import Part, Split, split
from tenure.model import contents
from tenure.model.contents import FileEntry
from tenure.types import Box, Value

FORMAT = 1
FOLDER = "snapshots"
INDEX, MEDIA, MANIFEST = "index.jsonl", "media", "manifest.json"
ABOUT = ("id", "created_us")
"""Keys of the manifest that are not content, and so not part of its hash."""

MOST_LABELS = 200
"""With more different truths, such as numbers, they are not counted one by one."""

Payload = Callable[[str], tuple[str, bytes] | None]
"""Returns (media type, bytes) of a request's input, None where it was not kept."""

_EXTENSIONS = {
    "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif", "image/bmp": "bmp",
    "image/tiff": "tif", "audio/wav": "wav", "audio/x-wav": "wav", "audio/flac": "flac", "audio/ogg": "ogg",
    "text/plain": "txt", "application/json": "json",
}  # fmt: skip


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One judged input, a line of `index.jsonl`.

    Attributes:
        id: of the request.
        label: the truth that people or the world settled on.
        boxes: the truth's regions, in pixels.
        at_us: when the request came, UTC microseconds.
        split: `train`, or `test` for the frozen comparison: do not learn from it.
        source: single, agreed, adjudicated or outcome: how the truth came about.
        kind: uncertain, audit or shadow: why it was judged.
        weight: 1 / chance that this input was judged at all.
        blind: the first reader did not see the model's answer.
        fair: drawn without regard to any model's score.
        unit: what shares a fate, "" where each input stands alone.
        media_type: of the input.
        file: path of the input in the snapshot, or
        record: the input itself, a record or a text.
    """

    id: str
    label: Value
    at_us: int
    split: Part
    source: str
    kind: str
    boxes: tuple[Box, ...] = ()
    weight: float = 1.0
    blind: bool = False
    fair: bool = False
    unit: str = ""
    media_type: str = ""
    file: str | None = None
    record: Any = None


class Missing(msgspec.Struct, frozen=True):
    """A judged item that could not be put in, and why."""

    id: str
    why: Literal["its input is not kept any more", "its truth is empty", "its chance of being judged is unknown"]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot holds.

    Attributes:
        id: beginning of the SHA-256 of this manifest without `id` and `created_us`.
        since_us: judgements of requests since then were taken.
        rows: lines of the index; `train` + `test`.
        cut_us: the test holds no request before this time; None without a test.
        late: training rows that are not older than the cut.
        labels: part -> label -> rows; empty where there are more than 200 labels.
        missing: judged items that could not be put in.
        files: path -> hash and size.
    """

    format: int = FORMAT
    id: str = ""
    endpoint: str
    since_us: int
    rows: int
    train: int
    test: int
    cut_us: int | None
    late: int
    labels: dict[str, dict[str, int]]
    missing: tuple[Missing, ...]
    files: dict[str, FileEntry]
    created_us: int = 0

    def sha(self) -> str:
        """Return the SHA-256 of the content: the same rows and files have the same, whenever frozen."""
        content = {k: v for k, v in msgspec.to_builtins(self).items() if k not in ABOUT}
        return hashlib.sha256(dumps(content).encode()).hexdigest()


class Snapshot(msgspec.Struct, frozen=True):
    """A frozen data set on disk; `sha` is that of its content."""

    path: Path
    manifest: Manifest
    sha: str

    @property
    def id(self) -> str:
        return self.manifest.id

    def rows(self) -> Iterator[Row]:
        """Read the index, oldest row first."""
        with (self.path / INDEX).open("rb") as lines:
            for line in lines:
                yield msgspec.json.decode(line, type=Row)


def build_snapshot(
    conn: Connection,
    endpoint: str,
    folder: Path,
    *,
    since_us: int,
    payload: Payload,
    now_us: int,
    test_share: float = 0.2,
) -> Snapshot:
    """Freeze what was judged about requests since a time, and note it in `snapshots`.

    `folder` is the data folder. It holds `conn` while all inputs are copied; `select`, `freeze` and `record` are
    its steps for callers who must not.

    Raises:
        ConflictError: nothing was judged, or no input is kept.
    """
    items = select(conn, endpoint, since_us=since_us)
    made = freeze(
        items, endpoint, folder, since_us=since_us, payload=payload, now_us=now_us, test_share=test_share
    )
    record(conn, made, now_us=now_us)
    return made


def select(conn: Connection, endpoint: str, *, since_us: int) -> Sequence[RowMapping]:
    """Return the resolved items of requests since a time, oldest first."""
    i = t.review_items.c
    query = (
        sa.select(t.review_items, sa.case((fair(), 1), else_=0).label("fair"))
        .where(i.endpoint == endpoint, i.state == "resolved", i.created_us >= since_us)
        .order_by(i.created_us, i.id)
    )
    return conn.execute(query).mappings().all()


def freeze(
    items: Sequence[RowMapping],
    endpoint: str,
    folder: Path,
    *,
    since_us: int,
    payload: Payload,
    now_us: int,
    test_share: float = 0.2,
) -> Snapshot:
    """Write the folder of a snapshot, or return the one that holds the same already.

    Raises:
        ConflictError: nothing was judged, or no input is kept.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=folder / FOLDER))
    try:
        rows, missing = _gather(items, work, payload)
        if not rows:
            raise ConflictError(_empty(endpoint, missing), code="no_labels", at=endpoint)
        parts = split([r.at_us for r in rows], [_keys(r) for r in rows], test_share=test_share)
        rows = [msgspec.structs.replace(r, split=p) for r, p in zip(rows, parts.parts, strict=True)]
        _write(work / INDEX, b"".join(msgspec.json.encode(r) + b"\n" for r in rows))
        draft = _manifest(rows, parts, missing, endpoint=endpoint, since_us=since_us, work=work)
        sha = draft.sha()
        made = msgspec.structs.replace(draft, id=sha[:16], created_us=now_us)
        text = json.dumps(msgspec.to_builtins(made), sort_keys=True, indent=1, ensure_ascii=False)
        _write(work / MANIFEST, text.encode())
        return _settle(work, folder / FOLDER / made.id)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def record(conn: Connection, made: Snapshot, *, now_us: int) -> None:
    """Note a snapshot in the state; the same content twice is one row."""
    known = sa.select(t.snapshots.c.id).where(t.snapshots.c.id == made.id)
    if conn.execute(known).scalar() is not None:
        return
    said = made.manifest
    selection = {
        "since_us": said.since_us, "cut_us": said.cut_us, "train": said.train, "test": said.test,
        "missing": len(said.missing),
    }  # fmt: skip
    conn.execute(
        t.snapshots.insert().values(
            id=made.id, endpoint=said.endpoint, sha=made.sha, path=f"{FOLDER}/{made.id}", rows=said.rows,
            selection=dumps(selection), created_us=now_us,
        )
    )  # fmt: skip


def open_snapshot(path: Path) -> Snapshot:
    """Open a snapshot's folder; every byte is compared with its manifest.

    Raises:
        StoreError: a file is missing, added or changed, or the manifest cannot be read.
    """
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
        found = contents.listing(path)
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreError(f"{path} is not a snapshot: {error}", at=MANIFEST) from error
    if manifest.format != FORMAT:
        raise StoreError(
            f"the snapshot has format {manifest.format}, this tenure reads format {FORMAT}", at=MANIFEST
        )
    found.pop(MANIFEST)
    odd = sorted(n for n in found.keys() | manifest.files.keys() if found.get(n) != manifest.files.get(n))
    if odd:
        raise StoreError(f"snapshot {manifest.id}: {odd[0]} is not what the manifest says", at=odd[0])
    sha = manifest.sha()
    if manifest.id != sha[:16]:
        raise StoreError(f"snapshot {manifest.id}: its manifest was changed", at=MANIFEST)
    return Snapshot(path, manifest, sha)


# Gathering


def _gather(items: Sequence[RowMapping], work: Path, payload: Payload) -> tuple[list[Row], list[Missing]]:
    rows: list[Row] = []
    missing: list[Missing] = []
    for item in items:
        found = _row(item, work, payload)
        if isinstance(found, Row):
            rows.append(found)
        else:
            missing.append(found)
    return rows, missing


def _row(item: RowMapping, work: Path, payload: Payload) -> Row | Missing:
    """Return an item's row, its input written to the media folder."""
    label = json.loads(item["truth"] or "null")
    if label is None:
        return Missing(item["id"], "its truth is empty")
    # Whoever is not drawn for an audit was judged for certain.
    chance = item["audit_prob"] if item["kind"] == "audit" else 1.0
    if not 0.0 < chance <= 1.0:
        return Missing(item["id"], "its chance of being judged is unknown")
    media_type, file, inline = item["media_type"], None, None
    if item["record"] is not None:
        inline = json.loads(item["record"])
    else:
        kept = payload(item["id"])
        if kept is None:
            return Missing(item["id"], "its input is not kept any more")
        media_type, file = kept[0], _media(work, *kept)
    return Row(
        id=item["id"],
        label=label,
        at_us=item["created_us"],
        split="train",
        source=item["source"] or "",
        kind=item["kind"],
        boxes=msgspec.json.decode(item["truth_regions"] or "[]", type=tuple[Box, ...]),
        weight=1.0 / chance,
        blind=bool(item["blind"]),
        fair=bool(item["fair"]),
        unit=item["unit"],
        media_type=media_type,
        file=file,
        record=inline,
    )


def _media(work: Path, media_type: str, data: bytes) -> str:
    essence = media_type.partition(";")[0].strip().lower()
    name = f"{MEDIA}/{hashlib.sha256(data).hexdigest()[:32]}.{_EXTENSIONS.get(essence, 'bin')}"
    if not (work / name).exists():
        _write(work / name, data)
    return name


def _keys(row: Row) -> list[tuple[str, str]]:
    """Return what ties a row to others: its unit, and its file, since one picture may have been sent twice."""
    keys = [("unit", row.unit)] if row.unit else []
    return keys + ([("file", row.file)] if row.file else [])


def _empty(endpoint: str, missing: Sequence[Missing]) -> str:
    if not missing:
        return f"{endpoint} has no resolved judgement to learn from; judge some review items first"
    reasons = Counter(m.why for m in missing)
    said = ", ".join(f"{n} × {why}" for why, n in reasons.most_common())
    return f"none of {len(missing)} judged items of {endpoint} can be used: {said}"


# Writing


def _manifest(
    rows: Sequence[Row], parts: Split, missing: Sequence[Missing], *, endpoint: str, since_us: int, work: Path
) -> Manifest:
    labels: dict[str, Counter[str]] = {"train": Counter(), "test": Counter()}
    for row in rows:
        labels[row.split][str(row.label)] += 1
    return Manifest(
        endpoint=endpoint,
        since_us=since_us,
        rows=len(rows),
        train=parts.parts.count("train"),
        test=parts.parts.count("test"),
        cut_us=parts.cut_us,
        late=parts.late,
        labels={part: _counts(found) for part, found in labels.items()},
        missing=tuple(missing),
        files=contents.listing(work),
    )


def _counts(found: Counter[str]) -> dict[str, int]:
    return dict(sorted(found.items())) if len(found) <= MOST_LABELS else {}


def _write(path: Path, data: bytes) -> None:
    """Write a file that nobody shall change. Not fsynced: a torn one does not fit its hash and is made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o444)


def _settle(work: Path, target: Path) -> Snapshot:
    if target.exists():
        try:
            return open_snapshot(target)
        except StoreError:
            shutil.rmtree(target)
    work.chmod(0o755)
    contents.move(work, target)
    return open_snapshot(target)
