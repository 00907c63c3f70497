"""The snapshots of a data folder: finding one, checking every byte of it, and what differs between two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.errors import ConflictError, MissingError, StoreError
from tenure.maintain import table
from tenure.maintain.snapshot import MANIFEST, TABLE, Row, Snapshot, open_snapshot

_S = t.snapshots.c


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot as lists show it; `selection` says which requests it took."""

    id: str
    endpoint: str
    sha: str
    path: str
    rows: int
    selection: dict[str, Any]
    created_us: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What the second of two snapshots has, ids of requests in order.

    Attributes:
        added, removed: only the second, only the first has it.
        relabelled: another truth or other boxes.
        moved: in the other part.
        changed: anything else, such as the weight or the provenance.
        same: rows that are equal.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    relabelled: tuple[str, ...]
    moved: tuple[str, ...]
    changed: tuple[str, ...]
    same: int


def listed(conn: Connection, endpoint: str | None = None) -> list[Listed]:
    """Return the snapshots, newest first."""
    query = sa.select(t.snapshots).order_by(_S.created_us.desc(), _S.id)
    query = query if endpoint is None else query.where(_S.endpoint == endpoint)
    return [
        Listed(**{**row, "selection": json.loads(row["selection"])}) for row in conn.execute(query).mappings()
    ]


def path_of(conn: Connection, folder: Path, name: str) -> tuple[Path, str | None]:
    """Return the folder of a snapshot and the SHA-256 that was noted for it; None for one outside `folder`.

    `name` is an id, the beginning of one that no other has, or a path.

    Raises:
        MissingError, ConflictError: no snapshot is meant, or several.
    """
    found = conn.execute(sa.select(_S.id, _S.path, _S.sha).where(_S.id.startswith(name, autoescape=True))).all()
    if len(found) > 1:
        raise ConflictError(f"{name} is the beginning of {len(found)} snapshots; say more of it", at=name)
    if found:
        return folder / found[0].path, found[0].sha
    if (Path(name) / MANIFEST).is_file():
        return Path(name), None
    raise MissingError(f"there is no snapshot {name!r}; `tenure dataset list` shows them", at=name)


def verify(path: Path, sha: str | None = None) -> Snapshot:
    """Open a snapshot with every byte compared, its table with its index, and its hash with the one noted.

    Raises:
        StoreError: something is not what it was when it was frozen.
    """
    made = open_snapshot(path)
    if sha is not None and made.sha != sha:
        raise StoreError(f"snapshot {made.id} is not the one that was noted: its SHA-256 differs", at=MANIFEST)
    rows = list(made.rows())
    if len(rows) != made.manifest.rows:
        raise StoreError(f"snapshot {made.id} has {len(rows)} rows, its manifest says {made.manifest.rows}")
    if TABLE in made.manifest.files:
        table.check(rows, made.path / TABLE)
    return made


def copy(made: Snapshot, target: Path) -> Snapshot:
    """Copy a snapshot to a new folder and return the copy, checked.

    Raises:
        ConflictError: the folder is there already.
    """
    if target.exists():
        raise ConflictError(f"{target} is there already; name a new folder", at=str(target))
    shutil.copytree(made.path, target)
    return open_snapshot(target)


def difference(first: Snapshot, second: Snapshot) -> Difference:
    """Compare two snapshots row by row."""
    a, b = ({row.id: row for row in snapshot.rows()} for snapshot in (first, second))
    kinds: dict[str, list[str]] = {"relabelled": [], "moved": [], "changed": [], "same": []}
    for id_ in a.keys() & b.keys():
        kinds[_kind(a[id_], b[id_])].append(id_)
    return Difference(
        added=tuple(id_ for id_ in b if id_ not in a),
        removed=tuple(id_ for id_ in a if id_ not in b),
        relabelled=tuple(sorted(kinds["relabelled"])),
        moved=tuple(sorted(kinds["moved"])),
        changed=tuple(sorted(kinds["changed"])),
        same=len(kinds["same"]),
    )


def _kind(a: Row, b: Row) -> str:
    if a == b:
        return "same"
    if dumps(a.label) != dumps(b.label) or a.boxes != b.boxes:
        return "relabelled"
    return "moved" if a.split != b.split else "changed"
