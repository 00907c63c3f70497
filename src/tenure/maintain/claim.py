"""One training of an endpoint at a time, whichever process started it: a file lock that dies with its owner."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Claim:
    """The right to train one endpoint, until `release` or the end of this process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, folder: Path, endpoint: str) -> Claim | None:
        """Take the claim, or return None while another run holds it."""
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / f"{endpoint}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(fd)

    def write(self, note: str) -> None:
        """Leave a note for whoever takes the claim next; a dead owner's stays."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, note.encode(), 0)

    def read(self) -> str:
        """Return the note of the last owner, "" after an orderly end."""
        return os.pread(self._fd, 4096, 0).decode(errors="replace")

    def release(self) -> None:
        """Give the claim back."""
        self.write("")
        os.close(self._fd)
