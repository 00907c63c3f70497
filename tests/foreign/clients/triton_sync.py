"""tritonclient.http as its users call it: default calls (binary in and out), JSON, metadata, errors."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import numpy as np
import tritonclient.http as http
from checks import HEADERS, TOKEN, URL, refused, run, same

ROWS = np.array([[1.0, 2.0], [0.1, 0.2], [5.0, 5.0]], np.float32)


def tensor(name: str, array: Any, datatype: str, *, binary: bool = True) -> http.InferInput:
    made = http.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def ask(client: Any, model: str, *inputs: Any, **options: Any) -> Any:
    return client.infer(model, list(inputs), headers=dict(HEADERS), **options)


def texts(*values: str | bytes) -> Any:
    return np.array([v if isinstance(v, bytes) else v.encode() for v in values], object)


def health(client: Any) -> None:
    same(client.is_server_live(query_params={"test": 1}), True)
    same(client.is_server_ready(), True)
    same(client.is_model_ready("simple", headers=dict(HEADERS)), True)
    same(client.is_model_ready("wrong", headers=dict(HEADERS)), False)
    same(client.is_model_ready("simple", model_version="7", headers=dict(HEADERS)), False)


def metadata(client: Any) -> None:
    same(client.get_server_metadata()["name"], "triton")
    told = client.get_model_metadata("simple", headers=dict(HEADERS), query_params={"test_1": 1})
    same([(i["name"], i["datatype"], i["shape"]) for i in told["inputs"]], [("input", "FP64", [-1, 2])])
    (version,) = told["versions"]
    again = client.get_model_metadata("simple", model_version=version, headers=dict(HEADERS))
    same(again, told)
    index = {each["name"]: each["state"] for each in client.get_model_repository_index(headers=dict(HEADERS))}
    same((len(index), index["simple"]), (5, "READY"))


def default_call_is_binary_both_ways(client: Any) -> None:
    result = ask(client, "simple", tensor("input", ROWS, "FP32"))
    same(result.as_numpy("value").tolist(), [b"big", b"small", b"big"])
    np.testing.assert_allclose(result.as_numpy("confidence"), [0.7, 0.57, 0.99], rtol=1e-6)
    same(result.as_numpy("probabilities").shape, (3, 2))
    sizes = [each["parameters"]["binary_data_size"] for each in result.get_response()["outputs"]]
    same(sizes[1:], [12, 24])


def json_call(client: Any) -> None:
    wanted = [http.InferRequestedOutput("value", binary_data=False)]
    result = ask(client, "simple", tensor("input", ROWS, "FP32", binary=False), outputs=wanted, request_id="77")
    same(result.get_response()["outputs"][0]["data"], ["big", "small", "big"])
    same(result.get_response()["id"], "77")


def json_and_binary_mixed_as_nvidia_s_example(client: Any) -> None:
    a, b = ROWS[:, 0].astype(np.float64), ROWS[:, 1].astype(np.float64)
    wanted = [
        http.InferRequestedOutput("confidence", binary_data=True),
        http.InferRequestedOutput("value", binary_data=False),
    ]
    inputs = [tensor("a", a, "FP64", binary=False), tensor("b", b, "FP64")]
    result = ask(client, "simple", *inputs, outputs=wanted, query_params={"test_1": 1})
    same(result.as_numpy("value").tolist(), ["big", "small", "big"])
    same(result.as_numpy("confidence").dtype, np.float32)


def compression_both_ways(client: Any) -> None:
    many = np.tile(ROWS, (100, 1))
    for name in ("gzip", "deflate"):
        result = ask(
            client, "simple", tensor("input", many, "FP32"),
            request_compression_algorithm=name, response_compression_algorithm=name,
        )  # fmt: skip
        same(result.as_numpy("value").tolist(), [b"big", b"small", b"big"] * 100)


def every_type_of_field(client: Any) -> None:
    result = ask(
        client, "price", tensor("amount", np.array([2.0, np.nan]), "FP64"),
        tensor("count", np.array([3, 4]), "INT64"), tensor("urgent", np.array([True, False]), "BOOL"),
        tensor("colour", texts("red", "blue"), "BYTES"),
    )  # fmt: skip
    same(result.as_numpy("value").tolist(), [109.0, 4.0])
    as_json = [http.InferRequestedOutput("value", binary_data=False)]
    narrow = ask(
        client, "price", tensor("amount", np.array([2.0], np.float16), "FP16"),
        tensor("count", np.array([3], np.int8), "INT8", binary=False),
        tensor("urgent", np.array([True]), "BOOL", binary=False),
        tensor("colour", texts("red"), "BYTES", binary=False), outputs=as_json,
    )  # fmt: skip
    same(narrow.as_numpy("value").tolist(), [109.0])


def texts_and_pictures(client: Any) -> None:
    said = ask(client, "notes", tensor("input", texts("größer als", "no"), "BYTES"))
    same(said.as_numpy("value").tolist(), [b"big", b"small"])
    pixels = np.stack([np.full((9, 7, 3), 250, np.uint8), np.zeros((9, 7, 3), np.uint8)])
    same(ask(client, "photos", tensor("input", pixels, "UINT8")).as_numpy("value").tolist(), [b"big", b"small"])
    encoded = [_bmp(each) for each in pixels]
    same(
        ask(client, "photos", tensor("input", texts(*encoded), "BYTES")).as_numpy("value").tolist(),
        [b"big", b"small"],
    )


def highest_classes(client: Any) -> None:
    wanted = [http.InferRequestedOutput("probabilities", class_count=1)]
    result = ask(client, "simple", tensor("input", ROWS[:1], "FP32"), outputs=wanted)
    same(result.as_numpy("probabilities").tolist(), [[b"0.700000:0:big"]])


def people_decide_later(client: Any) -> None:
    wanted = [http.InferRequestedOutput(name) for name in ("value", "status", "id", "confidence")]
    result = ask(client, "people", tensor("input", ROWS, "FP32"), outputs=wanted)
    same(result.as_numpy("value").tolist(), [b""] * 3)
    same(result.as_numpy("status").tolist(), [b"pending"] * 3)
    same(bool(np.isnan(result.as_numpy("confidence")).all()), True)
    parameters = result.get_response()["parameters"]
    same(parameters["tenure_pending"], 3)
    same(parameters["tenure_ids"].split(","), [each.decode() for each in result.as_numpy("id")])


def statistics(client: Any) -> None:
    for _ in range(2):
        told = client.get_inference_statistics(model_name="simple", headers=dict(HEADERS))
        same(len(told["model_stats"]), 1)
    same(len(client.get_inference_statistics(headers=dict(HEADERS))["model_stats"]), 5)


def errors(client: Any) -> None:
    good, column = tensor("input", ROWS, "FP32"), tensor("a", ROWS[:, 0], "FP32")
    nan = tensor("input", np.array([[np.nan, 1.0]], np.float32), "FP32")
    region = http.InferInput("input", [3, 2], "FP32")
    region.set_shared_memory("region", 24)
    wrong = [http.InferRequestedOutput("wrong")]
    unknown = "Request for unknown model"
    refused(lambda: ask(client, "wrong", good), status="404", start=unknown)
    refused(lambda: client.get_model_metadata("wrong", headers=dict(HEADERS)), status="404", start=unknown)
    refused(lambda: ask(client, "simple", good, model_version="7"), status="404", start=unknown)
    refused(lambda: client.infer("simple", [good]), status="401", start="the token")
    refused(lambda: ask(client, "simple", good, outputs=wrong), status="400", start="unexpected inference output")
    for sent, start in (
        (tensor("x", ROWS, "FP32"), "unexpected inference input"),
        (tensor("input", ROWS[0], "FP32"), "unexpected shape"),
        (column, "expected 2 inputs"),
        (region, "tensor 'input': shared memory"),
    ):
        refused(partial(ask, client, "simple", sent), status="400", start=start)
    refused(lambda: ask(client, "simple", nan), status="422", start="field 'a'")


def _bmp(pixels: Any) -> bytes:
    """Write a 24-bit bitmap, bottom row first: this environment has no picture library."""
    height, width, _ = pixels.shape
    rows = [row[:, ::-1].tobytes() + b"\0" * (-width * 3 % 4) for row in pixels[::-1]]
    body, out = b"".join(rows), io.BytesIO()
    out.write(b"BM" + (54 + len(body)).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little"))
    out.write((40).to_bytes(4, "little") + width.to_bytes(4, "little") + height.to_bytes(4, "little"))
    out.write(b"\1\0\x18\0" + bytes(24) + body)
    return out.getvalue()


CHECKS = (
    health, metadata, default_call_is_binary_both_ways, json_call, json_and_binary_mixed_as_nvidia_s_example,
    compression_both_ways, every_type_of_field, texts_and_pictures, highest_classes, people_decide_later,
    statistics, errors,
)  # fmt: skip

if __name__ == "__main__":
    assert TOKEN
    with http.InferenceServerClient(URL) as connected:
        run(connected, *CHECKS)
