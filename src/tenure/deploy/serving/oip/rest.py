"""The Open Inference Protocol over HTTP: `routes` are mounted beside our own."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenure.deploy.serving.http.edge import Edge, Handler, headers_of, read_body, token_of
from tenure.deploy.serving.http.wire import as_json, error_response
from tenure.deploy.serving.oip import exchange
from tenure.deploy.serving.oip.service import Service
from tenure.deploy.serving.predict.desk import Desk
from tenure.errors import CaseError, TenureError

_INDEX_BYTES = 4096
_MODEL = "/v2/models/{model}"


class _IndexFilter(msgspec.Struct, frozen=True):
    """Body of the repository index: `ready` leaves out what cannot answer."""

    ready: bool = False


def routes(service: Service, edge: Edge) -> list[Route]:
    """Return the protocol's routes, with and without a version."""
    doors = _Doors(service)

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
        body = await read_body(request, headers, desk.spec.serve.max_body)
        reply = await exchange.infer(self._service, desk, headers, body)
        return Response(reply.body, headers=reply.headers)

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


def _error(error: TenureError) -> Response:
    """Return `{"error": text}`, with the status and the headers that our own form has."""
    response = Response(exchange.error_body(error), error.status, media_type="application/json")
    for name, value in error_response(error).headers.items():
        if name not in ("content-length", "content-type"):
            response.headers[name] = value
    return response
