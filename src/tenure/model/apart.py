"""A stage in a process of its own: its crash, its hang, its memory and its interpreter lock stay there.

The process is spawned, never forked, holds nothing of its parent but a socket and a pipe, and ends with its
parent, whatever the parent dies of. `placement: process` in the project file asks for one per worker, and
`processes: 4` for four (`pool`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tenure.clock import Clock
from tenure.errors import ModelError
from tenure.model import parcel, pipe
from tenure.scope.project import Trust
from tenure.types import Failed

_log = logging.getLogger("tenure.model")
LOAD_S = 240.0
"""How long the first load may take."""
LIMIT_S = 30.0
"""How long a batch may take where the stage has no budget."""
OVERRUN = 10.0
"""A batch may take so many times the stage's budget, and at least a second, before its process counts as hung: a
budget is a promise about the usual, and a new process costs more than a slow answer."""
PATIENCE_S = 3.0
"""How long a batch waits for a process that starts again; then its items fail."""
PAUSES_S = (0.0, 0.2, 1.0, 5.0, 15.0, 60.0)
"""Pauses before a process that has answered nothing since its last start is started again."""


class Own(NamedTuple):
    """How a stage runs apart: seconds that a batch may take, and how many processes share it."""

    limit_s: float = LIMIT_S
    processes: int = 1


class Task(msgspec.Struct, frozen=True):
    """What the process is told: which stage of which bundle, whom to trust, where imports are found."""

    bundle: str
    stage: str
    trusted: Trust
    path: tuple[str, ...] = ()


def limit_of(budget_s: float | None) -> float:
    """Return how long a batch of a stage with this budget may take before its process is ended."""
    return LIMIT_S if budget_s is None else max(1.0, OVERRUN * budget_s)


class Apart:
    """A stage as the pipeline runs it; the real one is in the process that `load` starts.

    When the process dies, the items that it had in hand fail, and it is started again at once; what waits is
    answered by the new one. A process that keeps dying without an answer is left alone for a while, which grows
    to a minute; until then items fail at once. The process ends when nothing refers to this object any more.

    Args:
        task: what to run.
        limit_s: a batch that takes longer is given up, and the process killed.
        clock: for limits and pauses.
    """

    def __init__(self, task: Task, *, limit_s: float = LIMIT_S, clock: Clock) -> None:
        self._task, self._limit_s, self._clock = task, limit_s, clock
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._failures = 0
        self._again_ns = 0
        self._held: list[_Child] = []
        self._finalizer = weakref.finalize(self, _end_all, self._held)
        self._finalizer.atexit = False  # at our exit the pipe closes, which ends them too

    def load(self, files: Path) -> None:
        """Start the process and wait until the stage is loaded there; `files` it finds in its bundle.

        Raises:
            ModelError: it cannot be loaded, or not in time.
        """
        with self._lock:
            self._start()
            why = self._await_loaded(LOAD_S)
            if why:
                self._drop()
                raise ModelError(f"stage {self._task.stage} cannot be loaded: {why}", at=self._task.stage)

    def predict(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Answer each item, in order, or `Failed` for those that the process took with it.

        Raises:
            TypeError, ValueError: an item cannot be handed to another process.
            ModelError: the stage broke its contract.
        """
        message = parcel.pack(batch)
        with self._lock:
            why = self._make_ready()
            if why:
                return [Failed(why)] * len(batch)
            try:
                return self._ask(message)
            except TimeoutError:
                why = f"the stage's process did not answer within {self._limit_s:g} s and was ended"
            except (OSError, EOFError, ValueError):
                why = "the stage's process died"
            self._fell(why)
            return [Failed(why)] * len(batch)

    @property
    def pid(self) -> int:
        """The id of the process, 0 while there is none."""
        child = self._child
        return child.process.pid if child else 0

    def close(self) -> None:
        """End the process."""
        self._finalizer()

    # One call

    def _ask(self, message: Sequence[parcel.Part]) -> Sequence[Any]:
        child = self._child
        assert child is not None
        left = self._timer(self._limit_s)
        pipe.send(child.sock, message, left)
        error, answers = child.receive(left)
        self._failures = 0
        if error:
            raise ModelError(error, at=self._task.stage)
        found: Sequence[Any] = answers
        return found

    def _timer(self, seconds: float) -> Callable[[], float]:
        end = self._clock.monotonic_ns() + int(seconds * 1e9)
        return lambda: (end - self._clock.monotonic_ns()) / 1e9

    # The life of the process

    def _make_ready(self) -> str:
        """Have a loaded process; returns why there is none."""
        if self._child is not None and self._child.process.poll() is not None:
            self._fell("the stage's process died while it had nothing to do")
        if self._child is None:
            left_s = (self._again_ns - self._clock.monotonic_ns()) / 1e9
            if left_s > PATIENCE_S:
                return "the stage's process keeps dying; it starts again in a while"
            time.sleep(max(0.0, left_s))
            self._start()
        return self._await_loaded(PATIENCE_S)

    def _await_loaded(self, seconds: float) -> str:
        child = self._child
        if child is None:
            return "the stage's process cannot be started"
        if child.loaded:
            return ""
        if not child.has_news(seconds):
            if self._clock.monotonic_ns() > child.started_ns + int(LOAD_S * 1e9):
                self._fell("it took too long to load")
            return f"the stage's process is not loaded after {seconds:g} s"
        try:
            error, _ = child.receive(self._timer(self._limit_s))
        except (OSError, EOFError, ValueError):
            error = "the stage's process died while it loaded"
        if error:
            self._fell(error)
        child.loaded = not error
        return error

    def _start(self) -> None:
        try:
            self._child = _Child(self._task, self._clock.monotonic_ns())
        except OSError as error:
            _log.error("the process of stage %s cannot be started: %s", self._task.stage, error)
            self._pause()
        else:
            self._held.append(self._child)

    def _fell(self, why: str) -> None:
        """Bury the process and, unless it keeps dying, start the next one at once."""
        code = self._drop()
        pause_s = self._pause()
        _log.error(
            "the process of stage %s ended (%s, code %s); it starts again in %g s",
            self._task.stage, why, code, pause_s,
        )  # fmt: skip
        if not pause_s:
            self._start()

    def _pause(self) -> float:
        pause_s = PAUSES_S[min(self._failures, len(PAUSES_S) - 1)]
        self._failures += 1
        self._again_ns = self._clock.monotonic_ns() + int(pause_s * 1e9)
        return pause_s

    def _drop(self) -> int | None:
        child, self._child = self._child, None
        if child is None:
            return None
        self._held.remove(child)
        return child.end()


