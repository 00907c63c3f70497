"""Principals and their tokens: who may call what. Only the SHA-256 of a token is stored.

A token has 256 random bits, so a plain hash is enough: there is nothing to guess. Looking a hash up in a dict
tells a caller nothing about other hashes.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock

import msgspec
import sqlalchemy as sa

from tenure.data import tables as t
from tenure.data.state import State
from tenure.data.tokens import Principal, TokenRows, digest
from tenure.errors import CaseError, ConflictError, MissingError, StoreError
from tenure.seeds import fresh_token, fresh_u64

PREFIXES = {
    "viewer": "tv",
    "reviewer": "tr",
    "adjudicator": "tj",
    "operator": "to",
    "client": "tc",
    "exchange": "tx",
}
"""A token's beginning says its role, so that a misplaced one is recognised by people and secret scanners."""

REFRESH_NS = 2_000_000_000
"""How long another process's change may go unnoticed by `Access`."""


class Listed(msgspec.Struct, frozen=True):
    """A principal as lists show it; times are UTC microseconds."""

    name: str
    role: str
    created_us: int
    revoked_us: int | None


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
        data = msgspec.json.encode(TokenRows(1, self._load()), order="sorted")
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
                self._known = self._load()
                self._read_ns = now  # last: other threads take what is known as soon as it is fresh
            return self._known

    def _load(self) -> dict[str, Principal]:
        p = t.principals.c
        query = sa.select(p.token_sha256, p.name, p.role).where(p.revoked_us.is_(None))
        with self._state.read() as conn:
            return {row.token_sha256: Principal(row.name, row.role) for row in conn.execute(query)}
