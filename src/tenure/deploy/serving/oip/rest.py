"""The Open Inference Protocol over HTTP: `routes` are mounted beside our own."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenure.clock import Clock
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.http.edge import Edge, Handler, headers_of, number_of, read_body, token_of
from tenure.deploy.serving.http.wire import as_json, error_response
from tenure.deploy.serving.oip.body import HEADER_LENGTH, Sent, compressed, decompressed, read, write
from tenure.deploy.serving.oip.messages import InferRequest
from tenure.deploy.serving.oip.service import Answered, Service
from tenure.deploy.serving.predict.core import Core
from tenure.deploy.serving.predict.desk import Desk
from tenure.errors import CaseError, TenureError

_INDEX_BYTES = 4096
_RAW = InferRequest(inputs=[])
_MODEL = "/v2/models/{model}"


class _IndexFilter(msgspec.Struct, frozen=True):
    """Body of the repository index: `ready` leaves out what cannot answer."""

    ready: bool = False


def routes(core: Core, edge: Edge, *, page: ControlPage, slot: Slot, clock: Clock) -> list[Route]:
    """Return the protocol's routes, with and without a version."""
    doors = _Doors(Service(core, page=page, slot=slot, clock=clock))

    def get(path: str, handler: Handler) -> Route:
        return Route(path, edge.guarded(handler, form=_error), methods=["GET"])

    def post(path: str, handler: Handler) -> Route:
        return Route(path, edge.guarded(handler, form=_error), methods=["POST"])

    fixed = [
        get("/v2", doors.server),
        get("/v2/health/live", doors.live),
        get("/v2/health/ready", doors.ready),
        get("/v2/models", doors.models),
        get("/v2/models/stats", doors.all_statistics),
        post("/v2/repository/index", doors.index),
    ]
    for base in (_MODEL, _MODEL + "/versions/{version}"):
        fixed += [
            get(base, doors.model),
            get(base + "/ready", doors.model_ready),
            get(base + "/stats", doors.statistics),
            post(base + "/infer", doors.infer),
        ]
    return fixed


class _Doors:
    def __init__(self, service: Service) -> None:
        self._service = service

    # Health: no token, as elsewhere

    async def live(self, request: Request) -> Response:
        return as_json({"live": True})

    async def ready(self, request: Request) -> Response:
        ready = self._service.ready()
        return as_json({"ready": ready, "live": True}, 200 if ready else 503)

    async def server(self, request: Request) -> Response:
        return as_json(self._service.server())

    # Models

    async def models(self, request: Request) -> Response:
        return as_json({"models": self._service.names(_token(request))})

    async def model(self, request: Request) -> Response:
        return as_json(self._service.model(self._desk(request)))

    async def model_ready(self, request: Request) -> Response:
        desk = self._desk(request)
        ready = self._service.model_ready(desk)
        return as_json({"name": desk.name, "ready": ready}, 200 if ready else 503)

    async def statistics(self, request: Request) -> Response:
        return as_json({"model_stats": [self._service.statistics(self._desk(request))]})

    async def all_statistics(self, request: Request) -> Response:
        token = _token(request)
        names = self._service.names(token)
        if "stats" in names:  # an endpoint of that name has the path
            return as_json(self._service.model(self._service.desk(token, "stats")))
        return as_json({"model_stats": [self._service.statistics(self._service.desk(token, n)) for n in names]})

    async def index(self, request: Request) -> Response:
        headers = headers_of(request)
        listed = self._service.index(token_of(headers))  # who asks comes before what they sent
        body = await read_body(request, headers, _INDEX_BYTES)
        wanted = _filter(body)
        return as_json([each for each in listed if each["state"] == "READY" or not wanted.ready])

    async def infer(self, request: Request) -> Response:
        headers = headers_of(request)
        desk = self._desk(request)
        if "idempotency-key" in headers:
            raise CaseError(
                "no Idempotency-Key is kept over this protocol; POST /v1/{endpoint}/predict has safe retries",
                at="Idempotency-Key", status=400,
            )  # fmt: skip
        sent = await self._sent(request, headers, desk)
        answered = await self._service.infer(
            desk, sent, token=token_of(headers), unit=headers.get("tenure-unit") or None,
            deadline_s=number_of(headers.get("tenure-deadline-ms"), "Tenure-Deadline-Ms") / 1000.0,
        )  # fmt: skip
        return _response(answered, headers.get("accept-encoding", ""))

    async def _sent(self, request: Request, headers: dict[str, str], desk: Desk) -> Sent:
        limit = desk.spec.serve.max_body
        body = await read_body(request, headers, limit)
        body = decompressed(body, headers.get("content-encoding", ""), limit)
        length = _header_length(headers)
        if length == 0:
            return Sent(_RAW, [self._service.raw(desk, body)])
        return read(body, length)

    def _desk(self, request: Request) -> Desk:
        path = request.path_params
        return self._service.desk(_token(request), path["model"], path.get("version", ""))


def _filter(body: bytes) -> _IndexFilter:
    try:
        return msgspec.json.decode(body or b"{}", type=_IndexFilter)
    except (msgspec.DecodeError, RecursionError) as error:
        text = f"the body cannot be read: {error}"
        raise CaseError(text, code="invalid_body", at="body", status=400) from error


def _token(request: Request) -> str:
    return token_of(headers_of(request))


def _header_length(headers: dict[str, str]) -> int | None:
    text = headers.get(HEADER_LENGTH.lower())
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise CaseError(
            f"{HEADER_LENGTH} is a number of bytes, got {text[:40]!r}",
            code="invalid_number", at=HEADER_LENGTH, status=400,
        )  # fmt: skip
    return int(text)


def _response(answered: Answered, accepted: str) -> Response:
    body, length = write(answered.response, answered.tensors, binary=answered.binary)
    body, encoding = compressed(body, accepted)
    response = Response(body, media_type="application/json" if length is None else "application/octet-stream")
    if length is not None:
        response.headers[HEADER_LENGTH] = str(length)
    if encoding:
        response.headers["content-encoding"] = encoding
    return response


def _error(error: TenureError) -> Response:
    """Return `{"error": text}`, with the status and the headers that our own form has."""
    response = as_json({"error": error.message}, error.status)
    for name, value in error_response(error).headers.items():
        if name not in ("content-length", "content-type"):
            response.headers[name] = value
    return response
