"""HTTP calls to the running server: one kept-alive connection per caller, nothing but the standard library."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from tenure.clock import SystemClock
from tenure.errors import ConflictError, TenureError

TIMEOUT_S = 30.0
IDLE_NS = 2_000_000_000
"""A connection unused for so long is replaced: the server may be closing it at this moment."""

UNREACHABLE = (http.client.HTTPException, OSError)


class Caller:
    """Calls one server with one token; for one thread at a time."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._token = token
        self._connection: http.client.HTTPConnection | None = None
        self._clock, self._used_ns = SystemClock(), 0

    def get(self, path: str) -> Any:
        """Return the JSON answer to a question; asked once more when the connection broke.

        Raises:
            TenureError: the server refused; ConflictError where it said 409.
            OSError, HTTPException: it cannot be reached.
        """
        try:
            return self._json("GET", path)
        except UNREACHABLE:
            return self._json("GET", path)

    def post(self, path: str, body: Any, *, key: str | None = None) -> Any:
        """Send a command as JSON and return the JSON answer; raises as `get`, but is never repeated."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return self._json("POST", path, json.dumps(body).encode(), headers)

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body, whatever they are; raises OSError or HTTPException when unreachable."""
        now = self._clock.monotonic_ns()
        if now - self._used_ns > IDLE_NS:
            self.close()
        self._used_ns = now
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            self._connection.request(
                method, path, body, {"Authorization": f"Bearer {self._token}", **(headers or {})}
            )
            response = self._connection.getresponse()
            return response.status, response.read()
        except UNREACHABLE:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _json(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        status, data = self.raw(method, path, body, headers)
        answer = json.loads(data) if data else None
        if status < 400:
            return answer
        said = answer if isinstance(answer, dict) else {}
        kind = ConflictError if status == 409 else TenureError
        raise kind(str(said.get("error", f"{method} {path}: {status}")), code=said.get("code"), at=said.get("at"))


def multipart(data: bytes, media_type: str) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a form with one part named `file`, as a browser sends it."""
    boundary = "----tenure-demo-7b1d0f3c5a"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="phone.jpg"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
