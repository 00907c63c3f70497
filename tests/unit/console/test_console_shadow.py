"""The shadow report as a download of the console."""

from __future__ import annotations

from console_office import Office


def test_the_report_is_a_download_for_whoever_may_look(office: Office) -> None:
    path = "/api/shadow-report?endpoint=phones&version=a@1"
    page = office.ask("viewer", "GET", path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "attachment" in page.headers["content-disposition"]
    assert "has not been judged blind" in page.text
    data = office.ask("viewer", "GET", f"{path}&format=json").json()
    assert (data["format"], data["items"], data["settings"]["kind"]) == ("tenure-shadow-report/1", 0, "detection")


def test_what_it_cannot_give_is_said(office: Office) -> None:
    for query, status in (("endpoint=none", 404), ("endpoint=phones&version=a@1&format=pdf", 400)):
        assert office.ask("viewer", "GET", f"/api/shadow-report?{query}").status_code == status
    assert office.client.get("/api/shadow-report?endpoint=phones").status_code == 401