class _Child:
    """One process: it reads the task from its socket, says that it is loaded, and answers batches."""

    def __init__(self, task: Task, now_ns: int) -> None:
        self.started_ns = now_ns
        self.loaded = False
        self.sock, theirs = socket.socketpair()
        life, self.pipe = os.pipe()  # nothing is ever written: its end tells the process that we are gone
        command = [sys.executable, "-m", "tenure.model.inside", str(theirs.fileno()), str(life)]
        try:
            self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(), life), stdin=subprocess.DEVNULL)
        except BaseException:
            self.sock.close()
            os.close(self.pipe)
            raise
        finally:
            theirs.close()
            os.close(life)
        with contextlib.suppress(OSError):  # it died already: the next read tells
            pipe.send(self.sock, [msgspec.json.encode(task)])

    def has_news(self, seconds: float) -> bool:
        """Wait so long for a message, or for its end."""
        return bool(select.select([self.sock], [], [], max(0.0, seconds))[0])

    def receive(self, left_s: Callable[[], float]) -> tuple[str, Any]:
        """Return the next reply: what was wrong with all of it, or "" and the answers.

        Raises:
            TimeoutError: none came in time.
            EOFError, OSError: the process is gone.
        """
        message = pipe.receive(self.sock, left_s)
        if message is None:
            raise EOFError("the process closed its socket")
        error, answers = parcel.unpack(message)
        return error, answers

    def end(self) -> int:
        """Kill it and take its memory back; returns its exit code, or that of its own death."""
        code = self.process.poll()
        self.process.kill()
        self.sock.close()
        os.close(self.pipe)
        ended = self.process.wait()
        return ended if code is None else code


def _end_all(children: list[_Child]) -> None:
    """End them in a thread: freeing much memory takes the system a while, and we may be on an event loop."""
    ended, children[:] = list(children), []
    if ended:
        threading.Thread(
            target=lambda: [child.end() for child in ended], name="end of a stage", daemon=True
        ).start()
