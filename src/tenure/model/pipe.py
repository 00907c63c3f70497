"""Send parcels over a Unix socket, whole or not at all, in bounded time."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence

from tenure.model.parcel import Part

_LENGTH = struct.Struct("<Q")
_AT_ONCE = 512  # parts per call; the system's limit is 1024


def send(sock: socket.socket, parts: Sequence[Part], left_s: Callable[[], float | None] = lambda: None) -> None:
    """Send the parts as one message.

    Args:
        sock: a connected stream socket.
        parts: of the message, in order.
        left_s: tells how many seconds are left; None = no limit.

    Raises:
        TimeoutError: it could not be sent in time.
        OSError: the other side is gone.
    """
    length = _LENGTH.pack(sum(len(part) for part in parts))
    waiting = [memoryview(part) for part in (length, *parts)]
    while waiting:
        sock.settimeout(_positive(left_s()))
        sent = sock.sendmsg(waiting[:_AT_ONCE])
        while waiting and sent >= len(waiting[0]):
            sent -= len(waiting.pop(0))
        if sent:
            waiting[0] = waiting[0][sent:]


def receive(sock: socket.socket, left_s: Callable[[], float | None] = lambda: None) -> bytearray | None:
    """Return the next message, None when the other side closed the socket before one began.

    Raises:
        TimeoutError: it did not come in time.
        OSError: the other side ended in the middle of a message.
    """
    length = _exactly(sock, _LENGTH.size, left_s)
    if length is None:
        return None
    message = _exactly(sock, _LENGTH.unpack(length)[0], left_s)
    if message is None:
        raise ConnectionResetError("the message has no body")
    return message


def _exactly(sock: socket.socket, size: int, left_s: Callable[[], float | None]) -> bytearray | None:
    buffer, got = bytearray(size), 0
    view = memoryview(buffer)
    while got < size:
        sock.settimeout(_positive(left_s()))
        n = sock.recv_into(view[got:])
        if n == 0:
            if got == 0:
                return None
            raise ConnectionResetError(f"the message ended after {got} of {size} bytes")
        got += n
    return buffer


def _positive(seconds: float | None) -> float | None:
    if seconds is not None and seconds <= 0:
        raise TimeoutError("no time is left")
    return seconds
