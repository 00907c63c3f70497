"""Which files would run code when they are loaded; they are refused unless the operator pins their hash.

The list of trusted hashes comes from the operator's configuration, never from what is loaded.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

SUFFIXES = frozenset(
    {".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth", ".ckpt", ".mar", ".pyc", ".so"}
)
"""Endings that are refused whatever is inside."""

_DANGEROUS = frozenset(
    {"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1", "EXT2", "EXT4"}
)
_PEEK = 2**16
_MAX_OPS = 200_000
_MAX_ENTRIES = 10_000
_BROKEN = (ValueError, OverflowError, MemoryError, IndexError, EOFError, KeyError, OSError, struct.error)


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


def _is_pickle(file: IO[bytes]) -> bool:
    """Walk the opcodes without running them."""
    seen, dangerous, numbered = 0, False, False
    try:
        for opcode, _, _ in pickletools.genops(file):
            numbered = numbered or (seen == 0 and opcode.name == "PROTO")
            dangerous = dangerous or opcode.name in _DANGEROUS
            seen += 1
            if opcode.name == "STOP" or seen > _MAX_OPS:
                return dangerous or numbered
            if numbered and seen >= 4:
                return True
    except _BROKEN:
        pass
    return numbered and seen >= 2


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
    for name, content in _layers(file):
        if Path(name).suffix.lower() in SUFFIXES or _is_pickle(io.BytesIO(content)):
            return f"it holds a pickle ({name}), which runs code when it is loaded"
        if _holds_objects(io.BytesIO(content)):
            return f"it holds a NumPy array of Python objects ({name}), which is a pickle inside"
    return None


def _layers(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    head = file.read(6)
    file.seek(0)
    if head[:4] == b"PK\x03\x04" or zipfile.is_zipfile(file):
        file.seek(0)
        yield from _zip_entries(file)
        return
    file.seek(0)
    content = _unpacked(head, file)
    if content:
        yield "compressed", content


def _zip_entries(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist()[:_MAX_ENTRIES]:
                with archive.open(entry) as member:
                    yield entry.filename, member.read(_PEEK)
    except (*_BROKEN, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        return


def _unpacked(head: bytes, file: IO[bytes]) -> bytes:
    try:
        if head[:2] == b"\x1f\x8b":
            return gzip.GzipFile(fileobj=file).read(_PEEK)
        if head[:3] == b"BZh":
            return bz2.BZ2File(file).read(_PEEK)
        if head == b"\xfd7zXZ\x00" or head[:3] == b"\x5d\x00\x00":
            return lzma.LZMAFile(file).read(_PEEK)
        if head[:1] == b"\x78":
            return zlib.decompressobj().decompress(file.read(_PEEK), _PEEK)
    except (*_BROKEN, lzma.LZMAError, zlib.error):
        pass
    return b""
