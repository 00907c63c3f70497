"""tritonclient.grpc: plain calls, calls with a callback, and coroutines."""

from __future__ import annotations

import asyncio
import queue
from typing import Any

import numpy as np
import tritonclient.grpc as rpc
import tritonclient.grpc.aio as aio
from checks import HEADERS, URL, refused, run, run_async, same

ROWS = np.array([[1.0, 2.0], [0.1, 0.2]], np.float32)
SAID = [b"big", b"small"]
OWN = {"authorization": HEADERS["Authorization"]}  # gRPC wants names in lower case


def tensor(name: str, array: Any, datatype: str) -> rpc.InferInput:
    made = rpc.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def health_and_metadata(client: Any) -> None:
    same((client.is_server_live(), client.is_server_ready()), (True, True))
    same(client.is_model_ready("simple", headers=OWN), True)
    same(client.get_server_metadata().name, "triton")
    told = client.get_model_metadata("price", headers=OWN, as_json=True)
    same([each["name"] for each in told["inputs"]], ["amount", "count", "urgent", "colour"])


def inference(client: Any) -> None:
    said = client.infer("simple", [tensor("input", ROWS, "FP32")], headers=OWN, request_id="7")
    same(said.as_numpy("value").tolist(), SAID)
    np.testing.assert_allclose(said.as_numpy("confidence"), [0.7, 0.57], rtol=1e-6)
    same((said.as_numpy("probabilities").shape, said.get_response().id), ((2, 2), "7"))
    wanted = [rpc.InferRequestedOutput("probabilities", class_count=1)]
    said = client.infer("simple", [tensor("input", ROWS[:1], "FP32")], outputs=wanted, headers=OWN)
    same(said.as_numpy("probabilities").tolist(), [[b"0.700000:0:big"]])


def every_type_of_field(client: Any) -> None:
    inputs = [
        tensor("amount", np.array([2.0, np.nan]), "FP64"), tensor("count", np.array([3, 4], np.int8), "INT8"),
        tensor("urgent", np.array([True, False]), "BOOL"),
        tensor("colour", np.array([b"red", b"blue"], object), "BYTES"),
    ]  # fmt: skip
    same(client.infer("price", inputs, headers=OWN).as_numpy("value").tolist(), [109.0, 4.0])


def compression(client: Any) -> None:
    for name in ("gzip", "deflate"):
        said = client.infer(
            "simple", [tensor("input", np.tile(ROWS, (300, 1)), "FP32")], headers=OWN, compression_algorithm=name
        )
        same(said.as_numpy("value").tolist(), SAID * 300)


def people_decide_later(client: Any) -> None:
    wanted = [rpc.InferRequestedOutput(name) for name in ("value", "status")]
    said = client.infer("people", [tensor("input", ROWS, "FP32")], outputs=wanted, headers=OWN)
    same(said.as_numpy("status").tolist(), [b"pending"] * 2)
    same(said.get_response().parameters["tenure_pending"].int64_param, 2)


def callbacks(client: Any) -> None:
    done: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for _ in range(50):
        client.async_infer(
            "simple",
            [tensor("input", ROWS, "FP32")],
            lambda result, error: done.put((result, error)),
            headers=OWN,
        )
    for _ in range(50):
        result, error = done.get(timeout=20)
        same(error, None)
        same(result.as_numpy("value").tolist(), SAID)


def errors(client: Any) -> None:
    good = [tensor("input", ROWS, "FP32")]
    unknown = "Request for unknown model"
    refused(lambda: client.infer("wrong", good, headers=OWN), status="StatusCode.NOT_FOUND", start=unknown)
    refused(lambda: client.get_model_metadata("wrong", headers=OWN), status="StatusCode.NOT_FOUND", start=unknown)
    refused(lambda: client.infer("simple", good), status="StatusCode.UNAUTHENTICATED", start="the token")
    bad = [tensor("x", ROWS, "FP32")]
    refused(
        lambda: client.infer("simple", bad, headers=OWN),
        status="StatusCode.INVALID_ARGUMENT", start="unexpected inference input",
    )  # fmt: skip


async def coroutines(client: Any) -> None:
    same(await client.is_server_ready(), True)
    asked = [client.infer("simple", [tensor("input", ROWS, "FP32")], headers=OWN) for _ in range(20)]
    for said in await asyncio.gather(*asked):
        same(said.as_numpy("value").tolist(), SAID)


async def main() -> None:
    async with aio.InferenceServerClient(URL) as client:
        await run_async(client, coroutines)


if __name__ == "__main__":
    with rpc.InferenceServerClient(URL) as connected:
        run(
            connected, health_and_metadata, inference, every_type_of_field, compression, people_decide_later,
            callbacks, errors,
        )  # fmt: skip
    asyncio.run(main())
