"""Plans that are chosen and changed on the page: what would start, and each refusal with its field."""

from __future__ import annotations

from typing import Any

import pytest
from console_office import Office

from tenure.data import tables as t

GOOD = {"steps": [{"share": "5%", "min": 200}, {"share": 0.5, "bake": "2h", "approve": True}, {"share": "100%"}]}


@pytest.fixture(autouse=True)
def versions(office: Office) -> None:
    with office.state.begin() as conn:
        for name in ("a@1", "b@2"):
            row = {
                "id": name, "endpoint": "phones", "name": name, "sha": name, "manifest": "{}", "provenance": "{}",
                "state": "registered", "created_us": 0, "created_by": "ann",
            }  # fmt: skip
            conn.execute(t.versions.insert().values(**row))
        office.services.rollouts.set_stable(conn, "phones", "a@1", "ann")


def ask(office: Office, path: str, **body: Any) -> Any:
    return office.ask("operator", "POST", path, json={"endpoint": "phones", "candidate": "b@2", **body})


def test_a_preview_says_what_would_start_and_starts_nothing(office: Office) -> None:
    told = ask(office, "/api/plan", plan=GOOD).json()
    assert told["faults"] == []
    assert told["sentences"][1] == "2. answers 50% of requests, until 2 h and an approval"
    assert office.ask("viewer", "GET", "/api/rollouts").json()["rollouts"] == []


@pytest.mark.parametrize(
    ("plan", "at", "why"),
    [
        ({"steps": [{"share": "250%"}, {"share": 1}]}, "steps[0].share", "expected a share such as 5%"),
        ({"steps": [{"share": "50%"}, {"share": "5%"}, {"share": 1}]}, "steps[1]", "shares must rise"),
        ({"steps": [{"share": "50%"}]}, "steps", "expected the last step to be share: 100%"),
        ({"steps": [{"share": 1}], "gates": [{"bad": "failed"}]}, "gates[0]", "no step splits the traffic"),
        ({"steps": [{"share": 1}], "gates": [{"bad": "nonsense"}]}, "gates[0].bad", "expected wrong_decision"),
        ({**GOOD, "deadline": "soon"}, "deadline", "expected a duration such as"),
        ({**GOOD, "assign": "unit"}, "assign", "needs data.unit"),
        ({**GOOD, "stages": 3}, "stages", "unknown key"),
    ],
)
def test_a_refusal_names_its_field_and_nothing_starts(
    office: Office, plan: dict[str, Any], at: str, why: str
) -> None:
    found = {f["at"]: f["text"] for f in ask(office, "/api/plan", plan=plan).json()["faults"]}
    assert why in found[at]
    refused = ask(office, "/api/rollouts", plan=plan)
    assert refused.status_code in (409, 422)
    assert office.ask("viewer", "GET", "/api/rollouts").json()["rollouts"] == []


def test_a_preview_refuses_whom_a_start_would_refuse(office: Office) -> None:
    told = ask(office, "/api/plan", candidate="a@1").json()
    assert told["faults"] == [{"at": "candidate", "text": "a@1 is in force on phones already"}]
    number = ask(office, "/api/rollouts", plan=GOOD, reason="for the test").json()["id"]
    assert office.services.rollouts.get(number).plan.steps[1].bake == 7200.0
    assert "one at a time" in ask(office, "/api/plan", plan=GOOD).json()["faults"][0]["text"]


def test_a_first_version_is_shown_without_the_steps_that_compare(office: Office) -> None:
    with office.state.begin() as conn:
        office.services.rollouts.set_stable(conn, "phones", None, "ann")
    told = ask(office, "/api/plan", plan=GOOD).json()
    assert [step["share"] for step in told["plan"]["steps"]] == [1.0]


@pytest.mark.parametrize(("query", "first"), [("case=new", 0.01), ("strategy=canary", 0.05)])
def test_a_case_or_a_strategy_picks_the_ladder(office: Office, query: str, first: float) -> None:
    told = office.ask("viewer", "GET", f"/api/plan?endpoint=phones&{query}").json()
    assert (told["plan"]["steps"][0]["share"], told["problems"]) == (first, [])
    assert office.ask("viewer", "GET", "/api/plan?endpoint=phones&case=other").status_code == 422
