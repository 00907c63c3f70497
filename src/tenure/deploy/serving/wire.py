"""The wire form of answers and errors, the same on the data port and on the console's."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenure.errors import BusyError, TenureError

_encode = msgspec.json.Encoder().encode


def as_json(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response."""
    return Response(_encode(value), status_code=status, media_type="application/json")


def error_response(error: TenureError) -> Response:
    """Return `{"error", "code", "at"}` with the error's status and what its status asks for in headers."""
    response = as_json(error.body(), error.status)
    if isinstance(error, BusyError):
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


def http_error(request: Request, error: HTTPException) -> Response:
    """Return what the web framework refuses by itself in the same form."""
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    words = {404: "there is nothing at this path", 405: f"{request.method} is not allowed here"}
    text = words.get(error.status_code, str(error.detail))
    return as_json({"error": text, "code": code, "at": request.url.path}, error.status_code)
