"""What every route of the data plane does alike: errors in their wire form, headers, bounded bodies."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tenure.deploy.serving.control_page import Slot
from tenure.deploy.serving.http.wire import error_response, fault_body
from tenure.deploy.serving.predict.core import FOREIGN, too_large
from tenure.errors import CaseError, TenureError
from tenure.scope.hosts import LOOPBACK

_LONGEST = 1e9  # seconds or milliseconds that a caller may name
Handler = Callable[[Request], Awaitable[Response]]
ErrorForm = Callable[[TenureError], Response]


class Edge:
    """The wall around the handlers of one worker: no exception passes it, and what it stops is counted."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def guarded(self, handler: Handler, *, form: ErrorForm = error_response) -> Handler:
        """Turn every error into its wire form and count it; a fault of ours is a 500 with an id.

        Args:
            handler: what answers.
            form: how an error is written; other protocols have another body.
        """

        async def answer(request: Request) -> Response:
            try:
                response = await handler(request)
            except TenureError as error:
                self._slot.add("refused")
                response = form(error)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as error:  # noqa: BLE001  # the edge: a bug must not look like a dead server
                self._slot.add("faults")
                what = f"{request.method} {request.url.path}"
                response = Response(fault_body(error, what), 500, media_type="application/json")
            if self._slot.state == "draining":
                response.headers["connection"] = "close"
            return response

        return answer


def headers_of(request: Request) -> dict[str, str]:
    """Return the headers by lower-case name; of a name sent twice the first counts."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}


def token_of(headers: Mapping[str, str]) -> str:
    """Return the bearer token; without one "", or `FOREIGN` where a page of another site may have sent this.

    A browser names the page's site in Origin, and in Host the name that it looked up, which another site can let
    point to this machine (DNS rebinding). Only the word of a caller without token depends on either.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    host, origin = headers.get("host", ""), headers.get("origin", "")
    return "" if _is_local(f"//{host}") and (not origin or _is_local(origin)) else FOREIGN


def _is_local(url: str) -> bool:
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False


async def read_body(request: Request, headers: dict[str, str], limit: int) -> bytes:
    """Return the whole body; raises CaseError 413 beyond `limit` bytes, as soon as that is known."""
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        parts.append(chunk)
    return b"".join(parts)


def number_of(text: str | None, at: str) -> float:
    """Return the non-negative number that a header or query holds, 0 without one; raises CaseError 400."""
    if text is None:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _LONGEST:
        raise CaseError(
            f"expected a number between 0 and {_LONGEST:g}, got {text[:40]!r}",
            code="invalid_number", at=at, status=400,
        )  # fmt: skip
    return value
