"""Commit, file, page: a crash between any two is completed by the next start."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tenure.controller.publisher import Publisher
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.router import Endpoint, Policy, Table
from tenure.deploy.serving.control_page import ControlPage
from tenure.types import Level

ROUTE = Endpoint("m@1", Policy(1, Level.ASSIST))
NEXT = Endpoint("m@2", Policy(1, Level.ASSIST), rollout="r-1")


@pytest.fixture
def page(tmp_path: Path) -> ControlPage:
    return ControlPage.create(tmp_path / "control.page", workers=1)


@pytest.fixture
def publisher(state: State, tmp_path: Path, page: ControlPage) -> Publisher:
    return Publisher(state, tmp_path, page)


def put(publisher: Publisher, state: State, route: Endpoint) -> bool:
    with state.begin() as conn:
        return publisher.put(conn, {"phones": route}, "test")


def file(folder: Path, version: int) -> Table:
    return msgspec.json.decode((folder / "routing" / f"{version}.json").read_bytes(), type=Table)


def test_nothing_is_shown_before_the_commit(
    state: State, tmp_path: Path, page: ControlPage, publisher: Publisher
) -> None:
    with state.begin() as conn:
        publisher.put(conn, {"phones": ROUTE}, "test")
        conn.get_transaction().rollback()  # type: ignore[union-attr]  # the machine fails before the commit
    assert page.routing == 0
    assert not (tmp_path / "routing").exists()
    publisher.reload()
    publisher.show()
    assert (page.routing, publisher.table) == (0, None)


def test_a_crash_after_the_commit_is_completed(
    state: State, tmp_path: Path, page: ControlPage, publisher: Publisher
) -> None:
    put(publisher, state, ROUTE)
    again = Publisher(state, tmp_path, page)
    assert page.routing == 0
    again.show()
    assert page.routing == 1
    assert file(tmp_path, 1).endpoints == {"phones": ROUTE}


def test_a_crash_after_the_file_is_completed(
    state: State, tmp_path: Path, page: ControlPage, publisher: Publisher
) -> None:
    put(publisher, state, ROUTE)
    publisher.show()
    put(publisher, state, NEXT)
    broken = ControlPage.create(tmp_path / "other.page", workers=1)
    Publisher(state, tmp_path, broken).show()  # wrote the file; the page that workers see is still old
    assert page.routing == 1
    Publisher(state, tmp_path, page).show()
    assert page.routing == 2
    assert file(tmp_path, 2).endpoints == {"phones": NEXT}


def test_the_page_names_a_table_only_when_its_file_is_whole(
    state: State, tmp_path: Path, page: ControlPage, publisher: Publisher
) -> None:
    put(publisher, state, ROUTE)
    (tmp_path / "routing").write_text("a file where the folder should be")
    with pytest.raises(OSError):
        publisher.show()
    assert page.routing == 0
    (tmp_path / "routing").unlink()
    publisher.show()
    assert page.routing == 1


def test_an_equal_table_is_no_new_version(state: State, publisher: Publisher) -> None:
    assert put(publisher, state, ROUTE)
    assert not put(publisher, state, ROUTE)
    assert put(publisher, state, NEXT)
    with state.read() as conn:
        assert [row.version for row in conn.execute(t.routing_tables.select())] == [1, 2]


def test_a_new_page_is_told_what_is_in_force(
    state: State, tmp_path: Path, page: ControlPage, publisher: Publisher
) -> None:
    put(publisher, state, ROUTE)
    publisher.show()
    fresh = ControlPage.create(tmp_path / "control.page", workers=1)  # the supervisor started anew
    Publisher(state, tmp_path, fresh).show()
    assert (page.routing, fresh.routing) == (1, 1)


def test_a_past_tables_rollout_is_known_after_a_restart(
    state: State, tmp_path: Path, page: ControlPage, publisher: Publisher
) -> None:
    for route in (ROUTE, NEXT, ROUTE):
        put(publisher, state, route)
    again = Publisher(state, tmp_path, page)
    assert [again.rollout_at(version, "phones") for version in (1, 2, 3)] == [None, "r-1", None]
    assert again.rollout_at(2, "tablets") is None
    assert again.rollout_at(99, "phones") is None


def test_old_files_go_and_the_newest_stay(
    state: State, tmp_path: Path, page: ControlPage, publisher: Publisher
) -> None:
    for number in range(30):
        put(publisher, state, Endpoint("m@1", Policy(number, Level.ASSIST)))
        publisher.show()
    left = sorted(int(path.stem) for path in (tmp_path / "routing").glob("*.json"))
    assert left == list(range(10, 31))
