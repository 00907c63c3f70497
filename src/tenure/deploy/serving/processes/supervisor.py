"""Hold the sockets, start workers and controller, start them again when they die or hang, end them together.

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tenure.clock import Clock
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.processes.pulse import Pulse
from tenure.errors import BusyError, ConflictError

_log = logging.getLogger("tenure.supervisor")
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before a child that never came up is tried again; one that had come up starts again at once."""
_SPARE_S = 10.0
"""What a stopping child gets beyond the time that it was promised, before it is killed."""
_LAST_WORDS_S = 0.3
"""Time for a hung process to write where it stands before it is killed."""


MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the largest that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20),
    "MALLOC_TOP_PAD_": str(4 * 2**20),
}
"""Read by glibc when a process starts. By default it gives the buffers of each decoded picture back to the system
and faults them in again with the next one: 130 page faults and a seventh of the CPU time of a 480 x 480 JPEG."""


class Role(NamedTuple):
    """A child to keep alive; `sock` is the socket that it serves, `worker` its slot or None."""

    name: str
    arguments: tuple[str, ...]
    sock: socket.socket
    worker: int | None


class Limits(NamedTuple):
    """What a child may take, in seconds, before it is killed.

    Attributes:
        worker_s: a ready worker's event loop may stand still so long.
        controller_s: one turn of the controller's loop may last so long.
        stop_s: a child that was told to end may finish what it has in hand so long.
    """

    worker_s: float = 10.0
    controller_s: float = 60.0
    stop_s: float = 5.0


class _Child:
    def __init__(self, role: Role, limit_s: float) -> None:
        self.role = role
        self.pulse = Pulse(limit_s)
        self.process: subprocess.Popen[bytes] | None = None
        self.beats = 0  # of the controller, when this process started
        self.failures = 0
        self.again_ns = 0
        self.pipe = -1


