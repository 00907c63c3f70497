"""The Open Inference Protocol's routes over a real core."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from serving_world import NUMBER, World

from tenure.deploy.router import Endpoint, Policy
from tenure.deploy.serving.http.app import data_app
from tenure.deploy.serving.predict.core import guard
from tenure.scope.project import EndpointSpec, Output, Serve
from tenure.types import Level

BOTH = msgspec.structs.replace(NUMBER, serve=Serve(max_body=4000))
HEADER = "Inference-Header-Content-Length"
Work = Callable[[httpx.AsyncClient, World], Awaitable[Any]]


def run(world: World, work: Work, *, ready: bool = True) -> Any:
    async def whole() -> Any:
        core = world.core()
        if ready:
            await world.ready(core)
        app = data_app(core, page=world.page, slot=world.page.slot(0), clock=world.clock)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tenure") as client:
            return await work(client, world)

    try:
        return asyncio.run(whole())
    finally:
        world.close()


def get(world: World, path: str, *, ready: bool = True) -> tuple[int, Any]:
    async def work(client: httpx.AsyncClient, _: World) -> tuple[int, Any]:
        reply = await client.get(path)
        return reply.status_code, reply.json()

    return run(world, work, ready=ready)  # type: ignore[no-any-return]


def full(folder: Path, spec: EndpointSpec = BOTH) -> World:
    world = World(folder, spec=spec)
    world.at(Level.FULL, audit=0.0)
    return world


def ask(*values: float, outputs: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "inputs": [{"name": "a", "shape": [len(values)], "datatype": "FP64", "data": list(values)}], **more,
    }  # fmt: skip
    return (
        body
        if outputs is None
        else body | {"outputs": [{"name": o} if isinstance(o, str) else o for o in outputs]}
    )


def infer(
    world: World, body: Any, headers: dict[str, str] | None = None, path: str = "/v2/models/e/infer"
) -> Any:
    async def work(client: httpx.AsyncClient, _: World) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body)
        return await client.post(path, content=content, headers=headers or {})

    return run(world, work)


def outputs(reply: httpx.Response) -> dict[str, Any]:
    return {each["name"]: each["data"] for each in reply.json()["outputs"]}


# Health and metadata


def test_health_says_what_clients_and_probes_look_for(tmp_path: Path) -> None:
    world = full(tmp_path)

    async def work(client: httpx.AsyncClient, world: World) -> list[tuple[int, Any]]:
        paths = ["/v2/health/live", "/v2/health/ready", "/v2/models/e/ready", "/v2/models/e/versions/m@1/ready"]
        before = [await client.get(path) for path in paths]
        world.page.slot(0).state = "draining"
        after = [await client.get(path) for path in paths]
        return [(r.status_code, r.json()) for r in before + after]

    ready, model = {"ready": True, "live": True}, {"name": "e", "ready": True}
    off = {"ready": False}
    assert run(world, work) == [
        (200, {"live": True}), (200, ready), (200, model), (200, model),
        (200, {"live": True}), (503, ready | off), (503, model | off), (503, model | off),
    ]  # fmt: skip


def test_nothing_is_ready_before_the_first_table(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work(client: httpx.AsyncClient, _: World) -> list[int]:
        paths = ["health/ready", "models/e/ready", "models/e/versions/m@1/ready", "models/e", "health/live"]
        return [(await client.get(f"/v2/{path}")).status_code for path in paths]

    assert run(world, work, ready=False) == [503, 503, 503, 200, 200]


def test_metadata_of_server_and_model(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, _: World) -> list[Any]:
        return [(await client.get(path)).json() for path in ("/v2", "/v2/models/e?unknown=1", "/v2/models")]

    server, model, models = run(full(tmp_path), work)
    assert server["name"] == "tenure"
    assert "binary_tensor_data" in server["extensions"]
    assert (model["name"], model["versions"], model["platform"]) == ("e", ["m@1"], "tenure")
    assert model["inputs"] == [
        {"name": "input", "datatype": "FP64", "shape": [-1, 1], "parameters": {"columns": "a"}}
    ]
    assert model["outputs"][0] == {"name": "value", "datatype": "BYTES", "shape": [-1]}
    assert models == {"models": ["e"]}


def test_an_endpoint_of_people_is_ready_without_a_version(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish(Endpoint(None, Policy(1, Level.HUMAN_ONLY)))
    assert get(world, "/v2/models/e/ready") == (200, {"name": "e", "ready": True})


def test_a_version_that_cannot_be_loaded_is_not_ready(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish(Endpoint("broken@1", Policy(1, Level.FULL)))

    async def work(client: httpx.AsyncClient, _: World) -> list[Any]:
        index = (await client.post("/v2/repository/index")).json()
        only = (await client.post("/v2/repository/index", json={"ready": True})).json()
        return [(await client.get("/v2/models/e/ready")).status_code, index[0]["state"], only]

    assert run(world, work) == [503, "UNAVAILABLE", []]


def test_the_index_and_statistics_count_what_was_answered(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, _: World) -> list[Any]:
        await client.post("/v2/models/e/infer", json=ask(3.0, 0.0))
        await client.post("/v2/models/e/infer", json=ask(3.0, outputs=["nothing"]))
        paths = ("/v2/models/e/stats", "/v2/models/e/versions/m@1/stats", "/v2/models/stats")
        stats = [(await client.get(path)).json() for path in paths]
        return [(await client.post("/v2/repository/index", content=b"")).json(), stats]

    index, (one, versioned, every) = run(full(tmp_path), work)
    assert index == [{"name": "e", "version": "m@1", "state": "READY", "reason": ""}]
    assert one == versioned == every
    (stats,) = one["model_stats"]
    assert (stats["name"], stats["version"], stats["inference_count"]) == ("e", "m@1", 2)
    assert stats["inference_stats"]["success"]["count"] == stats["inference_stats"]["fail"]["count"] == 1


# Inference


@pytest.mark.parametrize("path", ["/v2/models/e/infer", "/v2/models/e/versions/m@1/infer?test=1"])
def test_json_rows_are_answered_and_each_is_a_request_of_its_own(tmp_path: Path, path: str) -> None:
    world = full(tmp_path)

    async def work(client: httpx.AsyncClient, world: World) -> Any:
        reply = await client.post(path, json=ask(3.0, 0.0, id="42", outputs=["value", "status", "id", "version"]))
        return reply, world.rows()

    reply, rows = run(world, work)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    body, said = reply.json(), outputs(reply)
    assert (body["model_name"], body["model_version"], body["id"]) == ("e", "m@1", "42")
    assert "parameters" not in body
    assert said["value"] == ["big", "small"]
    assert said["status"] == ["decided", "decided"]
    assert len(set(said["id"])) == 2
    assert [row["value"] for row in rows] == ['"big"', '"small"']


def test_binary_in_and_out_is_what_the_default_client_sends(tmp_path: Path) -> None:
    data = np.array([[3.0], [0.0]], "<f4")
    header = json.dumps(
        {
            "inputs": [
                {"name": "input", "shape": [2, 1], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    reply = infer(full(tmp_path), header + data.tobytes(), {HEADER: str(len(header))})
    assert reply.headers["content-type"] == "application/octet-stream"
    end = int(reply.headers[HEADER])
    told = json.loads(reply.content[:end])["outputs"]
    assert [each["name"] for each in told] == ["value", "confidence", "probabilities"]
    sizes = [each["parameters"]["binary_data_size"] for each in told]
    assert len(reply.content) == end + sum(sizes)
    assert reply.content[end : end + sizes[0]] == b"\x03\0\0\0big\x05\0\0\0small"
    confidence = np.frombuffer(reply.content[end + sizes[0] : end + sizes[0] + sizes[1]], "<f4")
    np.testing.assert_allclose(confidence, [0.7, 0.6], rtol=1e-6)


def test_one_output_may_be_binary_and_another_json(tmp_path: Path) -> None:
    wanted = [{"name": "confidence", "parameters": {"binary_data": True}}, "value"]
    reply = infer(full(tmp_path), ask(3.0, outputs=wanted))
    head = json.loads(reply.content[: int(reply.headers[HEADER])])
    assert [("data" in each) for each in head["outputs"]] == [False, True]


def test_a_raw_body_is_the_one_input(tmp_path: Path) -> None:
    reply = infer(full(tmp_path), np.array([3.0, 0.0]).tobytes(), {HEADER: "0"})
    assert outputs(reply)["value"] == ["big", "small"]


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_both_ways(tmp_path: Path, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    body = pack(json.dumps(ask(*[3.0] * 200)).encode())
    reply = infer(full(tmp_path), body, {"Content-Encoding": encoding, "Accept-Encoding": encoding})
    assert reply.headers["content-encoding"] == encoding
    assert outputs(reply)["value"] == ["big"] * 200


def test_a_bomb_is_413(tmp_path: Path) -> None:
    reply = infer(full(tmp_path), gzip.compress(bytes(10_000_000)), {"Content-Encoding": "gzip"})
    assert (reply.status_code, list(reply.json())) == (413, ["error"])


def test_the_highest_classes_on_request(tmp_path: Path) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": 1}}]
    reply = infer(full(tmp_path), ask(3.0, outputs=wanted))
    assert reply.json()["outputs"][0]["shape"] == [1, 1]


# What the model does not decide


def test_undecided_rows_say_so_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, spec=BOTH)
    world.at(Level.PARTIAL, audit=0.0, blind=0.0, thresholds={"m@1": {"big": 0.9, "small": 0.9}})
    reply = infer(world, ask(9.0, 1.1, outputs=["value", "status", "id", "confidence"]))
    said = outputs(reply)
    assert (reply.status_code, said["value"], said["status"]) == (200, ["big", ""], ["decided", "pending"])
    assert said["confidence"][1] == pytest.approx(0.51)
    assert reply.json()["parameters"] == {"tenure_pending": 1, "tenure_ids": said["id"][1]}
    assert "model_version" not in reply.json()


def test_numbers_that_nobody_decided_are_null_in_json(tmp_path: Path) -> None:
    world = World(tmp_path, spec=msgspec.structs.replace(BOTH, output=Output(kind="number")))
    world.at(Level.HUMAN_ONLY)
    assert outputs(infer(world, ask(9.0)))["value"] == [None]


def test_a_bad_row_fails_alone_and_a_bad_request_as_a_whole(tmp_path: Path) -> None:
    reply = infer(full(tmp_path), ask(3.0, None, outputs=["value", "status", "error"]))  # type: ignore[arg-type]
    said = outputs(reply)
    assert said["value"] == ["big", ""]
    assert said["status"] == ["decided", "failed"]
    assert "must not be null" in said["error"][1]
    parameters = reply.json()["parameters"]
    assert (parameters["tenure_failed"], parameters["tenure_error"][:6]) == (1, "row 1:")


def test_where_every_row_fails_the_reason_is_the_answer(tmp_path: Path) -> None:
    world = full(tmp_path)

    async def work(client: httpx.AsyncClient, world: World) -> Any:
        return await client.post("/v2/models/e/infer", json=ask(None)), world.rows()  # type: ignore[arg-type]

    reply, rows = run(world, work)
    assert (reply.status_code, list(reply.json())) == (422, ["error"])
    assert [row["route"] for row in rows] == ["refused"]


def test_a_canary_and_a_unit_apply_to_every_row(tmp_path: Path) -> None:
    world = World(tmp_path, spec=BOTH)
    world.publish(Endpoint("m@1", Policy(1, Level.FULL, audit=0.0), candidate="m@2", share=0.5, assign="unit"))

    async def work(client: httpx.AsyncClient, _: World) -> list[set[str]]:
        seen = []
        for unit in range(12):
            body = ask(3.0, 3.0, 3.0, outputs=["version"])
            reply = await client.post("/v2/models/e/infer", json=body, headers={"Tenure-Unit": f"u{unit}"})
            versions = set(outputs(reply)["version"])
            assert {reply.json()["model_version"]} == versions
            seen.append(versions)
        return seen

    seen = run(world, work)
    assert set.union(*seen) == {"m@1", "m@2"}
    assert all(len(versions) == 1 for versions in seen)


# Refusals


def test_every_refusal_is_an_error_text_with_a_status(tmp_path: Path) -> None:
    world = full(tmp_path)
    png = {"name": "a", "shape": [1], "datatype": "BYTES", "data": ["x"]}
    calls: list[tuple[int, str, str, Any, dict[str, str]]] = [
        (404, "Request for unknown model: 'x' is not found", "GET", "/v2/models/x", None),
        (404, "Request for unknown model: 'x' is not found", "POST", "/v2/models/x/infer", ask(1.0)),
        (404, "Request for unknown model: 'e' version '7'", "POST", "/v2/models/e/versions/7/infer", ask(1.0)),
        (404, "Request for unknown model", "GET", "/v2/models/e/versions/7/ready", None),
        (404, "Request for unknown model", "GET", "/v2/models/x/stats", None),
        (400, "the JSON", "POST", "/v2/models/e/infer", b"{"),
        (400, "unexpected inference input 'b'", "POST", "/v2/models/e/infer", {"inputs": [png | {"name": "b"}]}),
        (400, "inference input 'a' data-type is 'BYTES'", "POST", "/v2/models/e/infer", {"inputs": [png]}),
        (400, "unexpected inference output 'y'", "POST", "/v2/models/e/infer", ask(1.0, outputs=["y"])),
        (400, "tensor 'a': unexpected number of elements", "POST", "/v2/models/e/infer",
         {"inputs": [{"name": "a", "shape": [3], "datatype": "FP32", "data": [1]}]}),
        (413, "the body is larger", "POST", "/v2/models/e/infer", b"x" * 5000),
        (400, "the body cannot be read", "POST", "/v2/repository/index", b"{"),
        (405, "", "DELETE", "/v2/models/e", None),
        (404, "", "POST", "/v2/repository/models/e/load", b""),
    ]  # fmt: skip

    async def work(client: httpx.AsyncClient, _: World) -> None:
        for status, text, method, path, body in calls:
            content = body if isinstance(body, bytes | None) else json.dumps(body)
            reply = await client.request(method, path, content=content)
            assert (reply.status_code, reply.json()["error"][: len(text)]) == (status, text), reply.text
        for headers in ({HEADER: "-1"}, {HEADER: "x"}, {"Idempotency-Key": "k"}, {"Tenure-Deadline-Ms": "soon"}):
            assert (await client.post("/v2/models/e/infer", json=ask(1.0), headers=headers)).status_code == 400
        encoded = await client.post("/v2/models/e/infer", json=ask(1.0), headers={"Content-Encoding": "br"})
        assert encoded.status_code == 415

    run(world, work)


def test_strangers_learn_nothing_but_health(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, world: World) -> list[int]:
        world.cores[0]._may = guard(lambda _: None, open_loopback=False)
        open_to_all = [await client.get(f"/v2{path}") for path in ("", "/health/live", "/health/ready")]
        asked = [
            await client.get(f"/v2/models{path}") for path in ("", "/e", "/e/ready", "/stats", "/e/stats", "/x")
        ]
        sent = [await client.post(f"/v2/{path}", content=b"") for path in ("models/e/infer", "repository/index")]
        assert all(reply.headers["www-authenticate"] == "Bearer" for reply in asked + sent)
        return [reply.status_code for reply in open_to_all + asked + sent]

    assert run(full(tmp_path), work) == [200] * 3 + [401] * 8


def test_before_the_first_table_it_is_503_with_retry_after(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient, _: World) -> httpx.Response:
        return await client.post("/v2/models/e/infer", json=ask(1.0))

    reply = run(World(tmp_path), work, ready=False)
    assert (reply.status_code, list(reply.json())) == (503, ["error"])
    assert int(reply.headers["retry-after"]) >= 1
