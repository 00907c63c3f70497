"""Who may do what: tokens, roles, the login cookie, forged requests, and loopback without a token."""

from __future__ import annotations

import re

import pytest
from console_office import Office
from starlette.testclient import TestClient

from tenure.console.api import management_app
from tenure.console.guard import COOKIE, HEADER
from tenure.console.route import Route
from tenure.console.routes import ROUTES

GUARDED = [r for r in ROUTES if r.roles]


def address(route: Route) -> str:
    return re.sub(r"{\w+}", "1", route.path)


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", GUARDED, ids=named)
def test_nothing_answers_without_a_token(office: Office, route: Route) -> None:
    answer = office.client.request(route.method, address(route))
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", GUARDED, ids=named)
def test_a_client_token_opens_nothing_here(office: Office, route: Route) -> None:
    assert office.ask("client", route.method, address(route)).status_code == 403


@pytest.mark.parametrize("route", [r for r in GUARDED if "viewer" not in r.roles], ids=named)
def test_a_viewer_cannot_command(office: Office, route: Route) -> None:
    answer = office.ask("viewer", route.method, address(route))
    assert answer.status_code == 403
    assert "viewer" in answer.json()["error"]


@pytest.mark.parametrize("route", [r for r in GUARDED if "reviewer" not in r.roles], ids=named)
def test_a_reviewer_cannot_operate(office: Office, route: Route) -> None:
    assert office.ask("reviewer", route.method, address(route)).status_code == 403


def test_every_route_that_changes_something_is_closed_to_viewers() -> None:
    open_ones = [named(r) for r in ROUTES if r.method != "GET" and (not r.roles or "viewer" in r.roles)]
    preview = "POST /api/plan"  # its answer says what would happen; nothing does
    assert sorted(open_ones) == ["DELETE /api/session", preview, "POST /api/session"]


def test_a_login_keeps_the_token_where_scripts_cannot_read_it(office: Office) -> None:
    answer = office.client.post("/api/session", json={"token": office.tokens["operator"]})
    assert answer.json() == {"name": "operator-1", "role": "operator"}
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert office.client.get("/api/me").json()["role"] == "operator"


def test_a_wrong_token_logs_nobody_in(office: Office) -> None:
    answer = office.client.post("/api/session", json={"token": "guess"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_a_command_by_cookie_needs_the_console_header(office: Office) -> None:
    office.client.cookies.set(COOKIE, office.tokens["operator"])
    forged = office.client.post("/api/events", json={"text": "new lamp"})
    assert (forged.status_code, forged.json()["code"]) == (403, "csrf")
    assert office.client.post("/api/events", json={"text": "new lamp"}, headers={HEADER: "1"}).status_code == 200


def test_logging_out_forgets_the_cookie(office: Office) -> None:
    office.client.post("/api/session", json={"token": office.tokens["viewer"]})
    assert office.client.delete("/api/session").status_code == 204
    assert office.client.get("/api/me").status_code == 401


def test_a_revoked_token_stops_at_once(office: Office) -> None:
    office.client.post("/api/session", json={"token": office.tokens["viewer"]})
    office.services.access.revoke("viewer-1")
    assert office.client.get("/api/me").status_code == 401


def test_loopback_without_a_token_acts_as_the_local_operator(office: Office) -> None:
    with TestClient(management_app(office.services, open_loopback=True), base_url="http://127.0.0.1") as client:
        assert client.get("/api/me").json()["name"] == "local"
        assert client.post("/api/events", json={"text": "x"}).json()["code"] == "csrf"
        assert client.post("/api/events", json={"text": "x"}, headers={HEADER: "1"}).status_code == 200


def test_loopback_without_a_token_refuses_a_foreign_host_name(office: Office) -> None:
    with TestClient(management_app(office.services, open_loopback=True), base_url="http://evil.test") as client:
        assert client.get("/api/me").status_code == 401


def test_a_wrong_token_is_refused_even_on_open_loopback(office: Office) -> None:
    with TestClient(management_app(office.services, open_loopback=True), base_url="http://127.0.0.1") as client:
        assert client.get("/api/me", headers={"authorization": "Bearer guess"}).status_code == 401
