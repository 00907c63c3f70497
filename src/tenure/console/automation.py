"""The degree of automation: where an endpoint stands, on what evidence, and moving it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tenure.console import shadow as shadow_page
from tenure.console.route import OPERATE, VIEW, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.deploy.automation.shadow_report import shadow_report
from tenure.deploy.shadow.settings import settings_of
from tenure.types import Level


class LevelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Move to a level; `approve` is the operator's approval of a move up, `segment` the segment that moves."""

    endpoint: str
    to: Literal["human_only", "shadow", "assist", "partial", "full"]
    approve: bool = False
    segment: str = ""


def levels(services: Services, ask: Ask) -> dict[str, Any]:
    """Return level, certificates, evidence, moves and the comparison with people of an endpoint or a segment."""
    name = endpoint_of(services, ask.query.get("endpoint"))
    report = services.automation.report(name, ask.query.get("segment") or "")
    up = services.project.endpoints[name].automation.certificate.up
    shadow = None
    if report["version"]:
        segment, settings = report["segment"] if report["by"] else None, settings_of(services.project, name)
        with services.state.read() as conn:
            shadow = shadow_report(conn, name, report["version"], settings=settings, segment=segment)
    return {**report, "up": up, "shadow": shadow, "now_us": services.state.now_us()}


def request_level(services: Services, ask: Ask) -> dict[str, Any]:
    """Move the level, if the evidence allows it."""
    body: LevelRequest = ask.body
    name = endpoint_of(services, body.endpoint)
    answer = services.automation.request(
        name, Level.of(body.to), by=ask.who.name, approve=body.approve, segment=body.segment
    )
    services.publish()
    return {"endpoint": name, "segment": body.segment, "answer": msgspec.to_builtins(answer)}


ROUTES = (
    Route(
        "GET",
        "/api/levels",
        VIEW,
        levels,
        "Level, certificates, evidence and agreement of an endpoint",
        query={"endpoint": "its name", "segment": "one of its segments; without it the endpoint's own level"},
    ),
    Route("POST", "/api/levels", OPERATE, request_level, "Move the degree of automation", LevelRequest),
    *shadow_page.ROUTES,
)
