"""Give memory back to the operating system once a model was dropped.

glibc keeps freed blocks for later, in a heap per thread, and of all but the main heap it never returns the end.
So what a model allocates when it is loaded gets mappings of its own, which are gone the moment it is freed, and
the rest is trimmed. Elsewhere than on glibc nothing of this is needed, and nothing is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from collections.abc import Iterator
from typing import Any

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
_SEPARATE = 128 * 1024  # glibc's own value before it learns
ENVIRONMENT = "MALLOC_MMAP_THRESHOLD_"


def give_back() -> None:
    """Free what only cycles keep alive, and return freed heap pages; call it off the event loop."""
    gc.collect()
    trim = _libc("malloc_trim")
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def separate() -> Iterator[None]:
    """Give blocks of 128 KiB and more mappings of their own, in all threads, as long as this lasts.

    Only where `MALLOC_MMAP_THRESHOLD_` said how it is to be at other times: the supervisor sets it so high that
    the pixels of a request do not cost a mapping each.
    """
    usual, set_option = os.environ.get(ENVIRONMENT, ""), _libc("mallopt")
    if set_option is None or not usual.isdecimal():
        yield
        return
    set_option(_MMAP_THRESHOLD, _SEPARATE)
    try:
        yield
    finally:
        set_option(_MMAP_THRESHOLD, int(usual))


def _libc(name: str) -> Any:
    """Return a function of glibc, None elsewhere."""
    try:
        libc = ctypes.CDLL(None)
        return getattr(libc, name) if hasattr(libc, "gnu_get_libc_version") else None
    except (OSError, AttributeError):
        return None
