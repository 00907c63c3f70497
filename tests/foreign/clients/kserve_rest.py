"""KServe's InferenceRESTClient: health, JSON and binary inference, errors."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
from checks import HEADERS, URL, run_async, same
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.protocol.rest.v2_datamodels import InferenceResponse, ModelMetadataResponse, ServerMetadataResponse

BASE = f"http://{URL}"
ROWS = np.array([[1.0, 2.0], [0.1, 0.2]], np.float32)


def request(*inputs: Any, **options: Any) -> InferRequest:
    return InferRequest(model_name="simple", infer_inputs=list(inputs), **options)


def rows(*, binary: bool) -> InferInput:
    made = InferInput("input", list(ROWS.shape), "FP32")
    made.set_data_from_numpy(ROWS, binary_data=binary)
    return made


async def health(client: Any) -> None:
    same(await client.is_server_live(BASE), True)
    same(await client.is_server_ready(BASE), True)
    same(await client.is_model_ready(BASE, "simple", headers=HEADERS), True)
    same(await client.is_model_ready(BASE, "wrong", headers=HEADERS), False)


async def json_and_binary(client: Any) -> None:
    for binary in (False, True):
        said = await client.infer(BASE, request(rows(binary=binary)), model_name="simple", headers=dict(HEADERS))
        same(said.model_name, "simple")
        same([output.name for output in said.outputs], ["value", "confidence", "probabilities"])
        same(said.outputs[0].as_numpy().tolist(), ["big", "small"])
        np.testing.assert_allclose(said.outputs[1].as_numpy(), [0.7, 0.57], rtol=1e-6)


async def binary_outputs(client: Any) -> None:
    wanted = [
        RequestedOutput("confidence", {"binary_data": True}),
        RequestedOutput("value", {"binary_data": True}),
    ]
    asked = request(rows(binary=True), request_id="7", request_outputs=wanted)
    said = await client.infer(BASE, asked, model_name="simple", headers=dict(HEADERS))
    same(said.id, "7")
    np.testing.assert_allclose(said.outputs[0].as_numpy(), [0.7, 0.57], rtol=1e-6)
    same(
        [each if isinstance(each, str) else each.decode() for each in said.outputs[1].as_numpy()],
        ["big", "small"],
    )


async def people_decide_later(client: Any) -> None:
    said = await client.infer(BASE, request(rows(binary=False)), model_name="people", headers=dict(HEADERS))
    same(said.parameters["tenure_pending"], 2)
    same(bool(np.isnan(said.outputs[1].as_numpy()).all()), True)


async def errors(client: Any) -> None:
    try:
        await client.infer(BASE, request(rows(binary=False)), model_name="wrong", headers=dict(HEADERS))
    except httpx.HTTPStatusError as error:
        same(str(error).startswith("Request for unknown model"), True)
        return
    raise AssertionError("a model that does not exist answered")


async def answers_fit_kserve_s_own_types(_: Any) -> None:
    async with httpx.AsyncClient(base_url=BASE, headers=HEADERS) as plain:
        ServerMetadataResponse.model_validate((await plain.get("/v2")).json())
        ModelMetadataResponse.model_validate((await plain.get("/v2/models/price")).json())
        body = {"id": "1", "inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}
        for model in ("simple", "people"):
            reply = await plain.post(f"/v2/models/{model}/infer", json=body)
            InferenceResponse.model_validate(reply.json())


async def main() -> None:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        await run_async(
            client, health, json_and_binary, binary_outputs, people_decide_later, errors,
            answers_fit_kserve_s_own_types,
        )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
