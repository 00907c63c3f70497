from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.access import Access
from tenure.data.state import State, verify_audit
from tenure.data.tokens import PERMISSIONS, Principal, TokenFile, read_tokens, require
from tenure.errors import AccessError, CaseError, ConflictError, MissingError, StoreError


def test_a_token_is_known_until_it_is_revoked(any_state: State) -> None:
    access = Access(any_state)
    token = access.create("ann", "reviewer", by="root")
    assert token.startswith("tr_")
    assert access.check(token) == Principal("ann", "reviewer")
    assert access.check(token + "x") is None
    access.revoke("ann")
    assert access.check(token) is None
    with pytest.raises(MissingError):
        access.revoke("ann")


def test_only_the_hash_is_stored_and_each_change_is_in_the_audit_trail(any_state: State) -> None:
    access = Access(any_state)
    token = access.create("ann", "client", by="root")
    access.revoke("ann", by="root")
    with any_state.read() as conn:
        stored = [str(tuple(row)) for table in (t.principals, t.audit) for row in conn.execute(sa.select(table))]
        actions = conn.execute(sa.select(t.audit.c.action).order_by(t.audit.c.id)).scalars().all()
        assert verify_audit(conn) is None
    assert not any(token in text for text in stored)
    assert actions == ["token.create", "token.revoke"]


def test_a_name_has_one_token_and_may_get_a_new_one_after_revocation(any_state: State) -> None:
    access = Access(any_state)
    first = access.create("ann", "viewer")
    with pytest.raises(ConflictError):
        access.create("ann", "operator")
    access.revoke("ann")
    second = access.create("ann", "operator")
    assert (access.check(first), access.check(second)) == (None, Principal("ann", "operator"))
    assert [(x.name, x.role, x.revoked_us) for x in access.list()] == [("ann", "operator", None)]


@pytest.mark.parametrize(("name", "role"), [("ann", "king"), (" ", "viewer"), ("a" * 101, "viewer")])
def test_unusable_names_and_roles(state: State, name: str, role: str) -> None:
    with pytest.raises(CaseError):
        Access(state).create(name, role)


def test_another_process_is_noticed_within_two_seconds(state: State, clock: ManualClock) -> None:
    here, there = Access(state), Access(state)
    token = there.create("ann", "viewer")
    assert here.check(token) is not None
    there.revoke("ann")
    assert here.check(token) is not None  # from memory: no SQL
    clock.advance(2.0)
    assert here.check(token) is None


def test_roles_allow_what_the_table_says() -> None:
    assert {r: sorted(a) for r, a in PERMISSIONS.items()} == {
        "viewer": ["read"],
        "reviewer": ["read", "review"],
        "adjudicator": ["read", "review"],
        "operator": ["operate", "read", "review"],
        "client": ["predict"],
        "exchange": ["exchange"],
    }
    assert require(Principal("a", "client"), "predict").name == "a"
    with pytest.raises(AccessError, match="operator") as caught:
        require(Principal("a", "viewer"), "operate")
    assert caught.value.status == 403
    with pytest.raises(AccessError) as caught:
        require(None, "read")
    assert caught.value.status == 401


def test_workers_read_the_file_when_it_changes(state: State, clock: ManualClock, tmp_path: Path) -> None:
    access, path = Access(state), tmp_path / "tokens.json"
    worker = TokenFile(path, clock)
    token = access.create("line 1", "client")
    assert worker.check(token) is None  # no file yet
    access.export(path)
    clock.advance(1.0)
    assert worker.check(token) == Principal("line 1", "client")
    access.revoke("line 1")
    access.export(path)
    assert worker.check(token) is not None  # looked less than a second ago
    clock.advance(1.0)
    assert worker.check(token) is None


def test_the_file_holds_no_token_and_belongs_to_its_owner(state: State, tmp_path: Path) -> None:
    access, path = Access(state), tmp_path / "tokens.json"
    token = access.create("ann", "client")
    access.export(path)
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.stat()
    access.export(path)
    assert path.stat().st_ino == before.st_ino  # unchanged content is not written again
    assert [p.name for p in tmp_path.iterdir() if "tokens" in p.name] == ["tokens.json"]


def test_a_broken_file_keeps_the_last_good_one_and_a_missing_one_knows_nobody(
    state: State, clock: ManualClock, tmp_path: Path
) -> None:
    access, path = Access(state), tmp_path / "tokens.json"
    token = access.create("ann", "client")
    access.export(path)
    worker = TokenFile(path, clock)
    assert worker.check(token)
    path.write_text("{")
    clock.advance(1.0)
    assert worker.check(token)
    with pytest.raises(StoreError):
        read_tokens(path)
    path.write_text('{"format": 2, "tokens": {}}')
    with pytest.raises(StoreError, match="format 2"):
        read_tokens(path)
    path.unlink()
    clock.advance(1.0)
    assert worker.check(token) is None


def test_a_good_token_is_good_while_another_thread_reads_them_first(state: State) -> None:
    token = Access(state).create("ann", "reviewer")
    for _ in range(20):
        access, start = Access(state), threading.Barrier(4)

        def check(access: Access = access, start: threading.Barrier = start) -> Principal | None:
            start.wait()
            return access.check(token)

        with ThreadPoolExecutor(4) as pool:
            found = [done.result() for done in [pool.submit(check) for _ in range(4)]]
        assert found == [Principal("ann", "reviewer")] * 4