class Supervisor:
    """Keeps the roles of one data folder alive.

    Args:
        roles: children; each is run as `python -m tenure.system <arguments> --socket FD --parent FD`.
        page: the control page; a dead worker's slot is marked, so that health never says OK for it.
        limits: when a child counts as hung.
    """

    def __init__(
        self, roles: Sequence[Role], *, page: ControlPage, clock: Clock, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._children = [
            _Child(role, self._limits.controller_s if role.worker is None else self._limits.worker_s)
            for role in roles
        ]
        self._page = page
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start all children and watch them in a thread; one that cannot be started is tried again."""
        for child in self._children:
            self._look_after(child)
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until every worker takes requests.

        Raises:
            BusyError: they are not ready in time.
        """
        if self._wait(self._all_ready, timeout_s):
            return
        states = ", ".join(slot.state for slot in self._page.slots())
        raise BusyError(f"the workers are not ready after {timeout_s:g} s: {states}; see the log above")

    def _all_ready(self) -> bool:
        # a slot keeps the last word of a process that was killed: only a living one's counts
        living = self.pids()
        return all(
            slot.state == "ready" and slot.pid == living.get(f"worker {slot.index}")
            for slot in self._page.slots()
        )

    def pids(self) -> dict[str, int]:
        """Return the process id of each living child, by name."""
        living = [(child.role.name, child.process) for child in self._children]
        return {name: process.pid for name, process in living if process and process.poll() is None}

    def renew(self, timeout_s: float = 120.0) -> None:
        """Replace the workers by new processes, one after the other; nobody's request is lost.

        A worker ends only after the one before it was replaced and is ready. With a single worker, new
        connections wait in the socket's queue until the new process takes them.

        Raises:
            BusyError: a new worker is not ready in time; those after it were left as they are.
        """
        for child in self._children:
            if child.role.worker is not None:
                self._replace(child, timeout_s)

    def stop(self) -> None:
        """End all children: SIGTERM, and SIGKILL for those that outstay the limit."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._page.ending = True
        for child in self._children:
            child.role.sock.close()  # first, so that a new caller is refused once the workers let go of it too
        for child in self._children:
            _signal(child, signal.SIGTERM)
        end_ns = self._clock.monotonic_ns() + int((self._limits.stop_s + _SPARE_S) * 1e9)
        for child in self._children:
            _end(child, max(0.1, (end_ns - self._clock.monotonic_ns()) / 1e9))
            _close(child)

    # Watching

    def _watch(self) -> None:
        while not self._stopping.wait(0.1):
            for child in self._children:
                self._look_after(child)

    def _look_after(self, child: _Child) -> None:
        """Start, bury or kill a child as it needs; whatever goes wrong, the watch goes on."""
        now = self._clock.monotonic_ns()
        try:
            if child.process is None:
                if now >= child.again_ns:
                    self._start(child)
            elif child.process.poll() is not None:
                self._bury(child, now)
            elif self._hangs(child, now):
                self._kill(child)
        except Exception:  # noqa: BLE001  # no process, no memory, no descriptor: all may be there again later
            _log.exception("looking after %s failed; it is tried again", child.role.name)
            self._postpone(child, now)

    def _bury(self, child: _Child, now: int) -> None:
        code = child.process.returncode if child.process else 0
        up = self._came_up(child)
        child.process = None
        if child.role.worker is not None:
            self._page.slot(child.role.worker).state = "dead"
        _close(child)
        if up:
            child.failures = 0
        if up and code == 0:
            child.again_ns = now
            _log.warning("%s ended in order; it starts again", child.role.name)
        else:
            pause = self._postpone(child, now)
            _log.error("%s ended with code %s; it starts again in %g s", child.role.name, code, pause)

    def _postpone(self, child: _Child, now: int) -> float:
        pause = _BACKOFF_S[min(child.failures, len(_BACKOFF_S) - 1)]
        child.failures += 1
        child.again_ns = now + int(pause * 1e9)
        return pause

    def _came_up(self, child: _Child) -> bool:
        if child.role.worker is None:
            return self._page.beats != child.beats
        slot = self._page.slot(child.role.worker)
        mine = child.process is not None and slot.pid == child.process.pid
        return mine and slot.state in ("ready", "draining", "empty")

    def _hangs(self, child: _Child, now: int) -> bool:
        """Say whether a child that had come up stands still; one that starts may take its time."""
        if not self._came_up(child):
            return False
        if child.role.worker is None:
            return child.pulse.stopped(self._page.beats, now)
        return child.pulse.stopped(self._page.slot(child.role.worker).get("heartbeat_ns"), now)

    def _kill(self, child: _Child) -> None:
        """Let a hung process write the stack of each thread, and end it; the next look starts it again."""
        _log.error("%s stands still; it is killed and starts again", child.role.name)
        _signal(child, signal.SIGUSR2)
        self._stopping.wait(_LAST_WORDS_S)
        _signal(child, signal.SIGKILL)
        if child.process is not None:
            child.process.wait()

    # Starting and ending

    def _start(self, child: _Child) -> None:
        child.pulse.reset()
        child.beats = self._page.beats
        read_end, child.pipe = os.pipe()
        fd = child.role.sock.fileno()
        command = [
            sys.executable, "-m", "tenure.system", *child.role.arguments, "--socket", str(fd), "--parent",
            str(read_end),
        ]  # fmt: skip
        try:
            child.process = subprocess.Popen(
                command, pass_fds=(fd, read_end), stdin=subprocess.DEVNULL, env=environment()
            )
        except BaseException:
            _close(child)
            raise
        finally:
            os.close(read_end)

    def _replace(self, child: _Child, timeout_s: float) -> None:
        old, slot = child.process, self._page.slot(child.role.worker or 0)
        _signal(child, signal.SIGTERM)

        def is_new() -> bool:
            new = child.process
            return new is not None and new is not old and slot.pid == new.pid and slot.state == "ready"

        if not self._wait(is_new, timeout_s):
            raise BusyError(
                f"{child.role.name} is not ready {timeout_s:g} s after it was told to end; the workers after it "
                "go on as they were; see the log above"
            )

    def _wait(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        end = self._clock.monotonic_ns() + int(timeout_s * 1e9)
        while self._clock.monotonic_ns() < end:
            if is_so():
                return True
            if self._stopping.wait(0.02):
                break
        return False


def environment() -> dict[str, str]:
    """Return a child's environment: ours, and how glibc keeps memory where nobody said otherwise."""
    return (MALLOC if _is_glibc() else {}) | os.environ


def _is_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (ValueError, OSError, AttributeError):
        return False


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 picks a free one.

    Raises:
        ConflictError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _bound(sock, host, port).listen(2048)
    sock.setblocking(False)
    return sock


def _bound(sock: socket.socket, host: str, port: int) -> socket.socket:
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConflictError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port or stop what uses it",
            code="address_in_use", at=f"{host}:{port}",
        ) from error  # fmt: skip
    return sock


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that holds an address without listening, so that every worker may listen there itself.

    Raises:
        ConflictError: the address cannot be bound.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return _bound(sock, host, port)


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


def _end(child: _Child, seconds: float) -> None:
    if child.process is None:
        return
    try:
        child.process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        _log.error("%s did not end in time and is killed", child.role.name)
        _signal(child, signal.SIGKILL)
        child.process.wait()


def _close(child: _Child) -> None:
    if child.pipe >= 0:
        os.close(child.pipe)
        child.pipe = -1
