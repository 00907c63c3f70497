"""Ask a worker what the stable version would say: models are loaded in the data plane only."""

from __future__ import annotations

import http.client
import re
from urllib.parse import quote, urlsplit

import msgspec

from tenure.deploy.serving.predict.preview import PATIENCE_S, Preview, password
from tenure.errors import BusyError, CaseError, ConflictError, MissingError, ModelError, TenureError

_MEDIA = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}(;\s*charset=[\w-]{1,40})?", re.ASCII)
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class _Said(msgspec.Struct, frozen=True):
    error: str = "no reason was given"
    code: str = "internal"
    at: str | None = None


class Previews:
    """The way from the console's process to the workers; used by several threads at once.

    Args:
        url: of the data port; "" where there is none.
        secret: the project's secret key.
    """

    def __init__(self, url: str, secret: bytes) -> None:
        parts = urlsplit(url)
        self._host = _ANY.get(parts.hostname or "", parts.hostname or "")
        self._port, self._word = parts.port, password(secret)

    def __call__(self, endpoint: str, body: bytes, media_type: str) -> Preview:
        """Return what the stable version says of an input.

        Raises:
            CaseError: the input cannot be read.
            ConflictError: no version is in force.
            ModelError: the model could not answer.
            BusyError: no worker is there, or all are busy.
        """
        if not self._host:
            raise BusyError("this process has no workers", code="not_ready", at=endpoint)
        connection = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE_S + 5)
        kind = media_type if _MEDIA.fullmatch(media_type) else ""
        headers = {"content-type": kind, "tenure-preview": self._word}
        try:
            connection.request("POST", f"/internal/{quote(endpoint)}/preview", body, headers)
            reply = connection.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise BusyError(f"no worker answers: {error}", code="not_ready", at=endpoint) from error
        finally:
            connection.close()
        if reply.status == 200:
            return msgspec.json.decode(data, type=Preview)
        raise _error(reply.status, data)


def _error(status: int, data: bytes) -> TenureError:
    """Return the worker's error as it was raised there."""
    try:
        said = msgspec.json.decode(data, type=_Said)
    except msgspec.DecodeError:
        said = _Said()
    if said.code == "model_failed":
        return ModelError(said.error, code=said.code, at=said.at)
    if status == 503:
        return BusyError(said.error, code=said.code, at=said.at)
    if status in (404, 409):
        kind = MissingError if status == 404 else ConflictError
        return kind(said.error, code=said.code, at=said.at)
    if 400 <= status < 500 and status != 401:
        return CaseError(said.error, code=said.code, at=said.at, status=status)
    return TenureError(f"a worker answered {status}: {said.error}")
