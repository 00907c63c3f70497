"""KServe's InferenceGRPCClient: health, raw and typed inference, errors."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
from checks import HEADERS, URL, run_async, same
from kserve import InferenceGRPCClient, InferInput, InferRequest

ROWS = np.array([[1.0, 2.0], [0.1, 0.2]], np.float32)
OWN = (("authorization", HEADERS["Authorization"]),)


def request(model: str, *, binary: bool) -> InferRequest:
    data = InferInput("input", list(ROWS.shape), "FP32")
    data.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[data])


async def health(client: Any) -> None:
    same(await client.is_server_live(), True)
    same(await client.is_server_ready(), True)
    same(await client.is_model_ready("simple", headers=OWN), True)


async def raw_and_typed(client: Any) -> None:
    for binary in (True, False):
        said = await client.infer(request("simple", binary=binary), headers=OWN)
        same([each.name for each in said.outputs], ["value", "confidence", "probabilities"])
        np.testing.assert_allclose(said.outputs[1].as_numpy(), [0.7, 0.57], rtol=1e-6)
        values = said.outputs[0].as_numpy().tolist()
        same([each if isinstance(each, str) else each.decode() for each in values], ["big", "small"])


async def errors(client: Any) -> None:
    try:
        await client.infer(request("wrong", binary=True), headers=OWN)
    except grpc.RpcError as error:
        same(error.code(), grpc.StatusCode.NOT_FOUND)
        return
    raise AssertionError("a model that does not exist answered")


async def main() -> None:
    async with InferenceGRPCClient(URL) as client:
        await run_async(client, health, raw_and_typed, errors)


if __name__ == "__main__":
    asyncio.run(main())
