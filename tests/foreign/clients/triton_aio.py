"""tritonclient.http.aio: the same calls as coroutines."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio
from checks import HEADERS, URL, run_async, same
from tritonclient.utils import InferenceServerException

ROWS = np.array([[1.0, 2.0], [0.1, 0.2]] * 60, np.float32)
SAID = [b"big", b"small"] * 60


def rows(*, binary: bool = True) -> list[http.InferInput]:
    made = http.InferInput("input", list(ROWS.shape), "FP32")
    made.set_data_from_numpy(ROWS, binary_data=binary)
    return [made]


async def health_and_metadata(client: Any) -> None:
    same(await client.is_server_live(), True)
    same(await client.is_server_ready(), True)
    same(await client.is_model_ready("simple", headers=dict(HEADERS)), True)
    same((await client.get_server_metadata())["name"], "triton")
    same((await client.get_model_metadata("notes", headers=dict(HEADERS)))["name"], "notes")
    same(len((await client.get_inference_statistics("simple", headers=dict(HEADERS)))["model_stats"]), 1)


async def binary_and_json(client: Any) -> None:
    said = await client.infer("simple", rows(), headers=dict(HEADERS))
    same(said.as_numpy("value").tolist(), SAID)
    wanted = [http.InferRequestedOutput("value", binary_data=False)]
    said = await client.infer("simple", rows(binary=False), outputs=wanted, headers=dict(HEADERS))
    same(said.as_numpy("value").tolist(), [each.decode() for each in SAID])


async def compression(client: Any) -> None:
    for name in ("gzip", "deflate"):
        said = await client.infer(
            "simple", rows(), headers=dict(HEADERS), request_compression_algorithm=name,
            response_compression_algorithm=name,
        )  # fmt: skip
        same(said.as_numpy("value").tolist(), SAID)


async def many_at_once(client: Any) -> None:
    asked = [client.infer("simple", rows(), headers=dict(HEADERS)) for _ in range(20)]
    for said in await asyncio.gather(*asked):
        same(said.as_numpy("value").tolist(), SAID)


async def errors(client: Any) -> None:
    try:
        await client.infer("wrong", rows(), headers=dict(HEADERS))
    except InferenceServerException as error:
        same(error.message().startswith("Request for unknown model"), True)
        return
    raise AssertionError("a model that does not exist answered")


async def main() -> None:
    async with aio.InferenceServerClient(URL) as client:
        await run_async(client, health_and_metadata, binary_and_json, compression, many_at_once, errors)


if __name__ == "__main__":
    asyncio.run(main())
