"""What a snapshot is: its rows, its manifest, and opening one with every byte checked.

```
snapshots/<id>/
  index.jsonl      one Row as JSON per line, oldest first
  rows.parquet     the same rows as a table (table.py)
  media/<sha>.jpg  inputs that are files, named by their content
  manifest.json    Manifest: the SHA-256 of every file above; <id> is the beginning of its own
```
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from tenure.data.state import dumps
from tenure.errors import ModelError, StoreError
from tenure.maintain.split import Part
from tenure.model import contents
from tenure.model.contents import FileEntry
from tenure.types import Box, Value

FORMAT = 1
INDEX, TABLE, MEDIA, MANIFEST = "index.jsonl", "rows.parquet", "media", "manifest.json"
ABOUT = ("id", "created_us")
"""Keys of the manifest that are not content, and so not part of its hash."""


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
        copies: requests that had the same input and truth and were merged into this row; `weight` is their sum.
        blind: the truth stands on readings of people who did not see the model's answer, and on no others.
        shown_suggestion: somebody whose reading it stands on saw the model's answer first: no blind truth.
        fair: drawn without regard to any model's score, and read blind.
        readers: people whose judgement stands.
        unit: what shares a fate, "" where each input stands alone.
        media_type: of the input.
        file: path of the input in the snapshot, or
        record: the input itself, a record or a text.
        version: that answered the request, "" without one.
        predicted, confidence: what it said.
        decision, decided_by: what was acted on, and who said so: model, person or fallback; "" where nobody did.
    """

    id: str
    label: Value
    at_us: int
    split: Part
    source: str
    kind: str
    boxes: tuple[Box, ...] = ()
    weight: float = 1.0
    copies: int = 1
    blind: bool = False
    shown_suggestion: bool = False
    fair: bool = False
    readers: int = 0
    unit: str = ""
    media_type: str = ""
    file: str | None = None
    record: Any = None
    version: str = ""
    predicted: Value = None
    confidence: float | None = None
    decision: Value = None
    decided_by: str = ""


class Missing(msgspec.Struct, frozen=True):
    """A judged item that could not be put in, and why."""

    id: str
    why: Literal["its input is not kept any more", "its truth is empty", "its chance of being judged is unknown"]


class Origin(msgspec.Struct, frozen=True):
    """What froze a snapshot: tenure's version, the project's name, and the SHA-256 of the endpoint's promises."""

    tenure: str
    project: str
    spec: str


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
        until_us: only requests before then were taken; absent without a limit.
        merged: rows that were merged into others, as the same input with the same truth.
        contradictions: inputs with more than one truth; all their rows are in one part.
        origin: what froze it; absent where a training run did.
        masked: fields that were left out of the records, `unit` where units are hashed; absent where nothing is.
        min_side: as the endpoint decodes photos; decode them alike: `read_image(data, min_side=…)`.
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
    until_us: int | msgspec.UnsetType = msgspec.UNSET
    merged: int | msgspec.UnsetType = msgspec.UNSET
    contradictions: int | msgspec.UnsetType = msgspec.UNSET
    origin: Origin | msgspec.UnsetType = msgspec.UNSET
    min_side: int | msgspec.UnsetType = msgspec.UNSET
    masked: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    created_us: int = 0

    def sha(self) -> str:
        """Return the SHA-256 of the content: the same rows and files have the same, whenever frozen.

        The table is left out: it repeats the index, in bytes that depend on the version of pyarrow.
        """
        content = {k: v for k, v in msgspec.to_builtins(self).items() if k not in ABOUT}
        content["files"] = {name: file for name, file in content["files"].items() if name != TABLE}
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


def open_snapshot(path: Path) -> Snapshot:
    """Open a snapshot's folder; every byte is compared with its manifest.

    Raises:
        StoreError: a file is missing, added or changed, or the manifest cannot be read.
    """
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
        found = contents.listing(path)
    except (OSError, msgspec.MsgspecError, ModelError) as error:
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
