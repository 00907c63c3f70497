"""The protocol's part of the OpenAPI document, from a table of its calls and the types of its messages."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from tenure.deploy.serving.oip.body import HEADER_LENGTH
from tenure.deploy.serving.oip.messages import InferRequest, InferResponse, ModelMetadata, ServerMetadata

Schema = dict[str, Any]


class Live(msgspec.Struct, frozen=True):
    """The server runs."""

    live: bool


class Ready(msgspec.Struct, frozen=True):
    """Whether requests are answered."""

    ready: bool
    live: bool


class ModelReady(msgspec.Struct, frozen=True):
    """Whether a model answers."""

    name: str
    ready: bool


class Models(msgspec.Struct, frozen=True):
    """The names of the models."""

    models: list[str]


class Count(msgspec.Struct, frozen=True):
    """Requests, and the time that they took together."""

    count: int
    ns: int


class InferenceStatistics(msgspec.Struct, frozen=True):
    """Requests that were answered, and those that were not."""

    success: Count
    fail: Count


class ModelStatistics(msgspec.Struct, frozen=True):
    """What one worker answered of one model: `last_inference` in milliseconds, `inference_count` in rows."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    inference_stats: InferenceStatistics


class Statistics(msgspec.Struct, frozen=True):
    """Statistics of one model or of all."""

    model_stats: list[ModelStatistics]


class IndexEntry(msgspec.Struct, frozen=True):
    """One model of the index."""

    name: str
    version: str
    state: str
    reason: str


class OipError(msgspec.Struct, frozen=True):
    """What was wrong."""

    error: str


class _Call(NamedTuple):
    method: str
    path: str
    summary: str
    answer: str  # name of the schema of a 200
    statuses: dict[int, str]
    token: bool = True
    parameters: tuple[str, ...] = ()


_NOT_READY = {503: "not ready"}
_ACCESS = {401: "the token is missing, unknown or revoked", 403: "the token's role may not do this"}
_UNKNOWN = {404: "no such model, or the version is not the one in force", 503: "starting; see Retry-After"}
_INFER = {
    400: "the request does not fit the protocol or the model",
    413: "the body, packed or unpacked, is too large, or it has too many rows",
    415: "another Content-Encoding than gzip and deflate",
    422: "every row breaks the endpoint's schema",
    503: "overload, a full log or not ready yet; see Retry-After",
    504: "every row was too late, where the project wants that said",
}
_HEADERS = {
    HEADER_LENGTH: ("bytes of the JSON before binary tensors; 0 = the body is the one input", "integer"),
    "Tenure-Unit": ("what shares a fate, for all rows", "string"),
    "Tenure-Deadline-Ms": ("milliseconds in which the model must begin to answer", "number"),
}
_OF_MODEL: tuple[tuple[str, str, str, str, dict[int, str]], ...] = (
    ("get", "", "The tensors of a model", "ModelMetadata", {}),
    ("get", "/ready", "Whether a model answers", "ModelReady", {}),
    ("get", "/stats", "What this worker answered of a model", "Statistics", {}),
    ("post", "/infer", "Ask for a decision on each row", "InferResponse", _INFER),
)


def _calls() -> list[_Call]:
    out = [
        _Call("get", "/v2", "Name and extensions of the server", "ServerMetadata", {}, token=False),
        _Call("get", "/v2/health/live", "Whether the worker runs", "Live", {}, token=False),
        _Call("get", "/v2/health/ready", "Whether requests are answered", "Ready", _NOT_READY, token=False),
        _Call("get", "/v2/models", "The names of the models", "Models", _ACCESS),
        _Call("get", "/v2/models/stats", "What this worker answered", "Statistics", _ACCESS),
        _Call("post", "/v2/repository/index", "State of the models", "Index", {400: "no such filter", **_ACCESS}),
    ]
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        for method, path, summary, answer, statuses in _OF_MODEL:
            headers = tuple(_HEADERS) if method == "post" else ()
            all_statuses = {**_ACCESS, **_UNKNOWN, **statuses}
            out.append(_Call(method, base + path, summary, answer, all_statuses, parameters=headers))
    return out


def paths() -> dict[str, Schema]:
    """Return the paths of the document: path -> method -> operation."""
    out: dict[str, Schema] = {}
    for call in _calls():
        out.setdefault(call.path, {})[call.method] = _operation(call)
    return out


def schemas() -> dict[str, Schema]:
    """Return the schemas that `paths` names."""
    types = [
        ServerMetadata, ModelMetadata, InferRequest, InferResponse, Live, Ready, ModelReady, Models, Statistics,
        IndexEntry, OipError,
    ]  # fmt: skip
    _, made = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    filter_ = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    return {**made, "Index": {"type": "array", "items": _ref("IndexEntry")}, "IndexFilter": filter_}


def _operation(call: _Call) -> Schema:
    place = call.path.replace("{", "").replace("}", "").strip("/").replace("/", "_")
    operation: Schema = {
        "summary": call.summary,
        "operationId": f"{call.method}_{place}",
        "parameters": [
            _parameter(name, "path", "", "string")
            for name in ("model", "version")
            if "{" + name + "}" in call.path
        ]
        + [_parameter(name, "header", *_HEADERS[name]) for name in call.parameters],
        "responses": {
            "200": {"description": "the answer", "content": _content(call.answer)},
            **{str(s): {"description": text, "content": _json("OipError")} for s, text in call.statuses.items()},
        },
    }
    if call.answer in ("Ready", "ModelReady"):
        form = {"oneOf": [_ref(call.answer), _ref("OipError")]} if call.token else _ref(call.answer)
        operation["responses"]["503"]["content"] = {"application/json": {"schema": form}}
    if call.token:
        operation["security"] = [{"bearer": []}, {}]
    if call.method == "post":
        name = "InferRequest" if call.answer == "InferResponse" else "IndexFilter"
        operation["requestBody"] = {"required": name == "InferRequest", "content": _content(name)}
    return operation


def _parameter(name: str, place: str, text: str, kind: str) -> Schema:
    words = {"model": "name of the endpoint", "version": "the version in force"}
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": text or words[name],
        "schema": {"type": kind},
    }


def _content(name: str) -> Schema:
    binary = {"application/octet-stream": {"schema": {"type": "string"}}} if name.startswith("Infer") else {}
    return {**_json(name), **binary}


def _json(name: str) -> Schema:
    return {"application/json": {"schema": _ref(name)}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
