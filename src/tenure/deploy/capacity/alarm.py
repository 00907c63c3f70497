"""Wake an event loop to some microseconds: its own timers are whole milliseconds, too coarse for us."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

from tenure.clock import Clock

_MONOTONIC, _ABSOLUTE = 1, 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are the same numbers


class _Time(ctypes.Structure):
    """The kernel's `itimerspec`."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns"))


class Alarm:
    """Call a function at a time of the monotonic clock, by the kernel's timerfd where there is one (Linux)."""

    def __init__(self, call: Callable[[], None], *, clock: Clock) -> None:
        self._call, self._clock = call, clock
        self._loop = asyncio.get_running_loop()
        self._fd = _timerfd()
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._ring)

    def set(self, at_ns: int) -> None:
        """Ring at this time, or at once when it is past; a new time takes the place of the old."""
        if self._fd < 0:
            self._loop.call_later(max(0.0, (at_ns - self._clock.monotonic_ns()) / 1e9), self._call)
            return
        seconds, rest = divmod(max(at_ns, 1), 1_000_000_000)  # 0 would disarm it
        _libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(_Time(0, 0, seconds, rest)), None)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def _ring(self) -> None:
        os.read(self._fd, 8)
        self._call()


_libc = ctypes.CDLL(None)


def _timerfd() -> int:
    make = getattr(_libc, "timerfd_create", None)
    return -1 if make is None else int(make(_MONOTONIC, _FLAGS))
