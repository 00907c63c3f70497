"""Hold the sockets, start workers and controller, start them again when they die, end them together.

The sockets belong to this process, so that a restarted child finds connections waiting instead of refusing
them. Children are spawned, never forked: a forked child would inherit locks and threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tenure.clock import Clock
from tenure.deploy.serving.control_page import ControlPage
from tenure.errors import BusyError, ConflictError

_log = logging.getLogger("tenure.supervisor")
_TERM_S = 15.0
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before a child that never came up is tried again; one that had come up starts again at once."""


class Role(NamedTuple):
    """A child to keep alive; `sock` is the socket that it serves, `worker` its slot or None."""

    name: str
    arguments: tuple[str, ...]
    sock: socket.socket
    worker: int | None


class _Child:
    def __init__(self, role: Role) -> None:
        self.role = role
        self.process: subprocess.Popen[bytes] | None = None
        self.started_ns = 0
        self.failures = 0
        self.again_ns = 0
        self.pipe = -1


class Supervisor:
    """Keeps the roles of one data folder alive.

    Args:
        roles: children; each is run as `python -m tenure.system <arguments> --socket FD --parent FD`.
        page: the control page; a dead worker's slot is marked, so that health never says OK for it.
    """

    def __init__(self, roles: Sequence[Role], *, page: ControlPage, clock: Clock) -> None:
        self._children = [_Child(role) for role in roles]
        self._page = page
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start all children and watch them in a thread."""
        for child in self._children:
            self._start(child)
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until every worker takes requests.

        Raises:
            BusyError: they are not ready in time.
        """
        end = self._clock.monotonic_ns() + int(timeout_s * 1e9)
        while self._clock.monotonic_ns() < end:
            if all(slot.state == "ready" for slot in self._page.slots()):
                return
            if self._stopping.wait(0.02):
                break
        states = ", ".join(slot.state for slot in self._page.slots())
        raise BusyError(f"the workers are not ready after {timeout_s:g} s: {states}; see the log above")

    def pids(self) -> dict[str, int]:
        """Return the process id of each living child, by name."""
        return {c.role.name: c.process.pid for c in self._children if c.process and c.process.poll() is None}

    def stop(self) -> None:
        """End all children: SIGTERM, then SIGKILL after 15 s."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        for child in self._children:
            child.role.sock.close()  # first, so that a new caller is refused once the workers let go of it too
        for child in self._children:
            _signal(child, signal.SIGTERM)
        for child in self._children:
            _end(child)
            _close(child)

    def _watch(self) -> None:
        while not self._stopping.wait(0.1):
            now = self._clock.monotonic_ns()
            for child in self._children:
                if child.process is None:
                    if now >= child.again_ns:
                        self._start(child)
                elif child.process.poll() is not None:
                    self._bury(child, now)

    def _bury(self, child: _Child, now: int) -> None:
        code = child.process.returncode if child.process else 0
        if self._came_up(child):
            child.failures = 0
        pause = _BACKOFF_S[min(child.failures, len(_BACKOFF_S) - 1)]
        _log.error("%s ended with code %s; it starts again in %g s", child.role.name, code, pause)
        if child.role.worker is not None:
            self._page.slot(child.role.worker).state = "dead"
        child.failures += 1
        child.again_ns = now + int(pause * 1e9)
        child.process = None
        _close(child)

    def _came_up(self, child: _Child) -> bool:
        if child.role.worker is None:
            return self._page.controller_ns > child.started_ns
        slot = self._page.slot(child.role.worker)
        mine = child.process is not None and slot.pid == child.process.pid
        return mine and slot.state in ("ready", "draining", "empty")

    def _start(self, child: _Child) -> None:
        read_end, child.pipe = os.pipe()
        fd = child.role.sock.fileno()
        command = [
            sys.executable, "-m", "tenure.system", *child.role.arguments, "--socket", str(fd), "--parent",
            str(read_end),
        ]  # fmt: skip
        child.process = subprocess.Popen(command, pass_fds=(fd, read_end), stdin=subprocess.DEVNULL)
        child.started_ns = self._clock.now_ns()
        os.close(read_end)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 picks a free one.

    Raises:
        ConflictError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConflictError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port or stop what uses it",
            code="address_in_use", at=f"{host}:{port}",
        ) from error  # fmt: skip
    sock.listen(2048)
    sock.setblocking(False)
    return sock


def claim(folder: Path) -> int:
    """Lock the data folder for one supervisor; returns the descriptor that holds the lock.

    Raises:
        ConflictError: another server runs on it.
    """
    import fcntl

    fd = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConflictError(
            f"a server already runs on {folder}; stop it first, or use another data folder", at=str(folder)
        ) from None
    return fd


def _signal(child: _Child, sig: int) -> None:
    if child.process is not None:
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(sig)


def _end(child: _Child) -> None:
    if child.process is None:
        return
    try:
        child.process.wait(timeout=_TERM_S)
    except subprocess.TimeoutExpired:
        _log.error("%s did not end within %g s and is killed", child.role.name, _TERM_S)
        _signal(child, signal.SIGKILL)
        child.process.wait()


def _close(child: _Child) -> None:
    if child.pipe >= 0:
        os.close(child.pipe)
        child.pipe = -1
