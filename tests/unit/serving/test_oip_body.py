"""Bodies of the Open Inference Protocol: header and binary tensors, compression with a bound."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.deploy.serving.oip.body import WORTH_COMPRESSING, compressed, decompressed, read, write
from tenure.deploy.serving.oip.messages import InferResponse
from tenure.deploy.serving.oip.tensors import Tensor, of_bytes
from tenure.errors import CaseError

ARRAY = np.arange(6, dtype="<f4").reshape(2, 3)


def request(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def binary(name: str, array: np.ndarray[Any, Any], datatype: str = "FP32") -> dict[str, Any]:
    size = {"binary_data_size": array.nbytes}
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": size}


def test_binary_and_json_tensors_stand_in_one_request() -> None:
    text = {"name": "b", "shape": [2], "datatype": "INT64", "data": [7, 8], "unknown": {"is": "ignored"}}
    header = request(binary("a", ARRAY), text, binary("c", ARRAY), id="42", parameters={"own": 1.5})
    sent = read(header + ARRAY.tobytes() + (ARRAY + 1).tobytes(), len(header))
    assert sent.request.id == "42"
    assert [t.data.tolist() for t in sent.tensors] == [ARRAY.tolist(), [7, 8], (ARRAY + 1).tolist()]


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"{}", None),
        (b'{"inputs": [{"name": "a"}]}', None),
        (request({"name": "a", "shape": [1], "datatype": "FP32"}), None),
        (request({"name": "a", "shape": [1.5], "datatype": "FP32", "data": [1]}), None),
        (request(binary("a", ARRAY)), None),
        (request(binary("a", ARRAY)), 9999),
        (request() + b"rest", len(request())),
        (request({**binary("a", ARRAY), "parameters": {"binary_data_size": -1}}), None),
        (request({**binary("a", ARRAY), "parameters": {"shared_memory_region": "r"}}), None),
        (b'{"inputs": ' + b"[" * 50_000, None),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_400(body: bytes, length: int | None) -> None:
    with pytest.raises(CaseError) as refused:
        read(body, length)
    assert refused.value.status == 400


@given(st.binary(max_size=80), st.one_of(st.none(), st.integers(0, 100)))
def test_no_body_raises_anything_but_a_refusal(body: bytes, length: int | None) -> None:
    assert refused_with(body, length) in (None, 400)


def refused_with(body: bytes, length: int | None) -> int | None:
    try:
        read(body, length)
    except CaseError as error:
        return error.status
    return None


def test_an_answer_keeps_json_and_binary_apart() -> None:
    tensors = [Tensor("p", "FP32", ARRAY), of_bytes("v", [b"good", "größer".encode()])]
    body, length = write(InferResponse("m", [], "m@1", "7"), tensors, binary=[True, False])
    assert length is not None
    head = json.loads(body[:length])
    assert (head["model_name"], head["model_version"], head["id"]) == ("m", "m@1", "7")
    assert head["outputs"][0]["parameters"] == {"binary_data_size": ARRAY.nbytes}
    assert "data" not in head["outputs"][0]
    assert head["outputs"][1]["data"] == ["good", "größer"]
    assert body[length:] == ARRAY.tobytes()
    whole, none = write(InferResponse("m", []), tensors, binary=[False, False])
    assert none is None
    assert json.loads(whole)["outputs"][0]["data"] == ARRAY.ravel().tolist()


def test_gzip_and_deflate_are_read_both_ways() -> None:
    data = b"x" * 5000
    assert decompressed(gzip.compress(data), "gzip", 5000) == data
    assert decompressed(zlib.compress(data), "Deflate", 5000) == data
    assert decompressed(data, "", 5000) == decompressed(data, "identity", 5000) == data
    for name, unpack in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        body, encoding = compressed(data, name)
        assert (encoding, unpack(body)) == (name, data)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("", ""), ("br", ""), ("gzip, deflate, br", "gzip"), ("gzip;q=0", ""), ("identity", ""),
        ("gzip;q=0.1, deflate;q=0.9", "deflate"), ("gzip;q=x", ""), ("GZIP", "gzip"),
    ],
)  # fmt: skip
def test_only_what_the_client_accepts_is_used(accepted: str, encoding: str) -> None:
    assert compressed(b"x" * WORTH_COMPRESSING, accepted)[1] == encoding
    assert compressed(b"x", accepted)[1] == ""


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    with pytest.raises(CaseError) as refused:
        decompressed(gzip.compress(bytes(50_000_000)), "gzip", 10_000)
    assert (refused.value.status, refused.value.code) == (413, "too_large")


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"no gzip", "gzip", 400),
        (gzip.compress(b"x", mtime=0)[:-4], "gzip", 400),
        (gzip.compress(b"x", mtime=0) + b"more", "gzip", 400),
        (b"x", "br", 415),
        (b"x", "gzip, gzip", 415),
    ],
)
def test_broken_or_other_encodings_are_refused(body: bytes, encoding: str, status: int) -> None:
    with pytest.raises(CaseError) as refused:
        decompressed(body, encoding, 1000)
    assert refused.value.status == status
