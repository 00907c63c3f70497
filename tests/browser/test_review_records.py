"""A reviewer judges real hospital records: ranges, what is missing, masked fields, numbers, texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from desk_world import World, drawn, fits, sent, shot

from tenure.data import tables as t
from tenure.data.state import verify_audit
from tenure.monitor import profile
from tenure.monitor.detector import Watch
from tenure.scope import project as p

pytestmark = pytest.mark.browser

NUMBERS = ("age", "trestbps", "chol", "thalach", "oldpeak", "ca")
FIELDS = {name: p.Field(type="float", nullable=True) for name in NUMBERS}
ENCOUNTER = {
    "patient_nbr": p.Field(type="int", masked=True),
    "race": p.Field(type="category", nullable=True, values=("Caucasian", "AfricanAmerican")),
    "age": p.Field(type="text"),
    "weight": p.Field(type="text", nullable=True),
    "time_in_hospital": p.Field(type="int"),
    "num_medications": p.Field(type="int"),
    "diag_1": p.Field(type="text"),
}
DAYS = p.Output(kind="number", unit="days")
PROJECT = p.Project(
    project="hospital",
    scope=p.Scope(x="a record", y=p.Output(labels=("healthy", "ill"))),
    endpoints={
        "heart": p.EndpointSpec(input="record", fields=FIELDS),
        "stay": p.EndpointSpec(input="record", fields=ENCOUNTER, output=DAYS),
        "summary": p.EndpointSpec(input="text", output=p.Output(kind="text")),
    },
)
TEXT = "The board has a short between two tracks and a missing hole beside the connector. " * 6


def learned(world: World, endpoint: str, stage: str, metric: str, values: list[float]) -> None:
    """Store the reference of one metric, with the edges that the monitor would learn."""
    x = np.array([v for v in values if v is not None], dtype=np.float32)
    edges = tuple(int(e) for e in profile.learn_edges(profile.Profile.of(x)))
    none: dict[str, Any] = dict.fromkeys(("share", "rows", "deff", "bound", "armed", "delay", "needed"), ())
    seen = {"mean": float(x.mean()), "low": float(x.min()), "high": float(x.max())}
    watch = Watch(stage=stage, metric=metric, edges=edges, note="armed", **none, **seen)
    with world.state.begin() as conn:
        conn.execute(
            t.references.insert().values(
                endpoint=endpoint,
                stage=stage,
                metric=metric,
                learned_us=0,
                body=msgspec.json.encode(watch).decode(),
            )
        )


def fill(world: World, data: Path) -> None:
    """A heart patient older than all others with a value missing, one hospital stay, and a text."""
    heart = pq.read_table(data / "health" / "heart_cleveland.parquet").to_pylist()
    oldest = max(heart, key=lambda row: row["age"])
    for name in NUMBERS:
        learned(world, "heart", "input", f"field:{name}", [r[name] for r in heart if r is not oldest])
    record = {name: oldest[name] for name in NUMBERS} | {"ca": None}
    why = {"age": 0.41, "trestbps": -0.08, "chol": 0.02, "thalach": -0.9, "oldpeak": 0.0, "st slope": 0.3}
    world.add("h1", "application/json", endpoint="heart", record=record, said="ill", confidence=0.66,
              contributions=why)  # fmt: skip
    stays = pq.read_table(data / "health" / "diabetes_130_hospitals.parquet").slice(0, 2000).to_pylist()
    learned(world, "stay", "output", "number", [r["time_in_hospital"] for r in stays])
    learned(world, "stay", "input", "field:num_medications", [r["num_medications"] for r in stays])
    first = {name: stays[0][name] for name in ENCOUNTER}
    world.add("s1", "application/json", b"{}", endpoint="stay", record=first, said=9.0, confidence=0.5,
              contributions={"num_medications": 2.5, "patient_nbr": 7.125})  # fmt: skip
    world.add(
        "t1", "text/plain", endpoint="summary", record=TEXT, said="a short and a missing hole", confidence=0.8
    )


def opened(desk: Any, world: World, endpoint: str) -> None:
    desk.goto(f"{world.url}/#/review/{endpoint}")
    desk.locator(".record, .text-item").first.wait_for()
    drawn(desk)


def test_a_record_shows_types_ranges_and_gaps(desk: Any, world: World) -> None:
    opened(desk, world, "heart")
    desk.get_by_text("6 fields, 1 missing, 1 outside what the reference has seen.").wait_for()
    age = desk.locator(".record > div", has_text="age")
    assert age.locator(".outside").inner_text() == "above the reference"
    assert age.locator(".type").inner_text() == "float"
    assert (
        age.locator(".range").get_attribute("aria-label").startswith("above the reference, which lies between 29")
    )
    assert desk.locator(".record dd.missing").count() == 1
    assert desk.locator(".range.inside").count() == 4
    shot(desk, "review-record")
    assert fits(desk, width=400)
    desk.keyboard.press("2")
    sent(desk, 1)
    assert world.judgements()[0]["value"] == "ill"


def test_what_moved_the_answer_is_beside_each_field(desk: Any, world: World) -> None:
    opened(desk, world, "heart")
    said = [bar.get_attribute("aria-label") for bar in desk.locator(".influence").all()]
    assert said[0] == "speaks for ill by 0.41"
    assert said[3:] == ["speaks against ill by 0.9", "moved nothing", "speaks for ill by 0.3"]
    names = desk.locator(".record dt")
    assert names.first.inner_text().startswith("age")
    assert names.last.inner_text() == "st slopemade by the model"
    desk.keyboard.press("o")
    assert names.first.inner_text().startswith("thalach")
    desk.get_by_role("button", name="Strongest first").click()
    assert names.first.inner_text().startswith("age")
    push = desk.locator(".influence .push").nth(3)
    assert (push.get_attribute("x"), push.get_attribute("width")) == ("0", "50")
    assert fits(desk, width=400)


def test_a_masked_field_does_not_tell_by_what_it_moved(desk: Any, world: World) -> None:
    with desk.expect_response(lambda r: "/api/reviews/lease" in r.url) as leased:
        opened(desk, world, "stay")
    body = leased.value.text()
    assert "7.125" not in body
    assert '"num_medications":2.5' in body.replace(" ", "")
    assert desk.locator(".influence").count() == 1


def test_a_masked_field_is_shown_on_request_and_audited(desk: Any, world: World) -> None:
    with desk.expect_response(lambda r: "/api/reviews/lease" in r.url) as leased:
        opened(desk, world, "stay")
    body = leased.value.text()
    assert "patient_nbr" in body
    number = "63555939"
    assert number not in body
    assert desk.request.get(f"{world.url}/api/reviews/s1/media").status == 404  # not by the back door
    shot(desk, "review-stay")
    desk.get_by_role("button", name="Show patient nbr").click()
    desk.get_by_text(number).wait_for()
    with world.state.read() as conn:
        row = conn.execute(sa.select(t.audit).where(t.audit.c.action == "review.reveal")).mappings().one()
        assert verify_audit(conn) is None
    assert (row["actor"], row["subject"]) == ("local", "stay")
    assert '"item":"s1"' in row["detail"].replace(" ", "")
    wrong = desk.request.post(
        f"{world.url}/api/reviews/s1/reveal",
        data={"token": "l_other", "field": "patient_nbr"}, headers={"X-Tenure-Console": "1"},
    )  # fmt: skip
    assert wrong.status == 409


def test_a_number_has_its_unit_and_range(desk: Any, world: World) -> None:
    opened(desk, world, "stay")
    field = desk.get_by_label("Your answer in days")
    assert field.input_value() == "9"
    desk.keyboard.press("e")
    desk.keyboard.press("Control+a")
    desk.keyboard.type("40")
    desk.get_by_text("outside what the reference has seen").wait_for()
    desk.keyboard.press("Control+a")
    desk.keyboard.type("12")
    desk.keyboard.press("Enter")
    sent(desk, 1)
    assert world.judgements()[0]["value"] == 12


def test_a_text_is_readable_and_its_answer_differs_visibly(desk: Any, world: World) -> None:
    opened(desk, world, "summary")
    line = desk.locator(".text-item").evaluate("e => e.clientWidth / parseFloat(getComputedStyle(e).fontSize)")
    assert line < 42  # ems: about 80 letters
    assert [m.lower() for m in desk.locator(".text-item mark").all_inner_texts()][:2] == ["short", "missing hole"]
    desk.keyboard.press("e")
    desk.keyboard.press("End")
    desk.keyboard.type(" by the connector")
    assert desk.locator(".difference ins").inner_text() == "by the connector"
    shot(desk, "review-text")
    desk.keyboard.press("Enter")
    sent(desk, 1)
    assert world.judgements()[0]["value"] == "a short and a missing hole by the connector"
