"""What a worker knows of tokens: hashes and roles in a file that the controller writes. Knows no SQL."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tenure.clock import Clock
from tenure.errors import AccessError, StoreError

PERMISSIONS: Mapping[str, frozenset[str]] = {
    "viewer": frozenset({"read"}),
    "reviewer": frozenset({"read", "review"}),
    "adjudicator": frozenset({"read", "review"}),
    "operator": frozenset({"read", "review", "operate"}),
    "client": frozenset({"predict"}),
    "exchange": frozenset({"exchange"}),
}
"""read: the management API's questions. review: lease and judge. operate: every command.
predict: predict, feedback and decisions on the data port; nothing else opens that.
exchange: what labelling tools do on the management port, suggestions out and judgements in; nothing else."""

CHECK_NS = 1_000_000_000
"""How often a worker looks whether the token file changed."""


class Principal(msgspec.Struct, frozen=True):
    """A name and its role."""

    name: str
    role: str

    def may(self, action: str) -> bool:
        """Say whether the role allows read, review, operate or predict."""
        return action in PERMISSIONS.get(self.role, frozenset())


class TokenRows(msgspec.Struct, frozen=True):
    """The token file: SHA-256 of a token -> whose it is."""

    format: int
    tokens: dict[str, Principal]


class TokenFile:
    """The workers' copy of the tokens: a file that the controller writes, re-read when it changes.

    Without a file nobody is known. A file that cannot be read keeps the last good one in force.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._known: dict[str, Principal] = {}
        self._looked_ns: int | None = None
        self._stamp: tuple[int, int, int] | None = None

    def check(self, token: str) -> Principal | None:
        """Return whose token this is, or None; the file is looked at no more than once a second."""
        now = self._clock.monotonic_ns()
        if self._looked_ns is None or now - self._looked_ns >= CHECK_NS:
            self._looked_ns = now
            self._look()
        return self._known.get(digest(token))

    def _look(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._known, self._stamp = {}, None
            return
        except OSError:
            return
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp == self._stamp:
            return
        try:
            self._known = read_tokens(self._path)
        except StoreError:
            return
        self._stamp = stamp


def read_tokens(path: Path) -> dict[str, Principal]:
    """Return SHA-256 -> principal from a token file.

    Raises:
        StoreError: it cannot be read or is of another format.
    """
    try:
        content = msgspec.json.decode(path.read_bytes(), type=TokenRows)
    except (OSError, msgspec.DecodeError) as error:
        raise StoreError(f"cannot read the token file: {error}", at=str(path)) from error
    if content.format != 1:
        raise StoreError(f"the token file has format {content.format}; this version reads 1", at=str(path))
    return content.tokens


def require(principal: Principal | None, action: str) -> Principal:
    """Return the principal if it may do this.

    Raises:
        AccessError: unknown (401), or its role does not allow it (403).
    """
    if principal is None:
        raise AccessError("the token is missing, unknown or revoked", code="unauthenticated", status=401)
    if not principal.may(action):
        allowed = ", ".join(role for role, actions in PERMISSIONS.items() if action in actions)
        raise AccessError(
            f"{principal.name} is a {principal.role}; to {action} needs one of: {allowed}", at=action
        )
    return principal


def digest(token: str) -> str:
    """Return the hex SHA-256 under which a token is stored."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
