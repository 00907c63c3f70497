"""Pictures back and forms of answers over a real socket, whichever of the server's two ways a request takes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import contract_world
import numpy as np
import pytest
from PIL import Image as Pillow
from serving_server import Client, World

from tenure.deploy.serving.processes import supervisor


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = contract_world.world(tmp_path_factory.mktemp("pictures"))
    with made.running():
        yield made


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def test_a_photo_comes_back_with_its_box(client: Client) -> None:
    body = contract_world.photo("JPEG", width=320, height=240)
    sent = {"Content-Type": "image/jpeg", "Accept": "image/png"}
    reply = client.call("POST", "/v1/spots/predict", body, sent)
    told = client.call("GET", f"/v1/decisions/{reply.headers['tenure-id']}").json()["decision"]["regions"]
    assert [(box["x1"], box["y1"], box["x2"], box["y2"]) for box in told] == [(80, 60, 240, 180)]
    seen = np.asarray(Pillow.open(io.BytesIO(reply.body))).astype(int)
    plain = np.asarray(Pillow.open(io.BytesIO(body)).convert("RGB")).astype(int)
    changed = np.abs(seen - plain).max(axis=2) > 0
    assert (reply.status, seen.shape) == (200, (240, 320, 3))
    assert changed[60:180, 80].all()
    assert not changed[70:170, 90:230].any()


@pytest.mark.parametrize(
    ("endpoint", "body", "media_type"),
    [
        ("sums", b'{"a": 1}', "application/json"),
        ("notes", b"a note", "text/plain"),
        ("photos", None, "image/png"),
    ],
)
def test_what_has_no_picture_says_what_it_has(
    client: Client, endpoint: str, body: bytes | None, media_type: str
) -> None:
    sent = {"Content-Type": media_type, "Accept": "image/png"}
    reply = client.call("POST", f"/v1/{endpoint}/predict", body or contract_world.photo(), sent)
    assert (reply.status, reply.json()["code"]) == (406, "not_acceptable")
    assert "application/json only" in reply.json()["error"]
    sent["Accept"] += ", */*;q=0.1"
    assert client.call("POST", f"/v1/{endpoint}/predict", body or contract_world.photo(), sent).status in (
        200,
        202,
    )


def test_lines_are_answered_on_a_connection_that_goes_on(client: Client) -> None:
    lines = b"".join(b'{"a": %d}\n' % n for n in range(500))
    for _ in range(3):
        reply = client.call("POST", "/v1/sums/predict", lines, {"Content-Type": "application/jsonl"})
        assert (reply.status, reply.body.count(b'"decided"')) == (200, 500)
        assert client.call("POST", "/v1/sums/predict", {"a": 1}).status == 200


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")
def test_every_worker_starts_with_the_memory_settings(world: World) -> None:
    for name, pid in world.up.supervisor.pids().items():
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if name.startswith("worker") and supervisor._is_glibc():
            assert {f"{key}={value}".encode() for key, value in supervisor.MALLOC.items()} <= set(entries)
