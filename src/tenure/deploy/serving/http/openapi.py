"""The OpenAPI document of the data plane, written from a table of its calls and the endpoints of the project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from tenure.data.decode import ACCEPTED
from tenure.deploy.serving.http.many_in import ARROW, LINES, MAX_ROWS
from tenure.deploy.serving.http.openapi_schemas import ERROR, FEEDBACK, READY, ROW_ERROR, record_schema
from tenure.deploy.serving.http.pictures_back import FORMS
from tenure.deploy.serving.oip import document as oip
from tenure.deploy.serving.predict.desk import Desk
from tenure.types import Answer

Schema = dict[str, Any]
Content = Mapping[str, Schema]
JSON, FORM, BYTES = "application/json", "multipart/form-data", "application/octet-stream"
PREDICT = "/v1/{endpoint}/predict"


class Parameter(msgspec.Struct, frozen=True):
    """What stands in the path, in the query or in a header."""

    name: str
    place: str
    text: str
    schema: Schema = msgspec.field(default_factory=lambda: {"type": "string"})
    required: bool = False


class Reply(msgspec.Struct, frozen=True):
    """What one status means, what comes with it, and in which headers."""

    text: str
    content: Content = {}
    headers: tuple[str, ...] = ()


class Call(msgspec.Struct, frozen=True):
    """One call: what it takes, and what each status means; `ask` is the name of what it does."""

    method: str
    path: str
    name: str
    summary: str
    statuses: Mapping[int, Reply]
    parameters: tuple[Parameter, ...] = ()
    bodies: Content = {}
    token: bool = True


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _one_of(names: Iterable[str]) -> Schema:
    listed = list(names)
    return {"type": "string", "enum": listed} if listed else {"type": "string"}


def _json(name: str) -> Content:
    return {JSON: _ref(name)}


def _error(text: str, *headers: str) -> Reply:
    return Reply(text, _json("Error"), headers)


SECONDS: Schema = {"type": "number", "minimum": 0, "maximum": 1e9}
ENDPOINT = Parameter("endpoint", "path", "name of the endpoint", required=True)
ID = Parameter("id", "path", "id of the request", required=True)
WAIT = Parameter(
    "wait", "query", "hold the call so long for a person's decision, in seconds, at most 60", SECONDS
)
DRAWN = Parameter(
    "confidence", "query", "draw only boxes that are at least so sure",
    {"type": "number", "minimum": 0, "maximum": 1},
)  # fmt: skip
KEY = Parameter(
    "Idempotency-Key", "header", "the same key and body again get the same answer; for a single input",
    {"type": "string", "minLength": 1, "maxLength": 255},
)  # fmt: skip
UNIT = Parameter("Tenure-Unit", "header", "what shares a fate (line, patient, user); makes assignment sticky")
UNIT_FIELD = Parameter("Tenure-Unit-Field", "header", "with many records: the field that holds each one's unit")
DEADLINE = Parameter(
    "Tenure-Deadline-Ms", "header", "milliseconds in which the model must begin to answer", SECONDS
)

BAD: Mapping[int, Reply] = {400: _error("a header, the query or the body cannot be read as HTTP, form or JSON")}
OPEN: Mapping[int, Reply] = {405: _error("the path takes another method", "Allow")}
CALLER: Mapping[int, Reply] = {
    401: _error("the token is missing, unknown or revoked", "WWW-Authenticate"),
    403: _error("the token's role may not do this"),
    500: _error("a fault of the server; `at` is its number in the server's log"),
    503: _error("overload, a full log or not ready yet", "Retry-After"),
    **OPEN,
}
ASKED: Mapping[int, Reply] = {
    **BAD,
    **CALLER,
    404: _error("there is no such endpoint"),
    406: _error("the endpoint has no answer in a form that `Accept` allows"),
    409: _error("the first request with this Idempotency-Key is still being answered, or had another body"),
    413: _error(f"the body is larger than `serve.max_body`, or has more than {MAX_ROWS} rows"),
    415: _error("the endpoint takes another kind of input"),
    422: _error("the input cannot be read or breaks the endpoint's schema"),
    504: _error("the model did not answer in time, and the project wants that refused"),
}
IMAGES: Content = {name: {} for name in (*ACCEPTED["image"].split(", "), BYTES)}
SOUNDS: Content = {name: {} for name in (*ACCEPTED["audio"].split(", "), BYTES)}
UPLOAD: Content = {
    FORM: {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "contentMediaType": BYTES}},
    }
}
ROWS: Content = {**{name: {"type": "string"} for name in LINES}, ARROW: {}}
LIST: Schema = {
    "type": "array", "maxItems": MAX_ROWS, "items": {"description": "one input; each is checked for itself"},
}  # fmt: skip
ANSWERS: Schema = {"type": "array", "items": {"anyOf": [_ref("Answer"), _ref("RowError")]}}


def _predict(path: str, name: str, kind: str, *, pictures: bool, record: Schema) -> Call:
    """Return the call that asks one endpoint; kind "" stands for any."""
    takes: dict[str, Schema] = {}
    single, many = {JSON: _ref("Answer")}, kind in ("", "record", "text")
    if kind in ("", "record"):
        takes[JSON] = {"anyOf": [record, LIST]}
    if kind in ("", "text"):
        takes |= {"text/plain": {"type": "string"}, **({} if JSON in takes else {JSON: LIST})}
    takes |= {**(IMAGES if kind in ("", "image") else {}), **(SOUNDS if kind in ("", "audio") else {})}
    takes |= UPLOAD if kind in ("", "image", "audio") else {}
    takes |= ROWS if many else {}
    drawn: Content = {form: {} for form in FORMS} if pictures else {}
    decided = {JSON: {"anyOf": [_ref("Answer"), ANSWERS]}, **ROWS} if many else single
    waits = {JSON: _ref("Answer"), **drawn}
    optional = (*((DRAWN,) if pictures else ()), *((UNIT_FIELD,) if kind in ("", "record") else ()))
    return Call(
        "POST", path, name, "Ask for a decision",
        {200: Reply("decided; many rows are each answered for itself", {**decided, **drawn}),
         202: Reply("a person is to decide; Location is where the decision will be", waits, ("Location",)),
         **ASKED},
        parameters=(WAIT, *optional, KEY, UNIT, DEADLINE),
        bodies=takes,
    )  # fmt: skip


def _detect(names: Iterable[str]) -> Call:
    drawn: Content = {**{form: {} for form in FORMS}, JSON: _ref("Answer")}
    model = Parameter("model", "query", "name of the endpoint", _one_of(names), required=True)
    return Call(
        "POST", "/predict", "detect", "Send a picture in a form, get it back with its boxes drawn",
        {200: Reply("decided", drawn, ("Tenure-Id", "Tenure-Status")),
         202: Reply("a person is to decide; Location is where the decision will be", drawn, ("Location",)),
         **ASKED},
        parameters=(model, WAIT, DRAWN, KEY, UNIT, DEADLINE),
        bodies={**UPLOAD, **IMAGES},
    )  # fmt: skip


ANY = msgspec.structs.replace(
    _predict(PREDICT, "predict", "", pictures=True, record={"type": "object"}),
    parameters=(ENDPOINT, WAIT, DRAWN, KEY, UNIT, UNIT_FIELD, DEADLINE),
)
REST: tuple[Call, ...] = (
    Call(
        "GET", "/v1/decisions/{id}", "decision", "The state of a request; waits for its decision",
        {200: Reply("decided or pending, as `status` says", _json("Answer")), **BAD, **CALLER,
         404: _error("there is no such request"), 422: _error("the request was refused, as the text says")},
        parameters=(ID, WAIT),
    ),
    Call(
        "POST", "/v1/feedback", "feedback", "Tell what became of a request: its truth, or a reaction",
        {202: Reply("it is in the log"), **BAD, **CALLER, 404: _error("there is no such request"),
         413: _error("the body is too large"), 422: _error("neither `truth` nor `kind` is given")},
        bodies=_json("Feedback"),
    ),
    Call("GET", "/health/live", "live", "Whether the worker runs",
         {200: Reply("it runs", {JSON: {"const": {"status": "alive"}}}), **OPEN}, token=False),
    Call("GET", "/health/ready", "ready", "Whether requests are answered",
         {200: Reply("they are", {JSON: READY}), 503: Reply("not yet", {JSON: READY}), **OPEN}, token=False),
    Call("GET", "/metrics", "metrics", "Numbers for Prometheus, of all workers",
         {200: Reply("in the text format", {"text/plain": {"type": "string"}}), **OPEN}, token=False),
    Call("GET", "/openapi.json", "openapi", "This document",
         {200: Reply("OpenAPI 3.1", {JSON: {"type": "object"}}), **OPEN}, token=False),
)  # fmt: skip
CALLS: tuple[Call, ...] = (ANY, _detect(()), *REST)
"""All calls, for endpoints of any name."""


def document(desks: Mapping[str, Desk] | None = None) -> bytes:
    """Return the document as JSON; with `desks`, each endpoint is a path of its own with what it takes."""
    _, answer = msgspec.json.schema_components([Answer], ref_template="#/components/schemas/{name}")
    paths: dict[str, Schema] = {}
    for call in CALLS if desks is None else _calls(desks):
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    own = {"Error": ERROR, "RowError": ROW_ERROR, "Feedback": FEEDBACK}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "tenure data plane", "version": version("tenure")},
            "paths": paths | oip.paths(),
            "components": {
                "schemas": {**answer, **oip.schemas(), **own},
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _calls(desks: Mapping[str, Desk]) -> list[Call]:
    asks = [
        _predict(
            f"/v1/{name}/predict", f"predict_{name}", desk.spec.input,
            pictures=desk.spec.input == "image" and desk.output.regions is not None,
            record=record_schema(desk.spec.fields),
        )
        for name, desk in desks.items()
    ]  # fmt: skip
    seeing = [name for name, desk in desks.items() if desk.spec.input == "image"]
    return [*asks, *([_detect(seeing)] if seeing else []), *REST]


def _operation(call: Call) -> Schema:
    operation: Schema = {
        "summary": call.summary,
        "operationId": call.name,
        "parameters": [_parameter(p) for p in call.parameters],
        "responses": {str(status): _response(reply) for status, reply in sorted(call.statuses.items())},
    }
    if call.token:
        operation["security"] = [{"bearer": []}, {}]  # none on an open loopback
    if call.bodies:
        operation["requestBody"] = {"required": True, "content": _content(call.bodies)}
    return operation


def _parameter(parameter: Parameter) -> Schema:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.text,
        "schema": parameter.schema,
    }


def _response(reply: Reply) -> Schema:
    out: Schema = {"description": reply.text}
    if reply.content:
        out["content"] = _content(reply.content)
    if reply.headers:
        out["headers"] = {name: {"schema": {"type": "string"}} for name in reply.headers}
    return out


def _content(content: Content) -> Schema:
    return {media_type: {"schema": schema} if schema else {} for media_type, schema in content.items()}
