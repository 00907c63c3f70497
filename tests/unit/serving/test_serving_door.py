"""The HTTP door asks who calls before it reads what is sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from serving_world import World

from tenure.deploy.serving.app import data_app
from tenure.deploy.serving.core import guard


@pytest.mark.parametrize("endpoint", ["e", "nothing"])
def test_a_stranger_s_body_is_not_read(tmp_path: Path, endpoint: str) -> None:
    world = World(tmp_path)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    async def work() -> None:
        core = world.core()
        core._may = guard(lambda _: None, open_loopback=False)
        app = data_app(core, page=world.page, slot=world.page.slot(0), clock=world.clock)
        scope = {
            "type": "http", "method": "POST", "path": f"/v1/{endpoint}/predict", "raw_path": b"", "root_path": "",
            "query_string": b"", "headers": [(b"content-length", b"1000000")], "scheme": "http",
            "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2), "http_version": "1.1",
            "asgi": {"version": "3.0"},
        }  # fmt: skip
        await app(scope, receive, send)

    try:
        asyncio.run(work())
    finally:
        world.close()
    assert sent[0]["status"] == 401
    assert json.loads(sent[1]["body"])["code"] == "unauthenticated"
