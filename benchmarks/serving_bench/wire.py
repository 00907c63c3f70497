"""How each contender is asked, and how its answers are read: bytes out, bytes in. Pure but for `v2_binary`."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from serving_bench.loads import Cell
from serving_bench.models import FIELDS, PARTS, RISKS, Truth

Found = list[tuple[str, float]]
_JSON = "application/json"
_LINE = "tenure-benchmark-boundary"


class Ask(NamedTuple):
    """One request: path, headers beside Host and Content-Length, body."""

    path: str
    headers: dict[str, str]
    body: bytes

    def raw(self, port: int) -> bytes:
        """Return the bytes of the whole request."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode() + self.body


class Form(NamedTuple):
    """How a contender is asked for input `number`, and what (label, confidence) its answer says per row."""

    ask: Callable[[Truth, Cell, int], Ask]
    read: Callable[[dict[str, str], bytes], Found]


class WrongError(Exception):
    """An answer that is not the right one."""


def check(truth: Truth, cell: Cell, number: int, *, found: Found) -> None:
    """Compare an answer with the model's own.

    Raises:
        WrongError: another label, or a confidence that differs by more than rounding (photos: by more than 0.02,
            for servers that decode at a reduced size).
    """
    labels: tuple[str, ...] = PARTS if cell.kind == "photo" else RISKS
    near = 0.02 if cell.kind == "photo" else 1e-3
    photo = truth.parts[number : number + 1]
    chances = photo if cell.kind == "photo" else truth.batch_chances(cell.rows, number)
    right = [(labels[int(row.argmax())], float(row.max())) for row in chances]
    if len(found) != len(right):
        raise WrongError(f"{len(found)} rows answered, {len(right)} asked")
    for row, ((label, confidence), (want, chance)) in enumerate(zip(found, right, strict=True)):
        if label != want or not abs(confidence - chance) <= near:
            raise WrongError(f"input {number}, row {row}: {label} {confidence:.4f}, right is {want} {chance:.4f}")


def decode_head(head: str) -> dict[str, str]:
    """Return header fields by lower-case name."""
    pairs = (line.partition(":") for line in head.split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def unchunked(head: dict[str, str], body: bytes) -> bytes:
    """Return the body of an answer as it came over the wire, without the marks of chunked coding."""
    if not head.get("transfer-encoding", "").endswith("chunked"):
        return body
    out, at = b"", 0
    while size := int(body[at : (end := body.index(b"\r\n", at))].partition(b";")[0], 16):
        out += body[end + 2 : end + 2 + size]
        at = end + 4 + size
    return out


# Plain forms: a record as JSON, a photo as it is or in a form; {"value", "confidence"} back


def record(path: str, read: Callable[[dict[str, str], bytes], Found] | None = None) -> Form:
    def ask(truth: Truth, cell: Cell, number: int) -> Ask:
        return Ask(path, {"Content-Type": _JSON}, json.dumps(truth.record(number)).encode())

    return Form(ask, read or read_plain)


def photo(path: str, read: Callable[[dict[str, str], bytes], Found] | None = None) -> Form:
    def ask(truth: Truth, cell: Cell, number: int) -> Ask:
        return Ask(path, {"Content-Type": "image/jpeg"}, truth.photos[number])

    return Form(ask, read or read_plain)


def multipart(path: str, read: Callable[[dict[str, str], bytes], Found] | None = None) -> Form:
    def ask(truth: Truth, cell: Cell, number: int) -> Ask:
        head = f'--{_LINE}\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n'
        head += "Content-Type: image/jpeg\r\n\r\n"
        body = head.encode() + truth.photos[number] + f"\r\n--{_LINE}--\r\n".encode()
        return Ask(path, {"Content-Type": f"multipart/form-data; boundary={_LINE}"}, body)

    return Form(ask, read or read_plain)


def read_plain(head: dict[str, str], body: bytes) -> Found:
    said = json.loads(body)
    return [(said["value"], float(said["confidence"]))]


def read_tenure(head: dict[str, str], body: bytes) -> Found:
    said = json.loads(body)["decision"]
    return [(said["value"], float(said["confidence"]))]


# MLflow's own form


def mlflow(path: str) -> Form:
    def ask(truth: Truth, cell: Cell, number: int) -> Ask:
        values = list(truth.record(number).values())
        split = {"dataframe_split": {"columns": list(FIELDS), "data": [values]}}
        return Ask(path, {"Content-Type": _JSON}, json.dumps(split).encode())

    return Form(ask, lambda head, body: _named(np.array(json.loads(body)["predictions"])))


# The Open Inference Protocol


def v2_json(path: str, name: str = "X") -> Form:
    """Return the protocol's JSON form, one FP32 tensor in and probabilities out."""

    def ask(truth: Truth, cell: Cell, number: int) -> Ask:
        rows = truth.batch(cell.rows, number)
        values = [round(float(v), 4) for v in rows.ravel()]
        told = {"name": name, "shape": list(rows.shape), "datatype": "FP32", "data": values}
        return Ask(path, {"Content-Type": _JSON}, json.dumps({"inputs": [told]}).encode())

    return Form(ask, read_v2)


def v2_binary(port: int, model: str) -> Form:
    """Return the protocol's binary form with the names that the server itself tells of: rows of FP32 in.

    Asks for the output of two columns alone, which are the probabilities, as a client that needs no more does.
    """
    path = f"/v2/models/{model}"
    told = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10).read())
    name, output = told["inputs"][0]["name"], _probabilities_of(told)

    def ask(truth: Truth, cell: Cell, number: int) -> Ask:
        rows = np.ascontiguousarray(truth.batch(cell.rows, number), dtype="<f4")
        sent = {"name": name, "shape": list(rows.shape), "datatype": "FP32"}
        sent["parameters"] = {"binary_data_size": rows.nbytes}
        wanted: dict[str, Any] = {"parameters": {"binary_data_output": True}}
        if output is not None:
            wanted = {"outputs": [{"name": output, "parameters": {"binary_data": True}}]}
        head = json.dumps({"inputs": [sent]} | wanted).encode()
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        return Ask(f"{path}/infer", headers, head + rows.tobytes())

    return Form(ask, read_v2)


def _probabilities_of(told: dict[str, Any]) -> str | None:
    named = [o["name"] for o in told.get("outputs", ()) if o["shape"] and int(o["shape"][-1]) == len(RISKS)]
    return named[0] if named else None


def read_v2(head: dict[str, str], body: bytes) -> Found:
    """Read the probabilities from a response in JSON or with binary tensors."""
    size = int(head.get("inference-header-content-length", len(body)))
    at = size
    for output in json.loads(body[:size])["outputs"]:
        binary = (output.get("parameters") or {}).get("binary_data_size")
        data = body[at : at + int(binary)] if binary is not None else b""
        at += int(binary or 0)
        if output["datatype"] in ("FP32", "FP64") and int(output["shape"][-1]) == len(RISKS):
            dtype = "<f4" if output["datatype"] == "FP32" else "<f8"
            values = np.frombuffer(data, dtype) if binary is not None else np.array(output["data"], dtype)
            return _named(values.reshape(-1, len(RISKS)))
    raise WrongError("no output holds probabilities")


def _named(chances: Any) -> Found:
    return [(RISKS[int(row.argmax())], float(row.max())) for row in chances]
