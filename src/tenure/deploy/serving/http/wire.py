"""The wire form of answers and errors, the same on the data port and on the console's."""

from __future__ import annotations

import logging
import math
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenure.errors import BusyError, TenureError
from tenure.seeds import fresh_u64

_log = logging.getLogger("tenure.serving")
_encode = msgspec.json.Encoder().encode


def as_json(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response."""
    return Response(_encode(value), status_code=status, media_type="application/json")


def error_response(error: TenureError) -> Response:
    """Return `{"error", "code", "at"}` with the error's status and what its status asks for in headers."""
    response = as_json(error.body(), error.status)
    response.headers.update(_headers(error))
    return response


def headers_of_error(error: TenureError) -> bytes:
    """Return the header lines that an error's status asks for."""
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in _headers(error).items())


def fault_body(error: BaseException, what: str) -> bytes:
    """Log a bug of ours under a new id, and return the body of the 500 that names it."""
    fault = f"{fresh_u64():016x}"
    _log.error("fault %s while answering %s", fault, what, exc_info=error)
    text = f"a fault of the server; its log has it as {fault}"
    return _encode({"error": text, "code": "internal", "at": fault})


def _headers(error: TenureError) -> dict[str, str]:
    if isinstance(error, BusyError):
        return {"retry-after": str(max(1, math.ceil(error.retry_after)))}
    return {"www-authenticate": "Bearer"} if error.status == 401 else {}


def http_error(request: Request, error: HTTPException) -> Response:
    """Return what the web framework refuses by itself in the same form."""
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    words = {404: "there is nothing at this path", 405: f"{request.method} is not allowed here"}
    text = words.get(error.status_code, str(error.detail))
    response = as_json({"error": text, "code": code, "at": request.url.path}, error.status_code)
    response.headers.update(error.headers or {})  # a 405 names what is allowed
    return response
