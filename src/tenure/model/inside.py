"""The other side of `apart`: a process that loads one stage and answers batches until its parent is gone.

python -m tenure.model.inside SOCKET PIPE
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from tenure.errors import ModelError
from tenure.model import parcel, pipe
from tenure.model.apart import Task
from tenure.model.bundle import load_stage, open_bundle
from tenure.model.stage import Stage, call
from tenure.types import Failed


def main(arguments: list[str]) -> None:
    """Serve the stage that the first message names."""
    sock, life = socket.socket(fileno=int(arguments[0])), int(arguments[1])
    faulthandler.enable()
    for sig in (signal.SIGINT, signal.SIGTERM):  # meant for our parent, which still needs our answers
        signal.signal(sig, signal.SIG_IGN)
    _end_with_parent(life)
    told = pipe.receive(sock)
    if told is None:
        return
    with contextlib.suppress(ConnectionError):  # our parent is gone
        _serve(sock, msgspec.json.decode(told, type=Task))


def _end_with_parent(life: int) -> None:
    """Let the system end us when the other end of the pipe closes, even while a model holds the interpreter."""
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(life, fcntl.F_GETFL)
    fcntl.fcntl(life, fcntl.F_SETFL, flags | os.O_ASYNC)  # SIGIO, which ends a process that does not catch it
    if select.select([life], [], [], 0)[0]:  # it closed before we could ask for the signal
        os._exit(0)


def _serve(sock: socket.socket, task: Task) -> None:
    sys.path[:] = task.path
    try:
        stage = _load(task)
    except Exception as error:  # noqa: BLE001  # user code is loaded here; our parent says what was wrong
        pipe.send(sock, parcel.pack((f"{type(error).__name__}: {error}"[:2000], None)))
        return
    pipe.send(sock, parcel.pack(("", None)))
    while (message := pipe.receive(sock)) is not None:
        pipe.send(sock, _answer(stage, message))


def _load(task: Task) -> Stage:
    bundle = open_bundle(Path(task.bundle), verify=False)  # our parent has compared every byte
    ref = next(ref for ref in bundle.manifest.stages if ref.name == task.stage)
    return load_stage(ref, bundle, task.trusted).stage


def _answer(stage: Stage, message: bytearray) -> list[parcel.Part]:
    try:
        answers: Any = call(stage, parcel.unpack(message))
    except ModelError as error:
        return parcel.pack((error.message, None))
    try:
        return parcel.pack(("", answers))
    except (TypeError, ValueError, OverflowError):
        return parcel.pack(("", [_sendable(answer) for answer in answers]))


def _sendable(answer: Any) -> Any:
    """Return the answer, or why it cannot be sent."""
    try:
        parcel.pack(answer)
    except (TypeError, ValueError, OverflowError) as error:
        return Failed(f"{error}"[:500])
    return answer


if __name__ == "__main__":
    main(sys.argv[1:])
