"""Tensors on the protocol class: what they get is, byte by byte, what the ASGI app answers."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_world import World
from test_serving_protocol import Reply, Site, on

from tenure.deploy.router import Endpoint, Policy
from tenure.errors import StoreError
from tenure.types import Level

TO_APP = b"Content-Encoding: identity"  # such a request is left to the app


def head(body: bytes, *lines: bytes, model: bytes = b"e") -> bytes:
    first = b"POST /v2/models/%b/infer HTTP/1.1\r\nHost: localhost\r\n" % model
    return first + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def listed(*values: Any, **more: Any) -> bytes:
    tensor = {"name": "a", "shape": [len(values)], "datatype": "FP64", "data": list(values)}
    return json.dumps({"inputs": [tensor], **more}).encode()


def packed(*values: float) -> tuple[bytes, bytes]:
    """Return a body with a binary tensor, and the header that tells it apart."""
    data = np.array(values, np.float64).tobytes()
    tensor = {
        "name": "a",
        "shape": [len(values)],
        "datatype": "FP64",
        "parameters": {"binary_data_size": len(data)},
    }
    said = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return said + data, b"Inference-Header-Content-Length: %d" % len(said)


BINARY, LENGTH = packed(1.0, 13.0, 4.0)
CASES = {
    "json": (listed(1.0, 13.0),),
    "binary": (BINARY, LENGTH),
    "compressed answer": (listed(*range(400)), b"Accept-Encoding: gzip"),
    "a name sent twice": (BINARY, LENGTH, b"inference-header-content-length: 3"),
    "unit and deadline": (listed(2.0), b"Tenure-Unit: line 1", b"Tenure-Deadline-Ms: 900"),
    "id": (listed(1.0, id="mine"),),
    "no JSON": (b"{{",),
    "a list": (b"[1]",),
    "wrong length": (BINARY, b"Inference-Header-Content-Length: 99999"),
    "length in words": (BINARY, b"Inference-Header-Content-Length: many"),
    "deadline in words": (listed(1.0), b"Tenure-Deadline-Ms: soon"),
    "empty": (b"",),
    "another site": (listed(1.0), b"Origin: https://elsewhere.example"),
    "wrong token": (listed(1.0), b"Authorization: Bearer tc_nobody"),
    "safe retry": (listed(1.0), b"Idempotency-Key: k"),
}


def same(reply: Reply) -> tuple[int, bytes, dict[str, str]]:
    """Return what two answers to the same call have in common: all but ids, the date and the server's name."""
    packed = reply.headers.get("content-encoding") == "gzip"
    body = re.sub(rb"[0-9a-f]{24,}", b"id", gzip.decompress(reply.body) if packed else reply.body)
    kept = {n: v for n, v in reply.headers.items() if n in ("content-type", "content-encoding", "retry-after")}
    return reply.status, body, kept


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.publish(Endpoint("m@1", Policy(1, Level.FULL, audit=0.0)))
    return made


@pytest.mark.parametrize("name", CASES)
def test_both_doors_answer_alike(world: World, name: str) -> None:
    body, *lines = CASES[name]

    async def work(site: Site) -> list[Reply]:
        wire = await site.connect()
        replies = []
        for more in ([], [TO_APP], []):  # the second time over the fast door its head is known already
            await wire.send(head(body, *lines, *more))
            replies.append(await wire.reply())
        return replies

    fast, slow, known = on(world, work)
    assert same(fast) == same(slow) == same(known)
    assert fast.status < 500
    assert ("content-encoding" in fast.headers) == (name == "compressed answer")


def test_the_fast_door_is_the_one_that_answers(world: World) -> None:
    async def work(site: Site) -> tuple[Reply, Reply]:
        wire = await site.connect()
        await wire.send(head(listed(1.0)))
        fast = await wire.reply()
        await wire.send(head(listed(1.0), TO_APP))
        return fast, await wire.reply()

    fast, slow = on(world, work)
    assert "date" not in fast.headers
    assert "date" in slow.headers, "uvicorn writes it, the fast door does not"


def test_requests_sent_ahead_are_answered_in_order(world: World) -> None:
    async def work(site: Site) -> list[float]:
        wire = await site.connect()
        await wire.send(b"".join(head(listed(float(n), id=str(n))) for n in range(5)))
        return [json.loads((await wire.reply()).body)["id"] for _ in range(5)]

    assert on(world, work) == ["0", "1", "2", "3", "4"]


def test_both_doors_are_counted_in_one_place(world: World) -> None:
    async def work(site: Site) -> tuple[int, Any]:
        wire = await site.connect()
        for more in ((), (TO_APP,)):
            await wire.send(head(listed(1.0, 2.0), *more))
            await wire.reply()
        await wire.send(b"GET /v2/models/e/stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return site.world.page.slot(0).get("requests"), json.loads((await wire.reply()).body)

    requests, said = on(world, work)
    assert requests == 4
    assert said["model_stats"][0]["inference_count"] == 4


def test_a_log_that_is_full_is_a_503_in_the_protocols_form(world: World) -> None:
    async def work(site: Site) -> Reply:
        def full(frame: bytes) -> tuple[str, int]:
            raise StoreError("no space left", code="disk_full")

        site.core._journal._records.append = full  # type: ignore[method-assign]
        return await site.once(head(listed(1.0)))

    reply = on(world, work)
    assert reply.status == 503
    assert json.loads(reply.body).keys() == {"error"}
    assert "retry-after" in reply.headers


def test_a_caller_that_leaves_takes_nobody_along(world: World) -> None:
    async def work(site: Site) -> Reply:
        for _ in range(5):
            wire = await site.connect()
            await wire.send(head(listed(*range(50))))
            wire.writer.close()
        await asyncio.sleep(0)
        return await site.once(head(listed(1.0)))

    assert on(world, work).status == 200
