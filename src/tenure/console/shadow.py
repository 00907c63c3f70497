"""The shadow report as a file: a page to hand on, or JSON."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from tenure.console.history import moment
from tenure.console.route import VIEW, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.deploy.shadow.page import page
from tenure.deploy.shadow.report import shadow_report
from tenure.deploy.shadow.settings import settings_of
from tenure.errors import CaseError, MissingError


def report(services: Services, ask: Ask) -> Response:
    """Return the report of one version as a download."""
    name = endpoint_of(services, ask.query.get("endpoint"))
    kind = ask.query.get("format", "html")
    if kind not in ("html", "json"):
        raise CaseError(
            f"format must be html or json, got {kind!r}", code="invalid_query", at="format", status=400
        )
    now_us = services.state.now_us()
    since_us = moment(since, now_us) if (since := ask.query.get("since")) else 0
    version = ask.query.get("version") or services.automation.report(name)["version"]
    if not version:
        raise MissingError(f"{name} has no version yet", at="version")
    segment = ask.query.get("segment")
    if segment is not None:
        services.automation.promise(name, segment)  # refuses one that is not named
    with services.state.read() as conn:
        found = shadow_report(
            conn, name, version, settings=settings_of(services.project, name), now_us=now_us, since_us=since_us,
            segment=segment,
        )  # fmt: skip
    made = page(found).encode() if kind == "html" else msgspec.json.encode(found)
    media = "text/html" if kind == "html" else "application/json"
    headers = {"content-disposition": f'attachment; filename="shadow-report-{name}.{kind}"'}
    return Response(made, media_type=media, headers={**headers, "cache-control": "no-store"})


ROUTES = (
    Route(
        "GET",
        "/api/shadow-report",
        VIEW,
        report,
        "A version beside people, as a page or as JSON",
        query={
            "endpoint": "its name",
            "version": "default: the one in force",
            "since": "only items from then on, such as 2026-05-01T12:00:00Z",
            "segment": "only items of that segment; empty = those of no segment",
            "format": "`html` (default) or `json`",
        },
        answer="text/html",
    ),
)
