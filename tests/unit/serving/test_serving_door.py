"""The HTTP door asks who calls before it reads what is sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from serving_world import SECRET, World, ask

from tenure.data.records import decode_id
from tenure.deploy.serving.http.app import data_app
from tenure.deploy.serving.predict.book import Book
from tenure.deploy.serving.predict.core import Core, guard
from tenure.types import Decision, Level

Message = dict[str, Any]


def post(
    world: World, path: str, receive: Any, *, core: Core, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Message:
    """Send one request through the door; return the status and the decoded body."""
    sent: list[Message] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": b"", "root_path": "", "query_string": b"",
        "headers": list(headers), "scheme": "http", "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2),
        "http_version": "1.1", "asgi": {"version": "3.0"},
    }  # fmt: skip
    app = data_app(core, page=world.page, slot=world.page.slot(0), clock=world.clock)
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return {"status": sent[0]["status"], **json.loads(sent[1]["body"])}


@pytest.mark.parametrize("endpoint", ["e", "nothing"])
def test_a_stranger_s_body_is_not_read(tmp_path: Path, endpoint: str) -> None:
    world = World(tmp_path)
    core = world.core()
    core._may = guard(lambda _: None, open_loopback=False)

    async def receive() -> Message:
        raise AssertionError("the body was read")

    try:
        said = post(
            world, f"/v1/{endpoint}/predict", receive, core=core, headers=((b"content-length", b"1000000"),)
        )
    finally:
        world.close()
    assert (said["status"], said["code"]) == (401, "unauthenticated")


def test_a_number_that_cannot_be_logged_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    body = json.dumps({"id": "x", "truth": 2**64}).encode()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        said = post(world, "/v1/feedback", receive, core=world.core())
    finally:
        world.close()
    assert (said["status"], said["at"]) == (422, "truth")


def test_a_clock_that_stepped_back_does_not_hide_a_dead_controller(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.page.controller_ns = world.clock.now_ns() + 3_600_000_000_000
    world.at(Level.FULL)

    async def work() -> str:
        return (await (await world.ready(world.core())).predict(ask())).status

    try:
        assert asyncio.run(work()) == "pending"
    finally:
        world.close()


def test_a_forgotten_decision_is_read_from_the_log(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.at(Level.HUMAN_ONLY)

    async def work() -> tuple[str, str | None]:
        core = await world.ready(world.core())
        core.pending.book = Book(size=1)
        answer = await core.predict(ask())
        key = decode_id(answer.id, SECRET)
        assert key is not None
        world.decide([(*key, 7.0)])
        core.poll()
        core.pending.book.decided((1, 1), Decision(value=1.0, by="person"))  # pushes the first one out
        found = await core.decision("", answer.id, 0.0)
        return found.status, found.decision.by if found.decision else None

    try:
        assert asyncio.run(work()) == ("decided", "person")
    finally:
        world.close()
