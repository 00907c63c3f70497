"""The files of a bundle: copied, hashed and compared without ever leaving the bundle's folder."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from tenure.errors import ModelError

SKIPPED = frozenset({"__pycache__", ".git", ".DS_Store", ".ipynb_checkpoints"})


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must be: SHA-256 in hex, and bytes."""

    sha256: str
    size: int


def safe_path(text: str, at: str = "path") -> PurePosixPath:
    """Return a relative path that stays inside its folder.

    Raises:
        ModelError: it is absolute, empty, leads upward, or has characters that mean something elsewhere.
    """
    path = PurePosixPath(text)
    odd = not text.isprintable() or not text or "\\" in text or ":" in text or str(path) != text
    if odd or path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
        raise ModelError(f"the path {text!r} does not stay inside the bundle", at=at)
    return path


def walk(folder: Path) -> Iterator[str]:
    """Yield the relative paths of all files, sorted.

    Raises:
        ModelError: a symbolic link, a device or another special file is among them.
    """
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name in SKIPPED:
            continue
        safe_path(entry.name, at=entry.name)
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise ModelError(f"{entry.path}: links and special files cannot be in a bundle", at=entry.name)
        if entry.is_dir():
            yield from (f"{entry.name}/{inner}" for inner in walk(Path(entry.path)))
        else:
            yield entry.name


def entry(path: Path) -> FileEntry:
    """Hash a file."""
    with path.open("rb") as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def listing(folder: Path) -> dict[str, FileEntry]:
    """Hash every file below a folder."""
    return {name: entry(folder / name) for name in walk(folder)}


def copy(source: Path, target: Path) -> None:
    """Copy one regular file, write it through to the disk and make it read-only.

    Raises:
        ModelError: the source is a link or not a file.
    """
    if source.is_symlink() or not source.is_file():
        raise ModelError(f"{source} is not a regular file", at=source.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 2**20)
        writer.flush()
        os.fsync(writer.fileno())
    target.chmod(0o444)


def copy_tree(source: Path, target: Path) -> None:
    """Copy all files below a folder."""
    target.mkdir(parents=True, exist_ok=True)
    for name in walk(source):
        copy(source / name, target / name)


def write(target: Path, content: bytes) -> None:
    """Write one file through to the disk and make it read-only."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as writer:
        writer.write(content)
        writer.flush()
        os.fsync(writer.fileno())
    target.chmod(0o444)


def move(folder: Path, target: Path) -> None:
    """Rename a finished folder to its final name; one that is there already wins.

    Raises:
        OSError: the rename failed for another reason.
    """
    try:
        os.rename(folder, target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(folder, ignore_errors=True)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
