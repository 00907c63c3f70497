"""Give memory back to the operating system once a model was dropped."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable


def give_back() -> None:
    """Free what only cycles keep alive, and return freed heap pages; call it off the event loop.

    The C library keeps freed pages for later. After a model was dropped that may be most of it, and a process
    that swaps versions would look as if it leaked (glibc's `malloc_trim`; nothing to do elsewhere).
    """
    gc.collect()
    trim = _trim()
    if trim is not None:
        trim(0)


def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not glibc
        return None
    return found
