"""Who may do what: bearer tokens, the login cookie, roles, and the check against forged requests."""

from __future__ import annotations

import base64
import binascii

from starlette.requests import Request
from starlette.responses import Response

from tenure.console.route import Person, Route
from tenure.console.services import Services
from tenure.errors import AccessError, CaseError

COOKIE = "tenure_session"
HEADER = "x-tenure-console"
"""A browser sends a custom header only from a page of the same origin; a forged form cannot (OWASP CSRF)."""
COOKIE_S = 12 * 3600
LOCAL = Person("local", "operator")
_SAFE = ("GET", "HEAD")


class Guard:
    """Finds out who asks, and denies what the role does not allow.

    `open_loopback`: requests without any token act as the operator named "local"; only for a server that listens
    on loopback alone. A request whose Host is not loopback is refused then, so that no foreign page can reach it
    by a name that resolves to this machine.
    """

    def __init__(self, services: Services, *, open_loopback: bool = False) -> None:
        self._services = services
        self._open = open_loopback

    def check(self, request: Request, route: Route) -> Person:
        """Return who asks.

        Raises:
            AccessError: unknown (401), a role that may not do this or a request that may be forged (403).
        """
        if not route.roles:
            return Person("", "")
        if route.outside:
            who = self._allowed(self._program(request), route)
            if route.method not in _SAFE:
                _check_json(request)
            return who
        token, by_cookie = credentials(request)
        who = self._person(request, token)
        if route.method not in _SAFE and (by_cookie or not token) and HEADER not in request.headers:
            raise AccessError(f"send the header {HEADER} with a command from a browser", code="csrf", at=HEADER)
        return self._allowed(who, route)

    def _program(self, request: Request) -> Person:
        """Return which program asks: its token comes as bearer or as the password of Basic, never as a cookie."""
        token = program_token(request)
        origin = request.headers.get("origin")
        if not token and origin is not None:
            raise AccessError(
                "a page of a browser needs a token", code="unauthenticated", at="Origin", status=401
            )
        return self._person(request, token)

    def _allowed(self, who: Person, route: Route) -> Person:
        if who.role not in route.roles:
            allowed = ", ".join(sorted(route.roles))
            raise AccessError(f"{who.name} is a {who.role}; this needs one of: {allowed}", at=route.path)
        return who

    def person(self, token: str) -> Person:
        """Return whose token this is; AccessError (401) for an unknown or revoked one."""
        found = self._services.access.check(token)
        if found is None:
            raise AccessError("the token is unknown or revoked", code="unauthenticated", status=401)
        return Person(found.name, found.role)

    def _person(self, request: Request, token: str) -> Person:
        if token:
            return self.person(token)
        if self._open:
            if loopback_host(request):
                return LOCAL
            raise AccessError("without tokens only loopback is served", code="unauthenticated", status=401)
        raise AccessError("send a token: Authorization: Bearer …, or log in", code="unauthenticated", status=401)


def credentials(request: Request) -> tuple[str, bool]:
    """Return (token, whether it came by cookie); the header wins."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip(), False
    return request.cookies.get(COOKIE, ""), True


def _check_json(request: Request) -> None:
    """Refuse a command that is not JSON by its media type: a page of another site cannot send that unasked."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise CaseError(
            f"send application/json, not {kind[:100] or 'a body without a media type'!r}",
            code="unsupported_media_type", at="content-type", status=415,
        )  # fmt: skip


def program_token(request: Request) -> str:
    """Return the token of a program: a bearer token, or the password of Basic (RFC 7617), whatever its user."""
    scheme, _, word = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return word.strip()
    if scheme.lower() != "basic":
        return word.strip() or scheme
    try:
        return base64.b64decode(word.strip(), validate=True).decode().partition(":")[2] or "-"
    except (binascii.Error, ValueError):
        return "-"


def loopback_host(request: Request) -> bool:
    """Say whether the Host header names this machine (defence against DNS rebinding)."""
    return request.url.hostname in ("127.0.0.1", "localhost", "::1")


def set_session(response: Response, request: Request, token: str) -> None:
    """Store the token where scripts cannot read it and other sites cannot send it."""
    secure = request.url.scheme == "https"
    response.set_cookie(
        COOKIE, token, max_age=COOKIE_S, httponly=True, samesite="strict", secure=secure, path="/"
    )


def clear_session(response: Response) -> None:
    """Forget the login."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
