"""Label Studio against a real server: predictions of the stable version that leave no trace in the log."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serving_models as models
from lifecycle_plant import wait
from PIL import Image as Pillow
from serving_server import NOTES, PHOTOS, SIZES, Client, World

from tenure.data.access import Access

PNG = {"Content-Type": "image/png"}


def photo(shade: int) -> str:
    out = io.BytesIO()
    Pillow.new("RGB", (8, 6), (shade,) * 3).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root: Path = tmp_path_factory.mktemp("studio")
    made = World(root, {"sizes": SIZES, "notes": NOTES, "photos": PHOTOS})
    sample = root / "sample.png"
    sample.write_bytes(base64.b64decode(photo(200).partition(",")[2]))
    made.register("sizes", models.Size(1.0))
    made.register("notes", models.length)
    made.register("photos", models.bright, sample=sample)
    with made.running():
        yield made


@pytest.fixture(scope="module")
def studio(world: World) -> Iterator[Client]:
    assert world.server is not None
    token = Access(world.state).create("studio", "exchange")
    word = base64.b64encode(f"label-studio:{token}".encode()).decode()
    client = Client(world.server.console_url)
    client.basic = {"Authorization": f"Basic {word}"}  # type: ignore[attr-defined]
    yield client
    client.close()


def ask(studio: Client, method: str, path: str, body: Any = None) -> Any:
    return studio.call(method, path, body, studio.basic)  # type: ignore[attr-defined]


def counted(world: World) -> int:
    assert world.server is not None
    return sum(slot.get("requests") for slot in world.server.page.slots())


def test_each_kind_of_input_is_answered_by_the_stable_version_and_nothing_is_logged(
    world: World, studio: Client
) -> None:
    stable = {}
    for name in ("sizes", "notes", "photos"):
        assert ask(studio, "GET", f"/label-studio/{name}/health").json()["status"] == "UP"
        setup = ask(studio, "POST", f"/label-studio/{name}/setup", {"project": "1.1", "schema": ""})
        stable[name] = setup.json()["model_version"]
    tasks: dict[str, list[dict[str, Any]]] = {
        "sizes": [{"id": 1, "data": {"record": '{"a": 2.0}'}}, {"id": 2, "data": {"record": {"a": 0.5}}}],
        "notes": [{"id": 1, "data": {"text": "a long note"}}, {"id": 2, "data": {"text": "abc"}}],
        "photos": [{"id": 1, "data": {"image": photo(200)}}, {"id": 2, "data": {"image": photo(9)}}],
    }
    for name, some in tasks.items():
        reply = ask(studio, "POST", f"/label-studio/{name}/predict", {"tasks": some})
        assert reply.status == 200, reply.body
        found = reply.json()
        assert found["errors"] == []
        assert found["model_version"] == stable[name]
        said = [one["result"][0]["value"]["choices"][0] for one in found["results"]]
        assert said == ["big", "small"]
        assert all(one["model_version"] == stable[name] and 0 < one["score"] <= 1 for one in found["results"])
    assert counted(world) == 0
    assert world.rows() == []
    with world.state.read() as conn:
        assert conn.exec_driver_sql("select count(*) from review_items").scalar() == 0


def test_what_the_worker_refuses_is_said_of_its_task_alone(studio: Client) -> None:
    tasks = [{"id": 1, "data": {"text": "fine and long"}}, {"id": 2, "data": {"text": "fall over"}}]
    found = ask(studio, "POST", "/label-studio/notes/predict", {"tasks": tasks}).json()
    assert [bool(one) for one in found["results"]] == [True, False]
    assert [(e["task"], e["code"]) for e in found["errors"]] == [(2, "model_failed")]
    bad = ask(
        studio, "POST", "/label-studio/photos/predict", {"tasks": [{"data": {"image": "data:image/png,x"}}]}
    )
    assert (bad.status, bad.json()["code"]) == (422, "unreadable_image")


def test_the_workers_door_for_previews_is_shut_to_clients(world: World) -> None:
    assert world.server is not None
    client = Client(world.server.url, world.tokens["operator"])
    for word in ({}, {"tenure-preview": "guess"}):
        reply = client.call("POST", "/internal/sizes/preview", {"a": 1.0}, dict(word))
        assert (reply.status, reply.json()["code"]) == (401, "unauthenticated")
    client.close()


def test_a_webhook_decides_a_request_that_a_client_waits_for(world: World, studio: Client) -> None:
    client = world.client()
    sent = client.call("POST", "/v1/photos/predict", base64.b64decode(photo(200).partition(",")[2]), PNG)
    assert (sent.status, sent.json()["status"]) == (202, "pending")
    id_ = sent.json()["id"]
    made = {
        "id": 1, "completed_by": 7, "updated_at": "2026-05-01T10:00:00Z", "lead_time": 3.0,
        "result": [{"type": "choices", "from_name": "label", "value": {"choices": ["small"]}}],
    }  # fmt: skip
    event = {
        "action": "ANNOTATION_CREATED", "annotation": made,
        "task": {"id": 3, "data": {"image": "x", "tenure_item": id_, "tenure_shown": False}},
    }  # fmt: skip
    replies: list[Any] = []

    def is_known() -> bool:  # once the controller has read the log: one who gets no 200 sends again
        replies.append(ask(studio, "POST", "/label-studio/photos/webhook", event))
        return bool(replies[-1].status != 404)

    wait(is_known, "the item to be known")
    stored = replies[-1]
    assert (stored.status, stored.json()["judgements"]["stored"]) == (200, 1), stored.body
    assert ask(studio, "POST", "/label-studio/photos/webhook", event).json()["judgements"]["known"] == 1
    decided = client.call("GET", f"/v1/decisions/{id_}?wait=60").json()
    assert (decided["decision"]["value"], decided["decision"]["by"]) == ("small", "person")
    with world.state.read() as conn:
        rows = conn.exec_driver_sql("select reader, blind, seconds from judgements").fetchall()
    assert [(reader, blind) for reader, blind, _ in rows] == [("label_studio:7", 1)]
    wrong = studio.call("POST", "/label-studio/photos/webhook", event, {"Authorization": "Bearer wrong"})
    assert wrong.status == 401
