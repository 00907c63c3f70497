"""What the management API answers, and how it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from console_office import Office

from tenure.console import page
from tenure.console.openapi import document
from tenure.console.routes import ROUTES
from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.monitor import alarms


def count(office: Office, table: sa.Table) -> int:
    with office.state.read() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def fire(office: Office) -> int:
    draft = alarms.Draft(
        endpoint="phones", rule="drift:input", kind="data_drift", metric="brightness", stage="input", version="*",
        message="Brightness fell from 142 to 61", numbers={"mean_now": 61},
    )  # fmt: skip
    with office.state.begin() as conn:
        return alarms.fire(conn, draft, office.state.now_us()).alarm


def test_the_document_names_every_route() -> None:
    paths = document(ROUTES)["paths"]
    assert {(path, verb.upper()) for path, verbs in paths.items() for verb in verbs} == {
        (r.path, r.method) for r in ROUTES
    }


def test_the_reference_page_names_every_route_with_its_roles() -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "management-api.md").read_text()
    for route in ROUTES:
        assert f"| `{route.method} {route.path}` | {', '.join(sorted(route.roles)) or 'anyone'} |" in text


def test_the_document_is_served_and_says_the_roles(office: Office) -> None:
    found = office.ask("viewer", "GET", "/api/openapi.json").json()
    assert found["paths"]["/api/events"]["post"]["x-roles"] == ["operator"]
    assert "NewEvent" in found["components"]["schemas"]


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "code"),
    [
        ("GET", "/nowhere", {}, 404, "not_found"),
        ("PUT", "/api/events", {}, 405, "method_not_allowed"),
        ("GET", "/api/endpoints/none", {}, 404, "not_found"),
        ("GET", "/api/rollouts/none", {}, 404, "not_found"),
        ("GET", "/api/alarms?limit=many", {}, 400, "invalid_query"),
        ("GET", "/api/history?at=yesterday", {}, 400, "invalid_query"),
        ("POST", "/api/alarms/99999/acknowledge", {}, 404, "not_found"),
        ("POST", "/api/alarms/x/acknowledge", {}, 404, "not_found"),
        ("POST", "/api/events", {"content": b"{"}, 400, "invalid_json"),
        ("POST", "/api/events", {"json": {"text": ""}}, 422, "invalid_body"),
        ("POST", "/api/events", {"json": {"text": "x", "colour": 1}}, 422, "invalid_body"),
        ("POST", "/api/events", {"json": {"text": "x", "endpoint": "none"}}, 404, "not_found"),
        ("POST", "/api/events", {"content": b"[" * 2_000_000}, 413, "too_large"),
        ("POST", "/api/levels", {"json": {"endpoint": "phones", "to": "more"}}, 422, "invalid_body"),
        ("GET", "/api/reviews/none/media", {}, 404, "no_media"),
        ("GET", "/assets/none.js", {}, 404, "not_found"),
        ("GET", "/assets/..%2f..%2fapi.py", {}, 404, "not_found"),
    ],
)
def test_errors_have_one_form(
    office: Office, method: str, path: str, more: dict[str, object], status: int, code: str
) -> None:
    answer = office.ask("operator", method, path, **more)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"error", "code", "at"}


def test_a_fault_of_ours_is_a_500_without_its_details(office: Office) -> None:
    with office.state.begin() as conn:
        conn.execute(
            t.audit.insert().values(at_us=1, actor="a", action="b", subject="c", detail="{", previous="", hash="")
        )
    answer = office.ask("viewer", "GET", "/api/audit")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "Traceback" not in answer.text


def test_the_overview_says_what_needs_a_person(office: Office) -> None:
    fire(office)
    office.add("i1")
    found = office.ask("viewer", "GET", "/api/overview").json()
    assert [n["kind"] for n in found["needs"]] == ["alarm", "review"]
    assert found["endpoints"][0]["level"] == "human_only"
    assert found["health"]["workers"] == 2


def test_a_blind_item_shows_nothing_of_the_model(office: Office) -> None:
    office.add("open")
    office.add("blind", blind=True)
    items = office.ask("reviewer", "POST", "/api/reviews/lease?n=5&endpoint=phones").json()["items"]
    shown = {i["item"]: i for i in items}
    assert shown["open"]["suggestion"]["value"] == "defect"
    assert shown["blind"]["suggestion"] is None
    assert shown["blind"]["labels"] == ["good", "defect"]


def test_a_reviewer_cannot_see_that_an_item_is_an_audit(office: Office) -> None:
    office.add("i1", blind=True)
    assert "audit" not in office.ask("reviewer", "POST", "/api/reviews/lease?n=1").text


def test_a_retried_judgement_is_stored_once(office: Office) -> None:
    office.add("i1")
    item = office.ask("reviewer", "POST", "/api/reviews/lease").json()["items"][0]
    box = {"x1": 1, "y1": 1, "x2": 5, "y2": 5, "label": "scratch"}
    body = {"token": item["token"], "value": "defect", "regions": [box], "seconds": 2.5}
    answers = [
        office.ask("reviewer", "POST", "/api/reviews/i1/judgements", json=body, headers={"idempotency-key": "k1"})
        for _ in range(3)
    ]
    assert [a.status_code for a in answers] == [200, 200, 200]
    assert len({a.text for a in answers}) == 1
    assert count(office, t.judgements) == 1
    assert office.woken


def test_a_judgement_needs_a_key_and_a_lease(office: Office) -> None:
    office.add("i1")
    body = {"token": "made-up", "value": "good"}
    assert office.ask("reviewer", "POST", "/api/reviews/i1/judgements", json=body).json()["code"] == "no_key"
    answer = office.ask(
        "reviewer", "POST", "/api/reviews/i1/judgements", json=body, headers={"idempotency-key": "k"}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "no_lease")


def test_a_batch_answers_each_judgement_by_itself(office: Office) -> None:
    office.add("i1")
    office.add("i2")
    items = office.ask("reviewer", "POST", "/api/reviews/lease?n=2").json()["items"]
    batch = [{"item": i["item"], "token": i["token"], "value": "good", "key": i["item"]} for i in items]
    batch[1]["value"] = "purple"
    results = office.ask("reviewer", "POST", "/api/reviews/judgements", json={"judgements": batch}).json()[
        "results"
    ]
    assert results[0]["item"] == items[0]["item"]
    assert results[1]["code"] == "invalid_label"


def test_undo_brings_the_item_back_under_a_new_lease(office: Office) -> None:
    office.add("i1")
    item = office.ask("reviewer", "POST", "/api/reviews/lease").json()["items"][0]
    body = {"token": item["token"], "value": "good"}
    office.ask("reviewer", "POST", "/api/reviews/i1/judgements", json=body, headers={"idempotency-key": "k"})
    again = office.ask("reviewer", "POST", "/api/reviews/undo", json={}).json()["item"]
    assert again["item"] == "i1"
    assert again["token"] != item["token"]


def test_a_skipped_item_goes_to_another_reader(office: Office) -> None:
    office.add("i1")
    item = office.ask("reviewer", "POST", "/api/reviews/lease").json()["items"][0]
    office.ask("reviewer", "POST", "/api/reviews/i1/skip", json={"token": item["token"], "reason": "too dark"})
    assert office.ask("reviewer", "POST", "/api/reviews/lease").json()["items"] == []
    assert len(office.ask("operator", "POST", "/api/reviews/lease").json()["items"]) == 1


def test_a_lease_is_renewed_and_released(office: Office) -> None:
    office.add("i1")
    token = {"token": office.ask("reviewer", "POST", "/api/reviews/lease").json()["items"][0]["token"]}
    assert office.ask("reviewer", "POST", "/api/reviews/i1/renew", json=token).status_code == 200
    assert office.ask("reviewer", "POST", "/api/reviews/i1/release", json=token).status_code == 200
    assert office.ask("reviewer", "POST", "/api/reviews/i1/renew", json=token).status_code == 409


def test_media_are_served_as_nothing_that_a_browser_would_run(office: Office) -> None:
    office.media.update(
        photo=("image/jpeg", b"jpeg"), page=("text/html", b"<script>"), svg=("image/svg+xml", b"<svg>")
    )
    kinds = {name: office.ask("reviewer", "GET", f"/api/reviews/{name}/media") for name in office.media}
    assert kinds["photo"].headers["content-type"] == "image/jpeg"
    assert {kinds[n].headers["content-type"] for n in ("page", "svg")} == {"application/octet-stream"}
    assert kinds["photo"].headers["x-content-type-options"] == "nosniff"
    assert "no-store" in kinds["photo"].headers["cache-control"]


def test_an_alarm_is_acknowledged_once(office: Office) -> None:
    number = fire(office)
    assert office.ask("operator", "POST", f"/api/alarms/{number}/acknowledge").json()["state"] == "acknowledged"
    assert office.ask("operator", "POST", f"/api/alarms/{number}/acknowledge").status_code == 409
    (row,) = office.ask("viewer", "GET", "/api/alarms").json()["alarms"]
    assert row["acknowledged_by"] == "operator-1"
    assert row["numbers"]["mean_now"] == 61


def test_a_note_is_on_the_charts_and_in_the_audit_trail(office: Office) -> None:
    office.ask("operator", "POST", "/api/events", json={"text": "new lamp", "endpoint": "phones"})
    found = office.ask("viewer", "GET", "/api/endpoints/phones").json()
    assert [e["text"] for e in found["events"]] == ["new lamp"]
    assert "event.add" in office.audit_actions()


def test_a_level_goes_up_only_on_evidence_and_says_what_is_missing(office: Office) -> None:
    refused = office.ask(
        "operator", "POST", "/api/levels", json={"endpoint": "phones", "to": "partial", "approve": True}
    )
    assert refused.status_code == 409
    assert refused.json()["error"]
    assert office.ask("viewer", "GET", "/api/levels?endpoint=phones").json()["level"] == "human_only"


def test_history_says_what_was_live_at_a_time(office: Office) -> None:
    now = office.state.now_us()
    with office.state.begin() as conn:
        for version, at in ((1, now - 10_000_000), (2, now)):
            body = dumps({"version": version, "endpoints": {}})
            conn.execute(t.routing_tables.insert().values(version=version, made_us=at, cause="test", body=body))
    found = office.ask("viewer", "GET", "/api/history").json()
    assert found["routing"]["version"] == 2
    past = office.ask("viewer", "GET", "/api/history", params={"at": "2023-11-14T22:13:15+00:00"}).json()
    assert past["routing"]["version"] == 1
    before = office.ask("viewer", "GET", "/api/history", params={"at": "2020-01-01T00:00:00Z"}).json()
    assert before["routing"] is None


def test_the_audit_chain_is_checked(office: Office) -> None:
    office.ask("operator", "POST", "/api/events", json={"text": "one"})
    office.ask("operator", "POST", "/api/events", json={"text": "two"})
    assert office.ask("viewer", "GET", "/api/audit?verify=1").json()["broken_at"] is None
    with office.state.begin() as conn:
        conn.execute(sa.update(t.audit).where(t.audit.c.id == 1).values(actor="nobody"))
    assert office.ask("viewer", "GET", "/api/audit?verify=1").json()["broken_at"] == 1


@pytest.mark.parametrize(
    "path",
    [
        "/api/endpoints/phones/series",
        "/api/endpoints/phones/heatmap",
        "/api/endpoints/phones/reference",
        "/api/rollouts",
        "/api/certificates",
        "/api/versions",
        "/api/retrain?endpoint=phones",
        "/api/reviews/counts?endpoint=phones",
        "/metrics",
        "/health",
    ],
)
def test_an_empty_project_has_empty_pages(office: Office, path: str) -> None:
    assert office.ask("viewer", "GET", path).status_code == 200


def test_the_page_is_strict_about_where_scripts_come_from(office: Office) -> None:
    answer = office.client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    if (page.STATIC / "index.html").is_file():
        assert "<script>" not in answer.text
        assert "http" not in answer.text.replace("http-equiv", "")


def test_a_rollout_is_started_paused_and_rolled_back(office: Office) -> None:
    with office.state.begin() as conn:
        for name, state in (("a@1", "live"), ("b@2", "registered")):
            row = {
                "id": name,
                "endpoint": "phones",
                "name": name,
                "sha": name,
                "manifest": "{}",
                "provenance": "{}",
            }
            conn.execute(t.versions.insert().values(**row, state=state, created_us=0, created_by="test"))
    body = {"endpoint": "phones", "candidate": "b@2"}
    number = office.ask("operator", "POST", "/api/rollouts", json=body).json()["id"]
    assert office.ask("operator", "POST", "/api/rollouts", json=body).status_code == 409
    assert office.ask("viewer", "GET", "/api/overview").json()["endpoints"][0]["rollout"]["candidate"] == "b@2"
    path = f"/api/rollouts/{number}"
    assert office.ask("operator", "POST", f"{path}/pause", json={"reason": "lunch"}).json()["state"] == "paused"
    assert office.ask("operator", "POST", f"{path}/explode").status_code == 404
    done = office.ask("operator", "POST", f"{path}/rollback", json={"reason": "complaints"}).json()
    assert done["state"] == "rolled_back"
    assert done["moves"][-1]["reason"] == "complaints"
    assert done["moves"][-1]["author"] == "operator-1"
    assert office.ask("viewer", "GET", "/api/rollouts").json()["rollouts"][0]["id"] == number


def test_an_unregistered_version_cannot_be_rolled_out(office: Office) -> None:
    answer = office.ask("operator", "POST", "/api/rollouts", json={"endpoint": "phones", "candidate": "none@0"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
