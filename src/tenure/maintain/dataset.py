"""Freeze what people judged, with the inputs, into a snapshot that never changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.masking import NOTHING, Mask
from tenure.data.state import dumps
from tenure.errors import ConflictError, StoreError
from tenure.maintain import table
from tenure.maintain.judged import Judged, select
from tenure.maintain.merging import contradictions, merged
from tenure.maintain.snapshot import (
    INDEX,
    MANIFEST,
    MEDIA,
    TABLE,
    Manifest,
    Missing,
    Origin,
    Row,
    Snapshot,
    open_snapshot,
)
from tenure.maintain.split import Split, split
from tenure.model import contents
from tenure.types import Box

FOLDER = "snapshots"

MOST_LABELS = 200
"""With more different truths, such as numbers, they are not counted one by one."""

Payload = Callable[[str], tuple[str, bytes] | None]
"""Returns (media type, bytes) of a request's input, None where it was not kept."""

_EXTENSIONS = {
    "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif", "image/bmp": "bmp",
    "image/tiff": "tif", "audio/wav": "wav", "audio/x-wav": "wav", "audio/flac": "flac", "audio/ogg": "ogg",
    "text/plain": "txt", "application/json": "json",
}  # fmt: skip


def build_snapshot(
    conn: Connection,
    endpoint: str,
    folder: Path,
    *,
    since_us: int,
    payload: Payload,
    now_us: int,
    until_us: int | None = None,
    test_share: float = 0.2,
    min_side: int = 0,
    origin: Origin | None = None,
    mask: Mask = NOTHING,
) -> Snapshot:
    """Freeze what was judged about requests since a time, and note it in `snapshots`.

    `folder` is the data folder. It holds `conn` while all inputs are copied; `select`, `freeze` and `record` are
    its steps for callers who must not.

    Raises:
        ConflictError: nothing was judged, or no input is kept.
    """
    items = select(conn, endpoint, since_us=since_us, until_us=until_us)
    made = freeze(
        items, endpoint, folder, since_us=since_us, payload=payload, now_us=now_us, until_us=until_us,
        test_share=test_share, min_side=min_side, origin=origin, mask=mask,
    )  # fmt: skip
    record(conn, made, now_us=now_us)
    return made


def freeze(
    items: Sequence[Judged],
    endpoint: str,
    folder: Path,
    *,
    since_us: int,
    payload: Payload,
    now_us: int,
    until_us: int | None = None,
    test_share: float = 0.2,
    min_side: int = 0,
    origin: Origin | None = None,
    mask: Mask = NOTHING,
    progress: Callable[[int], None] = lambda done: None,
) -> Snapshot:
    """Write the folder of a snapshot, or return the one that holds the same already.

    `min_side` is noted for whoever decodes its photos; `progress` gets the number of items looked at. What `mask`
    names is left out, and the manifest says so.

    Raises:
        ConflictError: nothing was judged, or no input is kept.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=folder / FOLDER))
    try:
        every, missing = _gather(items, work, payload, progress)
        every = [_masked(row, mask) for row in every]
        rows = merged(every)
        if not rows:
            raise ConflictError(_empty(endpoint, missing), code="no_labels", at=endpoint)
        parts = split([r.at_us for r in rows], [_keys(r) for r in rows], test_share=test_share)
        rows = [msgspec.structs.replace(r, split=p) for r, p in zip(rows, parts.parts, strict=True)]
        _write(work / INDEX, b"".join(msgspec.json.encode(r) + b"\n" for r in rows))
        table.write(rows, work / TABLE)
        (work / TABLE).chmod(0o444)
        draft = _manifest(rows, parts, missing, endpoint=endpoint, since_us=since_us, work=work)
        draft = msgspec.structs.replace(
            draft, min_side=min_side or msgspec.UNSET, origin=origin or msgspec.UNSET,
            until_us=msgspec.UNSET if until_us is None else until_us,
            merged=len(every) - len(rows), contradictions=contradictions(rows),
            masked=mask.names() or msgspec.UNSET,
        )  # fmt: skip
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
    until_us = None if said.until_us is msgspec.UNSET else said.until_us
    selection = {
        "since_us": said.since_us, "until_us": until_us, "cut_us": said.cut_us, "train": said.train,
        "test": said.test, "missing": len(said.missing),
    }  # fmt: skip
    conn.execute(
        t.snapshots.insert().values(
            id=made.id, endpoint=said.endpoint, sha=made.sha, path=f"{FOLDER}/{made.id}", rows=said.rows,
            selection=dumps(selection), created_us=now_us,
        )
    )  # fmt: skip


# Gathering


def _gather(
    items: Sequence[Judged], work: Path, payload: Payload, progress: Callable[[int], None]
) -> tuple[list[Row], list[Missing]]:
    rows: list[Row] = []
    missing: list[Missing] = []
    if any(judged.item["record"] is None for judged in items):
        (work / MEDIA).mkdir()
    for number, judged in enumerate(items, 1):
        found = _row(judged, work, payload)
        progress(number)
        if isinstance(found, Row):
            rows.append(found)
        else:
            missing.append(found)
    return rows, missing


def _row(judged: Judged, work: Path, payload: Payload) -> Row | Missing:
    """Return an item's row, its input written to the media folder."""
    item = judged.item
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
        blind=judged.blind,
        shown_suggestion=judged.shown,
        fair=bool(item["fair"]) and not judged.shown,
        readers=len({r["reader"] for r in judged.readings}),
        unit=item["unit"],
        media_type=media_type,
        file=file,
        record=inline,
        version=item["version"] or "",
        predicted=judged.predicted,
        confidence=judged.confidence,
        decision=judged.decision,
        decided_by=judged.decided_by,
    )


def _masked(row: Row, mask: Mask) -> Row:
    return msgspec.structs.replace(row, record=mask.record(row.record), unit=mask.unit(row.unit))


def _media(work: Path, media_type: str, data: bytes) -> str:
    essence = media_type.partition(";")[0].strip().lower()
    name = f"{MEDIA}/{hashlib.sha256(data).hexdigest()[:32]}.{_EXTENSIONS.get(essence, 'bin')}"
    with contextlib.suppress(FileExistsError):
        _write(work / name, data)
    return name


def _keys(row: Row) -> list[tuple[str, str]]:
    """Return what ties a row to others: its unit, and its file, since one picture may have been sent twice."""
    keys = [("unit", row.unit)] if row.unit else []
    if row.file is not None:
        return [*keys, ("file", row.file)]
    return [*keys, ("text", row.record)] if isinstance(row.record, str) else keys


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
    """Write a new file that nobody shall change. Not fsynced: a torn one does not fit its hash and is made again.

    In few calls of the system, because a busy controller's other threads hold the interpreter after each.
    """
    made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    with os.fdopen(made, "wb") as file:
        file.write(data)


def _settle(work: Path, target: Path) -> Snapshot:
    if target.exists():
        try:
            return open_snapshot(target)
        except StoreError:
            shutil.rmtree(target)
    work.chmod(0o755)
    contents.move(work, target)
    return open_snapshot(target)
