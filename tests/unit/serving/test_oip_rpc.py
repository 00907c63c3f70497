"""The Open Inference Protocol over gRPC: a real channel to a real core."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from serving_world import NUMBER, World

from tenure.deploy.serving.predict.core import guard
from tenure.scope.project import Serve, Server
from tenure.types import Level

grpc = pytest.importorskip("grpc", reason="the extra `grpc` is not installed")
from tenure.deploy.serving.oip import rpc, rpc_messages  # noqa: E402  # only where gRPC is

MADE = rpc_messages.message_classes()
SPEC = msgspec.structs.replace(NUMBER, serve=Serve(max_body=100_000))
SERVER = Server(name="triton", grpc_port=0)
Call = Callable[..., Awaitable[Any]]


def run(world: World, work: Callable[[Call], Awaitable[Any]], *, ready: bool = True) -> Any:
    async def whole() -> Any:
        core = world.core()
        if ready:
            await world.ready(core)
        door = rpc.RpcDoor(core, page=world.page, slot=world.page.slot(0), clock=world.clock, server=SERVER)
        port = await door.begin()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

            async def call(name: str, /, *, message: Any = None, options: Any = None, **fields: Any) -> Any:
                method = channel.unary_unary(
                    f"/{rpc_messages.SERVICE}/{name}",
                    request_serializer=MADE[f"{name}Request"].SerializeToString,
                    response_deserializer=MADE[f"{name}Response"].FromString,
                )
                return await method(message or MADE[f"{name}Request"](**fields), timeout=60, **(options or {}))

            try:
                return await work(call)
            finally:
                await door.end(0)

    try:
        return asyncio.run(whole())
    finally:
        world.close()


def full(folder: Path) -> World:
    world = World(folder, spec=SPEC)
    world.at(Level.FULL, audit=0.0)
    return world


def typed(*values: float, **more: Any) -> Any:
    request = MADE["ModelInferRequest"](model_name="e", **more)
    tensor = request.inputs.add(name="a", datatype="FP64", shape=[len(values)])
    tensor.contents.fp64_contents.extend(values)
    return request


def raw(array: np.ndarray[Any, Any], **more: Any) -> Any:
    request = MADE["ModelInferRequest"](model_name="e", **more)
    request.inputs.add(name="input", datatype="FP32", shape=array.shape)
    request.raw_input_contents.append(array.astype("<f4").tobytes())
    return request


def test_health_and_metadata(tmp_path: Path) -> None:
    world = full(tmp_path)

    async def work(call: Call) -> None:
        assert (await call("ServerLive")).live
        assert (await call("ServerReady")).ready
        assert (await call("ModelReady", name="e", version="m@1")).ready
        server = await call("ServerMetadata")
        assert (server.name, "binary_tensor_data" in server.extensions) == ("tenure", True)
        told = await call("ModelMetadata", name="e")
        assert (told.versions, told.platform, told.inputs[0].shape) == (["m@1"], "tenure", [-1, 1])
        assert [each.name for each in told.outputs][:3] == ["value", "confidence", "probabilities"]
        world.page.slot(0).state = "draining"
        assert not (await call("ServerReady")).ready
        assert not (await call("ModelReady", name="e")).ready

    run(world, work)


def test_typed_contents_are_answered_typed_and_raw_ones_raw(tmp_path: Path) -> None:
    async def work(call: Call) -> None:
        said = await call("ModelInfer", message=typed(3.0, 0.0, id="7"))
        assert (said.model_name, said.model_version, said.id) == ("e", "m@1", "7")
        assert list(said.outputs[0].contents.bytes_contents) == [b"big", b"small"]
        assert list(said.outputs[1].contents.fp32_contents) == pytest.approx([0.7, 0.6])
        said = await call("ModelInfer", message=raw(np.array([[3.0], [0.0]])))
        assert said.raw_output_contents[0] == b"\x03\0\0\0big\x05\0\0\0small"
        assert np.frombuffer(said.raw_output_contents[1], "<f4").tolist() == pytest.approx([0.7, 0.6])
        assert not said.outputs[0].HasField("contents")

    run(full(tmp_path), work)


def test_outputs_classes_and_pending_rows(tmp_path: Path) -> None:
    world = World(tmp_path, spec=SPEC)
    world.at(Level.HUMAN_ONLY)

    async def work(call: Call) -> None:
        request = typed(3.0, 1.0)
        for name in ("status", "id"):
            request.outputs.add(name=name)
        request.outputs.add(name="probabilities").parameters["classification"].int64_param = 1
        said = await call("ModelInfer", message=request)
        assert list(said.outputs[0].contents.bytes_contents) == [b"pending"] * 2
        assert said.outputs[2].shape == [2, 1]
        assert said.parameters["tenure_pending"].int64_param == 2
        ids = [each.decode() for each in said.outputs[1].contents.bytes_contents]
        assert said.parameters["tenure_ids"].string_param.split(",") == ids

    run(world, work)


def test_what_is_wrong_is_a_status_with_the_same_words(tmp_path: Path) -> None:
    both = raw(np.ones((1, 1)))
    both.inputs[0].contents.fp32_contents.append(1.0)
    narrow = MADE["ModelInferRequest"](model_name="e")
    narrow.inputs.add(name="a", datatype="INT8", shape=[1]).contents.int_contents.append(300)
    shared = typed(1.0)
    shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
    half = MADE["ModelInferRequest"](model_name="e")
    half.inputs.add(name="a", datatype="FP16", shape=[1])
    short = MADE["ModelInferRequest"](model_name="e")
    short.inputs.add(name="a", datatype="FP64", shape=[2]).contents.fp64_contents.append(1.0)
    uneven = raw(np.ones((1, 1)))
    uneven.raw_input_contents.append(b"")
    code = grpc.StatusCode
    wrong = [
        (code.NOT_FOUND, "Request for unknown model: 'x' is not found", {"message": _named("x")}),
        (
            code.NOT_FOUND,
            "Request for unknown model: 'e' version '7'",
            {"message": typed(1.0, model_version="7")},
        ),
        (code.INVALID_ARGUMENT, "unexpected inference input", {"message": _named("e", "b")}),
        (code.INVALID_ARGUMENT, "tensor 'input': it has both", {"message": both}),
        (code.INVALID_ARGUMENT, "tensor 'a': its data are no INT8", {"message": narrow}),
        (code.INVALID_ARGUMENT, "tensor 'a': shared memory", {"message": shared}),
        (code.INVALID_ARGUMENT, "tensor 'a': FP16 has no typed", {"message": half}),
        (code.INVALID_ARGUMENT, "tensor 'a': unexpected number", {"message": short}),
        (code.INVALID_ARGUMENT, "raw_input_contents has 2", {"message": uneven}),
        (code.INVALID_ARGUMENT, "field 'a'", {"message": typed(float("nan"))}),
        (code.RESOURCE_EXHAUSTED, "", {"message": typed(*[1.0] * 40_000)}),
    ]

    async def work(call: Call) -> None:
        for status, text, options in wrong:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call("ModelInfer", **options)
            assert (refused.value.code(), refused.value.details()[: len(text)]) == (status, text)

    run(full(tmp_path), work)


def _named(model: str, name: str = "a") -> Any:
    request = typed(1.0)
    request.model_name, request.inputs[0].name = model, name
    return request


def test_a_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    async def work(call: Call) -> None:
        bomb = raw(np.zeros((4096, 100)))  # 1.6 MB of zeros, a few kB on the wire
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call("ModelInfer", message=bomb, options={"compression": grpc.Compression.Gzip})
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "ecompressed message larger" in refused.value.details()

    run(full(tmp_path), work)


def test_tokens_and_units_come_as_metadata(tmp_path: Path) -> None:
    world = full(tmp_path)

    async def work(call: Call) -> None:
        world.cores[0]._may = guard(lambda token: None, open_loopback=False)
        for name, fields in (("ModelMetadata", {"name": "e"}), ("ModelInfer", {"message": typed(1.0)})):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(name, **fields)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        world.cores[0]._may = lambda token: seen.append(token)  # type: ignore[method-assign, assignment]
        metadata = (("authorization", "Bearer t"), ("tenure-unit", "u"))
        await call("ModelInfer", message=typed(1.0), options={"metadata": metadata})
        assert set(seen) == {"t"}

    seen: list[str] = []
    run(world, work)


def test_before_the_first_table_it_is_unavailable(tmp_path: Path) -> None:
    async def work(call: Call) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call("ModelInfer", message=typed(1.0))
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

    run(World(tmp_path, spec=SPEC), work, ready=False)
