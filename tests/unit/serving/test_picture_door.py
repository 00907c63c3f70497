"""Pictures over the door: who gets one, what is drawn on it, and what is not."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from PIL import Image as Pillow
from serving_world import World

from tenure.deploy.serving.http.app import data_app
from tenure.deploy.serving.http.drawing import PALETTE
from tenure.deploy.serving.predict.core import guard
from tenure.model.pipeline import Pipeline
from tenure.model.stage import adapt
from tenure.scope.project import Decode, EndpointSpec, Output, Serve
from tenure.types import Box, Image, Level, Prediction

SPOTS = Output(labels=("bright", "grey", "none"), regions="box")
WITH = EndpointSpec(input="image", output=SPOTS, serve=Serve(max_body=50_000))
WITHOUT = EndpointSpec(input="image", output=Output(labels=("bright", "grey", "none")))
JPEG = {"Accept": "image/jpeg"}


def spots(image: Image) -> Prediction:
    """Find the bright and the grey spot on black."""
    boxes, grey = [], image.grey()
    for label, seen, confidence in (("bright", grey > 200, 0.9), ("grey", (grey > 80) & (grey <= 200), 0.3)):
        rows, columns = np.nonzero(seen)
        if len(rows):
            box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
            boxes.append(Box(*box, label, confidence))
    return Prediction(boxes[0].label if boxes else "none", 0.8, regions=tuple(boxes))


def plain(image: Image) -> Prediction:
    return msgspec.structs.replace(spots(image), regions=())


def photo(form: str = "PNG") -> bytes:
    pixels = np.zeros((120, 160), np.uint8)
    pixels[60:80, 20:50] = 255
    pixels[90:110, 100:140] = 128
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, form)
    return out.getvalue()


def shown(reply: httpx.Response) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(reply.content)))


def has(pixels: np.ndarray, colour: str) -> bool:
    return bool((pixels == tuple(bytes.fromhex(colour[1:]))).all(axis=-1).any())


@pytest.fixture
def post(tmp_path: Path) -> Any:
    worlds: list[World] = []

    def send(
        path: str = "/v1/e/predict", *, spec: EndpointSpec = WITH, level: Level = Level.FULL,
        model: Callable[[Image], Prediction] = spots, locked: bool = False, blind: float = 0.0, **options: Any
    ) -> httpx.Response:  # fmt: skip
        folder = tmp_path / str(len(worlds))
        folder.mkdir()
        world = World(folder, spec=spec, load=lambda version: _loaded(model, spec))
        worlds.append(world)
        core = world.core()
        if locked:
            core._may = guard(lambda _: None, open_loopback=False)
        world.at(level, blind=blind)

        async def one() -> httpx.Response:
            await world.ready(core)
            app = data_app(core, page=world.page, slot=world.page.slot(0), clock=world.clock)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
                return await client.post(path, **options)

        return asyncio.run(one())

    send.worlds = worlds  # type: ignore[attr-defined]
    yield send
    for world in worlds:
        world.close()


def _loaded(model: Callable[[Image], Prediction], spec: EndpointSpec) -> Pipeline:
    return Pipeline([("spots", adapt(model))], output=spec.output)


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
def test_a_decided_answer_is_drawn(post: Any, media_type: str) -> None:
    reply = post(content=photo(), headers={"Accept": media_type, "Content-Type": "image/png"})
    assert (reply.status_code, reply.headers["content-type"]) == (200, media_type)
    assert (reply.headers["tenure-status"], reply.headers["vary"]) == ("decided", "Accept")
    assert len(reply.headers["tenure-id"]) > 10
    assert shown(reply).shape == (120, 160, 3)
    if media_type == "image/png":
        assert [has(shown(reply), colour) for colour in PALETTE[:3]] == [True, True, False]


def test_without_a_wish_the_answer_is_json_with_the_same_boxes(post: Any) -> None:
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json, image/png;q=0.5"}):
        reply = post(content=photo(), headers=headers)
        assert reply.headers["content-type"] == "application/json"
        assert [box["label"] for box in reply.json()["decision"]["regions"]] == ["bright", "grey"]


def test_boxes_below_the_confidence_are_left_out(post: Any) -> None:
    reply = post("/v1/e/predict?confidence=0.4", content=photo(), headers={"Accept": "image/png"})
    assert [has(shown(reply), colour) for colour in PALETTE[:2]] == [True, False]


def test_boxes_and_size_are_those_of_the_photo_that_was_sent(post: Any) -> None:
    small = msgspec.structs.replace(WITH, decode=Decode(min_side=60))
    whole, reduced = (
        post(content=photo("JPEG"), spec=spec).json()["decision"]["regions"] for spec in (WITH, small)
    )
    for box, same in zip(reduced, whole, strict=True):
        assert [box[c] for c in ("x1", "y1", "x2", "y2")] == pytest.approx(
            [same[c] for c in ("x1", "y1", "x2", "y2")], abs=4
        )
    drawn = post(content=photo("JPEG"), spec=small, headers={"Accept": "image/png"})
    assert shown(drawn).shape == (120, 160, 3)
    (row,) = post.worlds[1].log.query("select x_width w, x_height h from predictions").to_pylist()
    assert (row["w"], row["h"]) == (160, 120)


@pytest.mark.parametrize(
    ("level", "blind"), [(Level.HUMAN_ONLY, 0), (Level.SHADOW, 0), (Level.ASSIST, 0), (Level.ASSIST, 1)]
)
def test_a_pending_answer_gives_the_plain_picture(post: Any, level: Level, blind: float) -> None:
    reply = post(content=photo(), headers={"Accept": "image/png"}, level=level, blind=blind)
    assert (reply.status_code, reply.headers["tenure-status"]) == (202, "pending")
    assert reply.headers["location"] == f"/v1/decisions/{reply.headers['tenure-id']}"
    assert (shown(reply) == np.asarray(Pillow.open(io.BytesIO(photo())).convert("RGB"))).all()


@pytest.mark.parametrize(
    ("spec", "accept", "offered"),
    [
        (WITHOUT, "image/png", "application/json only"),
        (WITH, "text/html", "application/json or image/jpeg or image/png only"),
    ],
)
def test_what_there_is_not_is_406_and_logged(post: Any, spec: EndpointSpec, accept: str, offered: str) -> None:
    reply = post(content=photo(), headers={"Accept": accept}, spec=spec)
    assert (reply.status_code, reply.json()["code"]) == (406, "not_acceptable")
    assert reply.json()["error"] == f"e answers in {offered}"
    (row,) = post.worlds[0].rows()
    assert row["route"] == "refused"


# A small object-detection server's client


def test_a_form_in_gives_a_drawn_jpeg_out(post: Any) -> None:
    reply = post("/predict?model=e&confidence=0.4", files={"file": ("tile.jpg", photo("JPEG"), None)})
    assert (reply.status_code, reply.headers["content-type"]) == (200, "image/jpeg")
    pixels = shown(reply).astype(int)
    assert (
        np.abs(pixels[70, 20] - np.array((213, 94, 0))).max() < 40
    )  # the bright spot's left edge, in its colour
    assert np.abs(pixels[100, 100:140] - 128).max() < 60  # the grey one is below the confidence


def test_a_form_without_a_picture_s_boxes_still_answers_json(post: Any) -> None:
    reply = post("/predict?model=e", files={"file": ("tile.jpg", photo("JPEG"), None)}, spec=WITHOUT, model=plain)
    assert reply.json()["decision"]["value"] == "bright"


@pytest.mark.parametrize(
    ("status", "code", "path", "options"),
    [
        (415, "unsupported_media_type", "/predict?model=e", {"files": {"file": ("notes.txt", b"hello", None)}}),
        (415, "unsupported_media_type", "/predict?model=e", {"files": {"file": ("t", b"hello", "text/plain")}}),
        (422, "unreadable_image", "/predict?model=e", {"files": {"file": ("tile.jpg", b"hello", None)}}),
        (422, "missing_file", "/predict?model=e", {"files": {"photo": ("tile.png", photo(), None)}}),
        (404, "unknown_endpoint", "/predict?model=yolo", {"files": {"file": ("tile.png", photo(), None)}}),
        (404, "unknown_endpoint", "/predict", {"files": {"file": ("tile.png", photo(), None)}}),
        (400, "invalid_number", "/predict?model=e&confidence=40", {"files": {"file": ("t.png", photo(), None)}}),
        (400, "invalid_number", "/predict?model=e&confidence=x", {"files": {"file": ("t.png", photo(), None)}}),
        (413, "too_large", "/predict?model=e", {"files": {"file": ("t.png", bytes(200_000), None)}}),
        (401, "unauthenticated", "/predict?model=e", {"files": {"file": ("t.png", b"", None)}, "locked": True}),
    ],
)  # fmt: skip
def test_refusals_of_a_form(post: Any, status: int, code: str, path: str, options: dict[str, Any]) -> None:
    reply = post(path, **options)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    if code == "unknown_endpoint":
        assert "there is: e" in reply.json()["error"]
