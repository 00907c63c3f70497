"""The table of all routes of the management API."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from tenure.console import (
    alarms,
    automation,
    charts,
    history,
    label_studio,
    overview,
    retraining,
    review_fields,
    review_media,
    reviews,
    rollouts,
)
from tenure.console.route import ANYONE, VIEW, Ask, Route
from tenure.console.services import Services
from tenure.errors import TenureError
from tenure.monitor import prometheus


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to keep in the session cookie."""

    token: str


def me(services: Services, ask: Ask) -> dict[str, Any]:
    """Say who asks and which endpoints there are."""
    return {
        "name": ask.who.name,
        "role": ask.who.role,
        "project": services.project.project,
        "endpoints": list(services.project.endpoints),
    }


def health(services: Services, ask: Ask) -> Response:
    """Say whether the controller is well: 200, or 503 when `health()` says `ok: false`."""
    found = services.health()
    status = 200 if found.get("ok", True) else 503
    return Response(msgspec.json.encode(found), status, media_type="application/json")


def metrics(services: Services, ask: Ask) -> Response:
    """Return the control state's numbers in Prometheus' text format."""
    return Response(prometheus.render(services.state), media_type="text/plain; version=0.0.4; charset=utf-8")


def elsewhere(services: Services, ask: Ask) -> dict[str, Any]:
    """Stand for a route that the app itself answers: the stream, the session and this API's document."""
    raise TenureError("this route is answered by the app")


ROUTES: tuple[Route, ...] = (
    Route("GET", "/health", ANYONE, health, "Whether the controller is well"),
    Route("GET", "/metrics", VIEW, metrics, "Numbers for Prometheus", answer="text/plain"),
    Route("GET", "/api/openapi.json", VIEW, elsewhere, "This document"),
    Route("GET", "/api/me", VIEW, me, "Who asks, and which endpoints there are"),
    Route("POST", "/api/session", ANYONE, elsewhere, "Log a browser in: keep the token in a cookie", Login),
    Route("DELETE", "/api/session", ANYONE, elsewhere, "Log a browser out"),
    Route(
        "GET",
        "/api/stream",
        VIEW,
        elsewhere,
        "Notices {topic, endpoint, id} of what changed; resumes at Last-Event-ID",
        query={"last": "instead of the header Last-Event-ID"},
        answer="text/event-stream",
    ),
    *overview.ROUTES,
    *charts.ROUTES,
    *rollouts.ROUTES,
    *automation.ROUTES,
    *reviews.ROUTES,
    *review_media.ROUTES,
    *review_fields.ROUTES,
    *alarms.ROUTES,
    *retraining.ROUTES,
    *history.ROUTES,
    *label_studio.ROUTES,
)
