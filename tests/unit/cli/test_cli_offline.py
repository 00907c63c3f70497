"""`tenure rollback --offline`: a new routing table without a controller, and none beside a living one."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from cli_shell import Shell

from tenure.cli.office import office
from tenure.controller.publisher import Publisher
from tenure.deploy.router import Endpoint, Table
from tenure.deploy.serving.control_page import ControlPage


@pytest.fixture
def page(mail: Shell) -> ControlPage:
    """A page and a routing table as a controller leaves them that died in the middle of a rollout."""
    version = mail("register", "my:Stricter", "-s", "Win!").out.strip()
    number = mail("rollout", "start", version).out.strip()
    data = mail.folder / "tenure-data"
    page = ControlPage.create(data / "control.page", workers=1)
    with office(None) as desk:
        publisher = Publisher(desk.state, data, page)
        with desk.state.begin() as conn:
            route = Endpoint(
                stable=desk.rollouts.stable(conn, "mail"), policy=desk.automation.policy(conn, "mail"),
                candidate=version, share=0.05, rollout=number,
            )  # fmt: skip
            publisher.put(conn, {"mail": route}, "the controller's last word")
        publisher.show()
    return page


def in_force(folder: Path, page: ControlPage) -> Endpoint:
    path = folder / "tenure-data" / "routing" / f"{page.routing}.json"
    return msgspec.json.decode(path.read_bytes(), type=Table).endpoints["mail"]


def test_everything_goes_to_the_stable_version(mail: Shell, page: ControlPage) -> None:
    before = in_force(mail.folder, page)
    said = mail("rollback", "--offline", "--reason", "it does not start")
    after = in_force(mail.folder, page)
    assert (said.code, page.routing) == (0, 2)
    assert (after.candidate, after.share, after.shadows, after.rollout) == (None, 0.0, (), None)
    assert (after.stable, after.warm) == (before.stable, (before.candidate,))
    assert mail("rollout", "show", "--json").json()[0]["state"] == "rolled_back"
    assert "it does not start" in mail("audit", "list").out
    assert "already" in mail("rollback", "--offline").out


def test_a_living_controller_does_it_itself(mail: Shell, page: ControlPage) -> None:
    page.controller_ns = time.time_ns() + 60_000_000_000  # however slow this machine is
    said = mail("rollback", "--offline")
    assert (said.code, page.routing) == (2, 1)
    assert "the controller is alive" in said.err


def test_where_nothing_is_served_there_is_nothing_to_write(mail: Shell) -> None:
    said = mail("rollback", "--offline")
    assert (said.code, "no server has run" in said.err) == (2, True)
