"""The input in a request's body: the body itself, or the part `file` of a form."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from tenure.deploy.serving.http.edge import read_body
from tenure.errors import CaseError

_FORM_LINES = 64 * 1024  # bytes of a form around its file


async def read_input(request: Request, headers: dict[str, str], limit: int) -> tuple[bytes, str]:
    """Return the input's bytes and media type.

    A part of a form that names no media type has that of its file's name; what has neither has "".

    Raises:
        CaseError: 413 beyond `limit` bytes; 400 `invalid_form`; 422 `missing_file`.
    """
    media_type = headers.get("content-type", "")
    body = await read_body(request, headers, limit + _FORM_LINES)
    if not media_type.lower().startswith("multipart/form-data"):
        return body, media_type
    part = await _file_of(request, body)
    data, filename, media_type = await part.read(), part.filename or "", part.content_type or ""
    await part.close()
    return data, media_type or mimetypes.guess_type(filename)[0] or ""


async def _file_of(request: Request, body: bytes) -> UploadFile:
    try:
        form = await MultiPartParser(request.headers, _once(body), max_files=1, max_fields=16).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        message = getattr(error, "message", str(error))
        raise CaseError(
            f"the multipart form cannot be read: {message}", code="invalid_form", at="body", status=400
        ) from error
    part = form.get("file")
    if not isinstance(part, UploadFile):
        raise CaseError("the form has no file part named `file`", code="missing_file", at="file")
    return part


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
