"""Read the input in a thread, so that the next rows are there when the last ones are scored."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def chunked(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items; the last one may be shorter.

    Example:
        >>> list(chunked("abc", 2))
        [['a', 'b'], ['c']]
    """
    rest = iter(items)
    while part := list(itertools.islice(rest, size)):
        yield part


def ahead(items: Iterable[T], depth: int = 1) -> Iterator[T]:
    """Yield the items, which a thread takes up to `depth` early; what goes wrong there is raised here."""
    ready: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(kind: str, value: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who reads
            put("error", error)

    thread = threading.Thread(target=work, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if isinstance(value, BaseException):
                raise value
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
