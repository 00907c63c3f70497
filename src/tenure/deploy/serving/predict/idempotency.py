"""Make a client's retry safe: one key, one request, one answer, whichever worker the retry reaches.

A claim is a small file, made by an atomic link before the request is logged. It names the request's id, so that
a retry finds the logged answer. Only requests that carry an `Idempotency-Key` pay for it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from pathlib import Path

import msgspec

from tenure.errors import ConflictError, StoreError
from tenure.seeds import fresh_u64


class Claim(msgspec.Struct, frozen=True):
    """Who answers for a key; `mine` says that the caller does."""

    run: int
    seq: int
    body: str
    mine: bool = True


class Claims:
    """The claims of one data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "idempotency"

    def claim(self, endpoint: str, key: str, body: bytes, *, run: int, seq: int) -> Claim:
        """Claim a key for (run, seq), or return the claim that stands.

        Raises:
            ConflictError: the key was used with another body.
            StoreError: the claim cannot be written.
        """
        new = Claim(run, seq, hashlib.sha256(body).hexdigest())
        path = self._path(endpoint, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return new if _link(path, new) else self._standing(path, key, new)
        except OSError as error:
            code = "log_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "log_failed"
            raise StoreError(f"cannot keep the key: {error.strerror}", code=code, at="idempotency") from error

    def take_over(self, endpoint: str, key: str, old: Claim, *, run: int, seq: int) -> Claim:
        """Replace the claim of a process that died before it logged; returns the claim that stands then."""
        path = self._path(endpoint, key)
        new = Claim(run, seq, old.body)
        with (path.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            standing = self._read(path)
            if standing is not None and (standing.run, standing.seq) != (old.run, old.seq):
                return msgspec.structs.replace(standing, mine=False)
            temporary = path.parent / f".{fresh_u64():016x}"
            temporary.write_bytes(msgspec.json.encode(new))
            temporary.replace(path)
        return new

    def release(self, endpoint: str, key: str) -> None:
        """Give a key up whose request was refused before it was logged."""
        self._path(endpoint, key).unlink(missing_ok=True)

    def forget(self, older_than_s: float, now_s: float) -> int:
        """Remove claims that are older than so many seconds; return how many."""
        removed = 0
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # a worker gave it up meanwhile
                if now_s - path.stat().st_mtime > older_than_s:
                    path.unlink()
                    removed += 1
        return removed

    def _standing(self, path: Path, key: str, new: Claim) -> Claim:
        standing = self._read(path)
        if standing is None:  # released since
            raise ConflictError("the first request with this key was just refused; send it again", at=key)
        if standing.body != new.body:
            raise ConflictError(
                "this Idempotency-Key was used with another body; use a new key for a new request",
                code="idempotency_mismatch", at="Idempotency-Key",
            )  # fmt: skip
        return msgspec.structs.replace(standing, mine=False)

    def _read(self, path: Path) -> Claim | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Claim)
        except FileNotFoundError:
            return None

    def _path(self, endpoint: str, key: str) -> Path:
        name = hashlib.sha256(f"{endpoint}\0{key}".encode()).hexdigest()
        return self._folder / name[:2] / name


def _link(path: Path, claim: Claim) -> bool:
    """Put a whole claim in place unless one stands; nobody ever sees half a file."""
    temporary = path.parent / f".{fresh_u64():016x}"
    try:
        temporary.write_bytes(msgspec.json.encode(claim))
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True
