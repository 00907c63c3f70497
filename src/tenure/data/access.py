"""Principals and their tokens: who may call what. Only the SHA-256 of a token is stored.

A token has 256 random bits, so a plain hash is enough: there is nothing to guess. Looking a hash up in a dict
tells a caller nothing about other hashes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

import msgspec
import sqlalchemy as sa

from tenure.clock import Clock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.errors import AccessError, CaseError, ConflictError, MissingError, StoreError
from tenure.seeds import fresh_token, fresh_u64

PREFIXES = {"viewer": "tv", "reviewer": "tr", "operator": "to", "client": "tc"}
"""A token's beginning says its role, so that a misplaced one is recognised by people and secret scanners."""

PERMISSIONS: Mapping[str, frozenset[str]] = {
    "viewer": frozenset({"read"}),
    "reviewer": frozenset({"read", "review"}),
    "operator": frozenset({"read", "review", "operate"}),
    "client": frozenset({"predict"}),
}
"""read: the management API's questions. review: lease and judge. operate: every command.
predict: predict, feedback and decisions on the data port; nothing else opens that."""

REFRESH_NS = 2_000_000_000
"""How long another process's change may go unnoticed by `Access`."""

CHECK_NS = 1_000_000_000
"""How often a worker looks whether the token file changed."""


class Principal(msgspec.Struct, frozen=True):
    """A name and its role."""

    name: str
    role: str

    def may(self, action: str) -> bool:
        """Say whether the role allows read, review, operate or predict."""
        return action in PERMISSIONS.get(self.role, frozenset())


class Listed(msgspec.Struct, frozen=True):
    """A principal as lists show it; times are UTC microseconds."""

    name: str
    role: str
    created_us: int
    revoked_us: int | None


class _File(msgspec.Struct, frozen=True):
    format: int
    tokens: dict[str, Principal]


class Access:
    """Tokens in the control state, with a copy in memory that is at most two seconds old."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: dict[str, Principal] = {}
        self._read_ns: int | None = None
        self._lock = Lock()

    def create(self, name: str, role: str, *, by: str = "system") -> str:
        """Make a token for a new name (or one whose token was revoked) and return it; it is not shown again.

        Raises:
            CaseError: an unknown role or an empty name.
            ConflictError: the name has a token.
        """
        if role not in PREFIXES:
            raise CaseError(
                f"{role!r} is no role; use one of: {', '.join(PREFIXES)}", code="invalid_role", at="role"
            )
        if not name.strip() or len(name) > 100:
            raise CaseError("a name has 1 to 100 characters", code="invalid_name", at="name")
        token = fresh_token(PREFIXES[role])
        row = {
            "role": role,
            "token_sha256": digest(token),
            "created_us": self._state.now_us(),
            "revoked_us": None,
        }
        with self._state.begin() as conn:
            held = conn.execute(sa.select(t.principals).where(t.principals.c.name == name)).mappings().first()
            if held is not None and held["revoked_us"] is None:
                raise ConflictError(f"{name} has a token; revoke it first", code="name_taken", at="name")
            if held is None:
                conn.execute(t.principals.insert().values(name=name, **row))
            else:
                conn.execute(t.principals.update().where(t.principals.c.name == name).values(**row))
            self._state.audit(conn, actor=by, action="token.create", subject=name, detail={"role": role})
        self._read_ns = None
        return token

    def revoke(self, name: str, *, by: str = "system") -> None:
        """End a principal's token.

        Raises:
            MissingError: nobody of this name has a token.
        """
        p = t.principals.c
        with self._state.begin() as conn:
            live = t.principals.update().where(p.name == name, p.revoked_us.is_(None))
            if not conn.execute(live.values(revoked_us=self._state.now_us())).rowcount:
                raise MissingError(f"nobody named {name!r} has a token", at="name")
            self._state.audit(conn, actor=by, action="token.revoke", subject=name)
        self._read_ns = None

    def check(self, token: str) -> Principal | None:
        """Return whose token this is, or None; no SQL while the copy in memory is fresh."""
        return self._fresh().get(digest(token))

    def list(self) -> list[Listed]:
        """Return every principal, also revoked ones, by name."""
        p = t.principals.c
        with self._state.read() as conn:
            rows = conn.execute(sa.select(p.name, p.role, p.created_us, p.revoked_us).order_by(p.name))
            return [Listed(*row) for row in rows]

    def export(self, path: Path) -> None:
        """Write the hashes and roles for the workers, by rename and readable by the owner only.

        The file is left as it is when nothing changed.
        """
        data = msgspec.json.encode(_File(1, self._load()), order="sorted")
        try:
            if path.is_file() and path.read_bytes() == data:
                return
            new = path.with_name(f".{path.name}.{os.getpid()}.{fresh_u64():x}")
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            raise StoreError(f"cannot write the token file: {error}", at=str(path)) from error

    def _fresh(self) -> dict[str, Principal]:
        now = self._state.clock.monotonic_ns()
        read = self._read_ns
        if read is not None and now - read < REFRESH_NS:
            return self._known
        with self._lock:
            if self._read_ns is None or self._read_ns == read:
                self._read_ns = now
                self._known = self._load()
            return self._known

    def _load(self) -> dict[str, Principal]:
        p = t.principals.c
        query = sa.select(p.token_sha256, p.name, p.role).where(p.revoked_us.is_(None))
        with self._state.read() as conn:
            return {row.token_sha256: Principal(row.name, row.role) for row in conn.execute(query)}


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
        content = msgspec.json.decode(path.read_bytes(), type=_File)
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
