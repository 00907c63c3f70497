"""An output folder: one file per chunk, put in place by rename, and the manifest that says which count."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tenure.data.spool import sync_folder, write_file
from tenure.deploy.offline import manifest as manifests
from tenure.deploy.offline import table
from tenure.deploy.offline.manifest import Chunk, FilePart, Manifest, Terms
from tenure.deploy.offline.rows import Answered, Rejected, counts
from tenure.deploy.offline.table import Layout
from tenure.errors import ConflictError, StoreError

MANIFEST, QUARANTINE, LOCK = "manifest.json", "quarantine", ".lock"
_OURS = re.compile(r"(part-\d{5,}\.(parquet|csv|jsonl)|manifest\.json)(\.\d+-\d+\.tmp)?")


class FolderSink:
    """A folder of `part-*` files, `quarantine/` and `manifest.json`.

    A file counts once the manifest names it. Each is written under a temporary name, flushed, renamed, and its
    folder flushed; then the manifest likewise. So a crash at any moment leaves the last committed state.
    """

    def __init__(self, folder: Path, layout: Layout, form: manifests.Format) -> None:
        self._folder, self._layout, self._form = folder, layout, form
        self._lock = -1
        self.name = str(folder)

    def __enter__(self) -> FolderSink:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StoreError(f"cannot write to {self._folder}: {error.strerror}", at=str(self._folder)) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConflictError(f"another run is writing to {self._folder}", code="run_active") from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def open(self, terms: Terms, *, run: int, now_us: int, restart: bool) -> Manifest:
        known = self._known()
        if known is not None and not restart:
            manifests.refuse_changes(known.terms, terms)
            self._check_files(known)
            self._sweep(known)
            return known
        if known is None:
            self._refuse_others()
        self._clear()
        made = Manifest(run=f"{run:016x}", terms=terms, started_us=now_us)
        self._write(made)
        return made

    def commit(self, manifest: Manifest, answered: Sequence[Answered], rejected: Sequence[Rejected]) -> Manifest:
        number = len(manifest.chunks)
        part = table.encode(self._layout, answered, self._form)
        files = [self._put(f"part-{number:05d}.{self._form}", part, len(answered))]
        if rejected:
            failed = table.quarantine(rejected)
            files.append(self._put(f"{QUARANTINE}/part-{number:05d}.jsonl", failed, len(rejected)))
        chunk = Chunk(number, manifest.rows, counts(list(answered), list(rejected)), tuple(files))
        grown = msgspec.structs.replace(manifest, chunks=(*manifest.chunks, chunk))
        self._write(grown)
        return grown

    def finish(self, manifest: Manifest, *, now_us: int) -> Manifest:
        done = msgspec.structs.replace(manifest, state="finished", finished_us=now_us)
        self._write(done)
        return done

    def _known(self) -> Manifest | None:
        path = self._folder / MANIFEST
        return manifests.decode(path.read_bytes(), str(path)) if path.exists() else None

    def _write(self, manifest: Manifest) -> None:
        self._put_bytes(MANIFEST, manifests.encode(manifest))

    def _put(self, name: str, data: bytes, rows: int) -> FilePart:
        self._put_bytes(name, data)
        return FilePart(name, rows, len(data), hashlib.sha256(data).hexdigest())

    def _put_bytes(self, name: str, data: bytes) -> None:
        try:
            write_file(self._folder / name, data)
        except OSError as error:
            raise StoreError(f"cannot write {name}: {error.strerror}", at=str(self._folder)) from error

    def _check_files(self, manifest: Manifest) -> None:
        for file in (file for chunk in manifest.chunks for file in chunk.files):
            path = self._folder / file.name
            if not path.is_file() or path.stat().st_size != file.bytes:
                raise ConflictError(
                    f"{file.name} is gone or was changed since it was committed; start over with --restart",
                    code="run_changed",
                    at=file.name,
                )

    def _ours(self) -> list[Path]:
        places = (self._folder, self._folder / QUARANTINE)
        return [p for place in places if place.is_dir() for p in place.iterdir() if _OURS.fullmatch(p.name)]

    def _refuse_others(self) -> None:
        """Refuse a folder that holds files which no manifest explains: somebody may want to keep them."""
        if any(path.name != LOCK for path in self._folder.iterdir()) and not self._only_temporary():
            raise ConflictError(
                f"{self._folder} is not empty and holds no {MANIFEST}; choose another folder",
                code="output_taken",
            )

    def _only_temporary(self) -> bool:
        """Say whether a run was killed before its first manifest was in place."""
        return all(p.name == LOCK or p.name.startswith(f"{MANIFEST}.") for p in self._folder.iterdir())

    def _sweep(self, manifest: Manifest) -> None:
        """Remove what a killed run left behind: temporary files, and files of a chunk that was not committed."""
        committed = {MANIFEST, *(file.name for chunk in manifest.chunks for file in chunk.files)}
        for path in self._ours():
            if str(path.relative_to(self._folder)) not in committed:
                path.unlink()

    def _clear(self) -> None:
        """Remove an earlier run; its manifest first, so that it never names files that are gone."""
        (self._folder / MANIFEST).unlink(missing_ok=True)
        sync_folder(self._folder)
        for path in self._ours():
            path.unlink()
