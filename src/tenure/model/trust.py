"""Which files would run code when they are loaded; they are refused unless the operator pins their hash.

The list of trusted hashes comes from the operator's configuration (`trust` in the project file), never from what
is loaded. Whoever loads a bundle asks here first: registration and every process that serves.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import numpy as np

from tenure.errors import ModelError
from tenure.model.contents import FileEntry
from tenure.scope.project import Trust

SUFFIXES = frozenset(
    {".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pt2", ".pth", ".ckpt", ".mar", ".pyc", ".so"}
)
"""Endings that are refused whatever is inside."""

NOTHING = Trust()
"""No word of the operator: whatever could run code is refused."""

MLMODEL = "MLmodel"
"""The file that makes a folder an MLflow model; it names the Python module that loads the model."""

_DANGEROUS = frozenset(
    {"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1", "EXT2", "EXT4"}
)
_PIECE = 2**20
_MAX_OPS = 200_000
_MAX_ENTRIES = 10_000
_BROKEN = (ValueError, OverflowError, MemoryError, IndexError, EOFError, KeyError, OSError, struct.error)


def refuse(folder: Path, files: Mapping[str, FileEntry], trust: Trust) -> None:
    """Refuse files that run code when they are loaded, unless the operator pinned their hash.

    An MLflow folder is pinned as a whole, by `folder_digest`: its `MLmodel` names the module that loads it, which
    may be any file of the folder or any installed module.

    Args:
        folder: where the files are.
        files: path below it -> what the manifest says of it.
        trust: the operator's word.

    Raises:
        ModelError: naming the file, why, its hash, and where the operator would write it.
    """
    pinned = frozenset(trust.sha256)
    allowed: set[str] = set()
    for root in _mlflow_roots(files):
        digest = folder_digest(files, root)
        if digest not in pinned:
            raise _refused(_place(root, MLMODEL), "an MLflow model names the Python code that loads it", digest)
        allowed |= {name for name in files if PurePosixPath(name).is_relative_to(root)}
    for name, entry in files.items():
        why = None if entry.sha256 in pinned or name in allowed else runs_code(folder / name)
        if why:
            raise _refused(name, why, entry.sha256)


def folder_digest(files: Mapping[str, FileEntry], root: str = ".") -> str:
    """Return the SHA-256 of a folder: of the JSON {path below `root`: SHA-256} with sorted keys and no spaces."""
    below = {PurePosixPath(name): entry.sha256 for name, entry in files.items()}
    inside = {str(path.relative_to(root)): sha for path, sha in below.items() if path.is_relative_to(root)}
    return hashlib.sha256(json.dumps(inside, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _mlflow_roots(files: Mapping[str, FileEntry]) -> list[str]:
    """Return the outermost folders that hold an `MLmodel`."""
    found: list[str] = []
    for path in sorted((PurePosixPath(name) for name in files), key=lambda p: len(p.parts)):
        if path.name.lower() == MLMODEL.lower() and not any(path.is_relative_to(root) for root in found):
            found.append(str(path.parent))
    return found


def _place(root: str, name: str) -> str:
    return str(PurePosixPath(root, name))


def _refused(name: str, why: str, digest: str) -> ModelError:
    return ModelError(
        f"files/{name}: {why}. Export it to ONNX or skops; or, where you trust who made it, write into the "
        f"project file: trust: {{sha256: [{digest}]}}",
        at=name,
        code="untrusted_file",
    )


def runs_code(path: Path) -> str | None:
    """Say why loading this file could run code, None when it is plain data as far as can be told.

    Looks at the ending, then at the content: pickles of every protocol, also inside gzip, bzip2, xz, zlib and zip
    (as `torch.save` writes), and NumPy arrays of objects.
    """
    if path.suffix.lower() in SUFFIXES:
        return f"files ending in {path.suffix} can run code when they are loaded"
    with path.open("rb") as file:
        if _is_pickle(file):
            return "it is a pickle, which runs code when it is loaded"
        file.seek(0)
        if _holds_objects(file):
            return "it is a NumPy array of Python objects, which is a pickle inside"
        file.seek(0)
        return _inside(file)


class _Reader:
    """Reads a stream in bounded pieces, so that a file made to unfold into gigabytes does not."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.was_cut = False

    def read(self, n: int) -> bytes:
        self.was_cut = self.was_cut or n > _PIECE
        return self._file.read(min(n, _PIECE))

    def readline(self) -> bytes:
        line = part = self._file.readline(_PIECE)
        while part and not line.endswith(b"\n") and len(line) < _PIECE:  # zip members return short lines
            part = self._file.readline(_PIECE - len(line))
            line += part
        self.was_cut = self.was_cut or (len(line) >= _PIECE and not line.endswith(b"\n"))
        return line


