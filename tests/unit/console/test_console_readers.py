"""Who may see how readers do."""

from __future__ import annotations

from console_office import Office


def test_auditors_see_all_rows_and_reviewers_their_own(office: Office) -> None:
    office.add("i1", blind=True)
    item = office.ask("reviewer", "POST", "/api/reviews/lease?endpoint=phones").json()["items"][0]
    body = {"token": item["token"], "value": item["labels"][0]}
    path = f"/api/reviews/{item['item']}/judgements"
    assert office.ask("reviewer", "POST", path, json=body, headers={"idempotency-key": "k1"}).status_code == 200
    everyone = office.ask("viewer", "GET", "/api/reviews/readers?endpoint=phones").json()
    assert [row["judgements"] for row in everyone["readers"]] == [1]
    assert everyone["conventions"]["clarify"].startswith("too few")
    own = office.ask("reviewer", "GET", "/api/reviews/readers?endpoint=phones").json()
    assert own["own"] is True
    assert own["conventions"] is None
    assert [row["reader"] for row in own["readers"]] == [everyone["readers"][0]["reader"]]
    assert office.ask("reviewer", "GET", "/api/reviews/readers?endpoint=none").status_code == 404


def test_an_escalated_item_goes_on_to_an_operator(office: Office) -> None:
    office.add("i1", blind=True)
    item = office.ask("reviewer", "POST", "/api/reviews/lease?endpoint=phones").json()["items"][0]
    body = {"token": item["token"], "reason": "two faults"}
    assert office.ask("reviewer", "POST", f"/api/reviews/{item['item']}/escalate", json=body).status_code == 200
    got = office.ask("operator", "POST", "/api/reviews/lease?endpoint=phones&n=20").json()["items"]
    assert {x["item"]: x["adjudicate"] for x in got}[item["item"]] is True
