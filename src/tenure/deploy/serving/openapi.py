"""The OpenAPI document of the data plane, written from a table of its calls."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec

from tenure.deploy.serving.oip import document as oip
from tenure.deploy.serving.pictures_back import FORMS
from tenure.types import Answer

Schema = dict[str, Any]


class Parameter(msgspec.Struct, frozen=True):
    """What stands in the path, in the query or in a header."""

    name: str
    place: str
    text: str
    type: str = "string"
    required: bool = False


class Call(msgspec.Struct, frozen=True):
    """One call: what it takes, and what each status means. `Answer` bodies are marked by the status' name."""

    method: str
    path: str
    summary: str
    statuses: dict[int, str]
    parameters: tuple[Parameter, ...] = ()
    bodies: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()
    media_type: str = "application/json"
    token: bool = True


ENDPOINT = Parameter("endpoint", "path", "name of the endpoint")
ID = Parameter("id", "path", "id of the request")
WAIT = Parameter(
    "wait", "query", "hold the call so long for a person's decision, in seconds, at most 60", "number"
)
HEADERS = (
    Parameter("Idempotency-Key", "header", "1 to 255 characters; the same key again gets the same answer"),
    Parameter("Tenure-Unit", "header", "what shares a fate (line, patient, user); makes assignment sticky"),
    Parameter("Tenure-Deadline-Ms", "header", "milliseconds in which the model must begin to answer", "number"),
)
INPUTS = ("application/json", "text/plain", "image/*", "audio/*", "multipart/form-data")
DRAWN = Parameter("confidence", "query", "draw only boxes that are at least so sure, 0 to 1", "number")
USUAL = {
    401: "the token is missing, unknown or revoked",
    403: "the token's role may not do this",
    503: "overload, a full log or not ready yet; Retry-After says when to try again",
}
ASKED = {
    200: "decided",
    202: "a person is to decide; Location is where the decision will be",
    400: "a header, the query or the form cannot be read",
    404: "there is no such endpoint",
    406: "the endpoint has no answer in a form that `Accept` allows",
    409: "the first request with this Idempotency-Key is still being answered, or had another body",
    413: "the body is too large",
    415: "the endpoint takes another kind of input",
    422: "the input cannot be read or breaks the endpoint's schema",
    **USUAL,
}
CALLS: tuple[Call, ...] = (
    Call(
        "POST",
        "/v1/{endpoint}/predict",
        "Ask for a decision",
        ASKED,
        parameters=(ENDPOINT, WAIT, DRAWN, *HEADERS),
        bodies=INPUTS,
        answers=(200, 202),
    ),
    Call(
        "POST",
        "/predict",
        "Send a picture in a form, get it back with its boxes drawn",
        ASKED,
        parameters=(
            Parameter("model", "query", "name of the endpoint", required=True),
            WAIT,
            DRAWN,
            *HEADERS,
        ),
        bodies=("multipart/form-data",),
        answers=(200, 202),
    ),
    Call(
        "GET",
        "/v1/decisions/{id}",
        "The state of a request; waits for its decision",
        {200: "decided or pending, as `status` says", 404: "there is no such request", **USUAL},
        parameters=(ID, WAIT),
        answers=(200,),
    ),
    Call(
        "POST",
        "/v1/feedback",
        "Tell what became of a request: its truth, or a reaction",
        {
            202: "it is in the log",
            404: "there is no such request",
            422: "neither `truth` nor `kind` is given",
            **USUAL,
        },
        bodies=("application/json",),
    ),
    Call("GET", "/health/live", "Whether the worker runs", {200: "it runs"}, token=False),
    Call(
        "GET",
        "/health/ready",
        "Whether requests are answered",
        {200: "they are", 503: "not yet"},
        token=False,
    ),
    Call(
        "GET",
        "/metrics",
        "Numbers for Prometheus, of all workers",
        {200: "in the text format"},
        media_type="text/plain",
        token=False,
    ),
    Call("GET", "/openapi.json", "This document", {200: "OpenAPI 3.1"}, token=False),
)


@cache
def document() -> bytes:
    """Return the document as JSON."""
    _, schemas = msgspec.json.schema_components([Answer], ref_template="#/components/schemas/{name}")
    paths: dict[str, Schema] = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    paths |= oip.paths()
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "tenure data plane", "version": version("tenure")},
            "paths": paths,
            "components": {
                "schemas": {**schemas, **oip.schemas(), "Error": ERROR, "Feedback": FEEDBACK},
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(call: Call) -> Schema:
    operation: Schema = {
        "summary": call.summary,
        "operationId": call.method.lower() + "_" + call.path.strip("/").replace("/", "_").replace(".", "_"),
        "parameters": [_parameter(p) for p in call.parameters],
        "responses": {str(status): _response(call, status, text) for status, text in call.statuses.items()},
    }
    operation["operationId"] = operation["operationId"].translate({ord("{"): None, ord("}"): None})
    if call.token:
        operation["security"] = [{"bearer": []}, {}]  # none on an open loopback
    if call.bodies:
        operation["requestBody"] = {
            "required": True,
            "content": {body: _body(call, body) for body in call.bodies},
        }
    return operation


def _parameter(parameter: Parameter) -> Schema:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "description": parameter.text,
        "schema": {"type": parameter.type},
    }


def _response(call: Call, status: int, text: str) -> Schema:
    if status in call.answers:
        pictures: Schema = {form: {} for form in FORMS} if call.method == "POST" else {}
        return {"description": text, "content": {"application/json": {"schema": _ref("Answer")}, **pictures}}
    if status >= 400 and call.token:
        return {"description": text, "content": {"application/json": {"schema": _ref("Error")}}}
    return {"description": text} if status == 202 else {"description": text, "content": {call.media_type: {}}}


def _body(call: Call, media_type: str) -> Schema:
    if call.path == "/v1/feedback":
        return {"schema": _ref("Feedback")}
    if media_type == "multipart/form-data":
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        return {"schema": {"type": "object", "required": ["file"], "properties": {"file": file}}}
    return {"schema": {"type": {"application/json": "object"}.get(media_type, "string")}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


ERROR: Schema = {
    "type": "object",
    "required": ["error", "code", "at"],
    "properties": {
        "error": {"type": "string", "description": "what was wrong, in words"},
        "code": {"type": "string", "description": "stable and machine-readable"},
        "at": {"type": ["string", "null"], "description": "where"},
    },
}
_SCALAR = {"type": ["string", "number", "boolean", "null"]}
FEEDBACK: Schema = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "description": "id of the request"},
        "truth": {**_SCALAR, "description": "what was right"},
        "kind": {"type": "string", "description": "name of another reaction, such as `redo` or `click`"},
        "value": {**_SCALAR, "description": "of that reaction"},
    },
}