def _is_pickle(file: IO[bytes]) -> bool:
    """Walk the opcodes without running them."""
    reader = _Reader(file)
    seen, dangerous, numbered = 0, False, False
    try:
        for opcode, _, _ in pickletools.genops(cast("IO[bytes]", reader)):
            numbered = numbered or (seen == 0 and opcode.name == "PROTO")
            dangerous = dangerous or opcode.name in _DANGEROUS
            seen += 1
            if opcode.name == "STOP" or seen > _MAX_OPS:
                return dangerous or numbered
            if numbered and seen >= 4:
                return True
    except _BROKEN:
        pass
    return (numbered and seen >= 2) or (dangerous and reader.was_cut)


def _holds_objects(file: IO[bytes]) -> bool:
    try:
        version = np.lib.format.read_magic(file)
        read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
        _, _, dtype = (read or np.lib.format.read_array_header_2_0)(file)
    except (*_BROKEN, SyntaxError, TypeError):
        return False
    return bool(dtype.hasobject)


def _inside(file: IO[bytes]) -> str | None:
    """Look into one layer of compression or of a zip archive."""
    for name, opened in _layers(file):
        found = Path(name).suffix.lower() in SUFFIXES or _judged(_is_pickle, opened)
        if found:
            return f"it holds a pickle ({name}), which runs code when it is loaded"
        if _judged(_holds_objects, opened):
            return f"it holds a NumPy array of Python objects ({name}), which is a pickle inside"
    return None


def _judged(question: Callable[[IO[bytes]], bool], opened: Callable[[], IO[bytes]]) -> bool:
    """Ask about a stream inside; one that cannot be unpacked cannot be loaded either."""
    try:
        with opened() as stream:
            return question(stream)
    except (*_BROKEN, zipfile.BadZipFile, lzma.LZMAError, zlib.error, NotImplementedError, RuntimeError):
        return False


def _layers(file: IO[bytes]) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    head = file.read(6)
    if zipfile.is_zipfile(file):
        yield from _zip_entries(file)
        return
    opened = _unpacker(head, file)
    if opened is not None:
        yield "compressed", opened


def _zip_entries(file: IO[bytes]) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist()[:_MAX_ENTRIES]:
                yield entry.filename, partial(archive.open, entry)
    except (*_BROKEN, zipfile.BadZipFile, NotImplementedError):
        return


def _unpacker(head: bytes, file: IO[bytes]) -> Callable[[], IO[bytes]] | None:
    file.seek(0)
    if head[:2] == b"\x1f\x8b":
        return lambda: cast("IO[bytes]", gzip.GzipFile(fileobj=_rewound(file)))
    if head[:3] == b"BZh":
        return lambda: cast("IO[bytes]", bz2.BZ2File(_rewound(file)))
    if head == b"\xfd7zXZ\x00" or head[:3] == b"\x5d\x00\x00":
        return lambda: cast("IO[bytes]", lzma.LZMAFile(_rewound(file)))
    if head[:1] == b"\x78":
        return lambda: io.BytesIO(zlib.decompressobj().decompress(_rewound(file).read(_PIECE), _PIECE))
    return None


def _rewound(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file
