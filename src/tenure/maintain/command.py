"""Run the user's training command: its output line by line, a time limit, and nothing of it left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import psutil

LINE_BYTES = 2000
GRACE_S = 5.0
"""After SIGTERM the command has so long to end by itself, before SIGKILL."""

Ended = Literal["exit", "timeout", "stopped"]


class Outcome(msgspec.Struct, frozen=True):
    """How a command ended: `code` is that of its shell, negative for a signal."""

    ended: Ended
    code: int


class Command:
    """One run of a shell command in a process group of its own.

    Standard output and standard error come together, as they would on a terminal.
    """

    def __init__(self, line: str, *, cwd: Path, env: Mapping[str, str]) -> None:
        self._stopped = threading.Event()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", line],
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def mark(self) -> str:
        """Name the process so that another one with the same number is not taken for it."""
        return mark_of(self._process.pid)

    def wait(self, timeout_s: float, *, on_line: Callable[[str], None]) -> Outcome:
        """Wait until the command ends or its time is over; then end what is left of its process group."""
        reader = threading.Thread(target=self._read, args=(on_line,), daemon=True)
        reader.start()
        ended: Ended = "exit"
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            ended = "timeout"
        finally:
            # Also on Ctrl-C, and also after a good end: children that were left in the background hold the pipe.
            end_group(self._process.pid, self._process)
        reader.join(GRACE_S)
        return Outcome("stopped" if self._stopped.is_set() else ended, self._process.returncode)

    def stop(self) -> None:
        """End the command now; `wait` then returns `stopped`."""
        self._stopped.set()
        end_group(self._process.pid, self._process)

    def _read(self, on_line: Callable[[str], None]) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        with stream:
            while raw := stream.readline(LINE_BYTES):
                on_line(raw.decode(errors="replace").rstrip("\r\n"))


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: ours, `own`, and `python` is the one that runs tenure."""
    here = os.path.dirname(sys.executable)
    path = os.pathsep.join(p for p in (here, os.environ.get("PATH", os.defpath)) if p)
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **own}


def explain(outcome: Outcome, timeout_s: float) -> str | None:
    """Say in words why a command failed; None when it did not."""
    if outcome.ended == "stopped":
        return "the command was stopped"
    if outcome.ended == "timeout":
        return f"the command took longer than {timeout_s:g} s (retrain.timeout) and was killed"
    code = outcome.code
    if code == 0:
        return None
    if code > 128 or code < 0:
        number = -code if code < 0 else code - 128
        try:
            name = signal.Signals(number).name
        except ValueError:
            return f"the command exited with code {code}"
        hint = "; the system may be out of memory" if number == signal.SIGKILL else ""
        return f"the command was ended by {name}{hint}"
    hints = {126: ": the file is not executable", 127: ": command not found"}
    return f"the command exited with code {code}{hints.get(code, '')}"


def mark_of(pid: int) -> str:
    """Return `pid:start time` of a process, "" when it is gone."""
    try:
        return f"{pid}:{psutil.Process(pid).create_time()}"
    except psutil.Error:
        return ""


def end_marked(mark: str) -> bool:
    """End the process group of an earlier run whose owner died; returns whether there was one."""
    pid = mark.partition(":")[0]
    if not pid.isdigit() or mark_of(int(pid)) != mark:
        return False
    end_group(int(pid))
    return True


def end_group(pid: int, process: subprocess.Popen[bytes] | None = None) -> None:
    """End a process group: SIGTERM, a while, SIGKILL. `process` is its leader when it is our child."""
    if _signal(pid, signal.SIGTERM):
        _await_end(pid, process)
        _signal(pid, signal.SIGKILL)
    if process is not None:
        process.wait()


def _await_end(pid: int, process: subprocess.Popen[bytes] | None) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired, psutil.Error):
        if process is None:
            psutil.Process(pid).wait(GRACE_S)
        else:
            process.wait(GRACE_S)


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
