"""Ask a running server: one request by the standard library, errors as tenure's own."""

from __future__ import annotations

import http.client
import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

import msgspec

from tenure.api.sample import media_type_of
from tenure.errors import (
    AccessError,
    BusyError,
    CaseError,
    ConflictError,
    MissingError,
    StoreError,
    TenureError,
)
from tenure.types import Answer

TIMEOUT_S = 30.0
Case = Mapping[str, Any] | str | bytes | Path | IO[bytes] | IO[str]
"""A record, a text, the bytes of a picture or clip, the path of a file, or an open file."""


def ask(
    url: str,
    endpoint: str,
    case: Case,
    *,
    token: str | None = None,
    unit: str | None = None,
    wait: float = 0.0,
    key: str | None = None,
    timeout: float = TIMEOUT_S,
) -> Answer:
    """Send one case to an endpoint and return the answer.

    A mapping goes as JSON, a str as text, bytes by how they begin, a Path or an open file by its name.

    Args:
        url: of the data plane, such as `server.url`.
        endpoint: its name.
        case: what is to be judged.
        token: of a client; loopback may need none.
        unit: what shares a fate (line, patient, user): makes assignment sticky.
        wait: hold the request this long for a person's decision, in seconds.
        key: Idempotency-Key; the same key again gives the same answer.
        timeout: of the connection, in seconds; `wait` is added.

    Raises:
        CaseError, AccessError, MissingError, ConflictError, BusyError: as the server says; BusyError with code
            `unreachable` where no server answers.
    """
    body, media_type = encode(case)
    headers = {"Content-Type": media_type, "Accept": "application/json"}
    optional = {"Authorization": token and f"Bearer {token}", "Tenure-Unit": unit, "Idempotency-Key": key}
    headers |= {name: value for name, value in optional.items() if value}
    path = f"/v1/{quote(endpoint, safe='')}/predict" + (f"?wait={wait:g}" if wait else "")
    data = _call(url, "POST", path, body=body, headers=headers, timeout=timeout + wait)
    try:
        return msgspec.json.decode(data, type=Answer)
    except msgspec.DecodeError as error:
        raise _foreign(data) from error


def encode(case: Case) -> tuple[bytes, str]:
    """Return the body and the media type of a case.

    Raises:
        CaseError: it is nothing that can be sent, or the file cannot be read.
    """
    if isinstance(case, Mapping):
        return json.dumps(case).encode(), "application/json"
    if isinstance(case, str):
        return case.encode(), "text/plain; charset=utf-8"
    if isinstance(case, bytes | bytearray | memoryview):
        return bytes(case), media_type_of(bytes(case))
    if isinstance(case, Path):
        try:
            return case.read_bytes(), _named(case.name)
        except OSError as error:
            raise CaseError(f"cannot read {case}: {error.strerror}", code="unreadable_file", at="case") from error
    if hasattr(case, "read"):
        return _from_file(case)
    raise CaseError(f"expected a record, text, bytes, path or open file, got {type(case).__name__}", at="case")


def _from_file(file: IO[bytes] | IO[str]) -> tuple[bytes, str]:
    name = str(getattr(file, "name", ""))
    try:
        data = getattr(file, "buffer", file).read()  # a picture may have been opened as text
    except UnicodeDecodeError as error:
        raise CaseError("the file is not text: open it with mode 'rb'", at="case") from error
    body = data.encode() if isinstance(data, str) else bytes(data)
    named = _named(name)
    return body, media_type_of(body) if named == "application/octet-stream" else named


def _named(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _call(url: str, method: str, path: str, *, body: bytes, headers: Mapping[str, str], timeout: float) -> bytes:
    parts = urlsplit(url if "//" in url else f"http://{url}")
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise CaseError(f"expected an address such as http://127.0.0.1:8700, got {url!r}", at="url")
    connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request(method, parts.path.rstrip("/") + path, body=body, headers=dict(headers))
        response = connection.getresponse()
        data: bytes = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise BusyError(
            f"no answer from {url}: {error or type(error).__name__}; is `tenure serve` running there?",
            code="unreachable",
            at=url,
        ) from error
    finally:
        connection.close()
    if response.status >= 400:
        raise _error(response.status, data, response.headers.get("retry-after"))
    return data


def _error(status: int, data: bytes, retry_after: str | None) -> TenureError:
    """Return the server's error as the class that callers act on."""
    try:
        said = json.loads(data)
        message, code, at = str(said["error"]), said.get("code"), said.get("at")
    except (ValueError, TypeError, KeyError, AttributeError):
        return _foreign(data)
    if status in (401, 403):
        return AccessError(message, code=code, at=at, status=status)
    if status == 404:
        return MissingError(message, code=code, at=at)
    if status == 409:
        return ConflictError(message, code=code, at=at)
    if status == 503:
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else 1.0
        return BusyError(message, code=code, at=at, retry_after=seconds)
    if status < 500:
        return CaseError(message, code=code, at=at, status=status)
    return TenureError(message, code=code, at=at)


def _foreign(data: bytes) -> StoreError:
    text = data[:200].decode(errors="replace")
    return StoreError(f"the answer is not in tenure's words: {text}", code="foreign_answer")
