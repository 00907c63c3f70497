"""The management API and the page as one Starlette app.

Handlers are plain functions over `Services`; they run in a thread, through one door (`_run`). Errors always are
`{"error", "code", "at"}`.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as HttpRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenure.console import guard as guards
from tenure.console import page
from tenure.console.openapi import document
from tenure.console.route import Ask, Person, Route
from tenure.console.routes import ROUTES
from tenure.console.services import Services
from tenure.console.stream import Stream
from tenure.deploy.serving.http import wire
from tenure.errors import CaseError, TenureError

SLOW_AT_ONCE = 4
_log = logging.getLogger("tenure.console")


def management_app(services: Services, *, open_loopback: bool = False) -> Starlette:
    """Return the app: `/api/…`, `/health`, `/metrics` and the page.

    Args:
        services: what it shows and commands.
        open_loopback: without a token, act as the operator named "local". Only for a server on loopback.

    `app.state.stream` is the event stream: whoever stops the server ends it first, for it never ends by itself.
    """
    guard = guards.Guard(services, open_loopback=open_loopback)
    stream = Stream(services.state, services.project.endpoints)
    slow = CapacityLimiter(SLOW_AT_ONCE)
    routes = [HttpRoute(r.path, _endpoint(services, guard, stream, r, slow), methods=[r.method]) for r in ROUTES]
    app = Starlette(
        routes=[*routes, *_pages()],
        exception_handlers={HTTPException: _on_http_error},  # type: ignore[dict-item]
    )
    app.state.stream = stream
    app.add_middleware(SecurityHeaders)
    return app


def _endpoint(
    services: Services, guard: guards.Guard, stream: Stream, route: Route, slow: CapacityLimiter
) -> Any:  # fmt: skip
    async def answer(request: Request) -> Response:
        try:
            who = await _run(guard.check, request, route)
            ask = await _ask(request, route, who)
            if route.path == "/api/stream":
                events = stream.events(request.headers.get("last-event-id") or ask.query.get("last", ""))
                return StreamingResponse(
                    events, media_type="text/event-stream", headers={"cache-control": "no-store"}
                )
            if route.path == "/api/session":
                return await _session(guard, request, ask)
            if route.path == "/api/openapi.json":
                return _json(document(ROUTES))
            result = await _run(route.handler, services, ask, limiter=slow if route.slow else None)
        except TenureError as error:
            return _error(error)
        except Exception as error:  # noqa: BLE001  # the edge: one bad request must not look like a dead server
            return _fault(request, error)
        return result if isinstance(result, Response) else _json(result)

    return answer


async def _run(function: Any, *args: Any, limiter: CapacityLimiter | None = None) -> Any:
    """Run blocking code in a thread: the one door from the event loop to everything else."""
    return await to_thread.run_sync(function, *args, limiter=limiter)


async def _ask(request: Request, route: Route, who: Person) -> Ask:
    body = None
    if route.body is not None:
        body = decode(await _body(request, route.max_body), route.body)
    return Ask(
        who=who,
        path=request.path_params,
        query=dict(request.query_params),
        body=body,
        key=request.headers.get("idempotency-key", ""),
    )


async def _body(request: Request, limit: int) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise CaseError(f"the body is larger than {limit} bytes", code="too_large", at="body", status=413)
    return bytes(data)


def decode(data: bytes, kind: type[Any]) -> Any:
    """Return the body as a value of `kind`.

    Raises:
        CaseError: it is not JSON (400) or does not fit (422); the message names the field.
    """
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise CaseError(str(error), code="invalid_body", at="body") from error
    except msgspec.DecodeError as error:
        raise CaseError(f"the body is not JSON: {error}", code="invalid_json", at="body", status=400) from error


async def _session(guard: guards.Guard, request: Request, ask: Ask) -> Response:
    if request.method == "DELETE":
        response = Response(status_code=204)
        guards.clear_session(response)
        return response
    who = await _run(guard.person, ask.body.token)
    response = _json({"name": who.name, "role": who.role})
    guards.set_session(response, request, ask.body.token)
    return response


def _json(value: Any, status: int = 200) -> Response:
    return _unstored(wire.as_json(value, status))


def _error(error: TenureError) -> Response:
    return _unstored(wire.error_response(error))


def _on_http_error(request: Request, error: HTTPException) -> Response:
    return _unstored(wire.http_error(request, error))


def _unstored(response: Response) -> Response:
    """Forbid caches: what the console says is about now, and for one person."""
    response.headers["cache-control"] = "no-store"
    return response


def _fault(request: Request, error: Exception) -> Response:
    _log.error("fault while answering %s %s", request.method, request.url.path, exc_info=error)
    return _json({"error": "a fault of the server; see its log", "code": "internal", "at": request.url.path}, 500)


def _pages() -> list[HttpRoute]:
    async def index(request: Request) -> Response:
        found: Response = await _run(page.index)
        return found

    async def asset(request: Request) -> Response:
        try:
            found: Response = await _run(page.asset, request.path_params["name"])
        except TenureError as error:
            return _error(error)
        return found

    return [HttpRoute("/", index), HttpRoute("/assets/{name}", asset)]


class SecurityHeaders:
    """Adds the page's security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in page.SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
