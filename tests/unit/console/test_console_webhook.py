"""Label Studio's webhook: each judgement once, corrected and taken back, blind only where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from console_office import Office, services_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tenure.clock import ManualClock
from tenure.console.api import management_app
from tenure.data import tables as t
from tenure.data.state import State
from tenure.maintain.exchange import label_studio, taking, waiting
from tenure.scope.project import Output
from tenure.types import Box

GOLDEN = Path(__file__).parents[2] / "golden" / "label_studio"
OUTPUT = Output(labels=("good", "defect"), regions="box")
BOX = Box(1, 2, 3.5, 4, "scratch")


class Studio:
    """A Label Studio that tells an endpoint what its people do."""

    def __init__(self, office: Office, token: str) -> None:
        self.office, self.token = office, token

    def tell(self, action: str, token: str | None = None, **told: Any) -> Any:
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        return self.office.client.post(
            "/label-studio/phones/webhook", json={"action": action, **told}, headers=headers
        )

    def annotate(
        self, item: str, number: int, value: str, *, action: str = "ANNOTATION_CREATED", at: str = "10:00",
        who: Any = 7, shown: bool = False, task: dict[str, Any] | None = None, **more: Any,
    ) -> Any:  # fmt: skip
        result = label_studio.results(value, (BOX,) if value == "defect" else (), OUTPUT, (8, 5))
        done = {
            "id": number, "result": result, "task": 3, "completed_by": who, "was_cancelled": False,
            "updated_at": f"2026-05-01T{at}:00.000000Z", "lead_time": 4.5, "prediction": {}, **more,
        }  # fmt: skip
        own = {
            "id": 3,
            "data": {"image": "x", "tenure_item": item, "tenure_shown": shown},
            "total_predictions": 0,
        }
        return self.tell(action, annotation=done, task={**own, **(task or {})})

    def standing(self, item: str) -> list[tuple[str, str, bool]]:
        """Return (reader, answer, blind) of the judgements that stand."""
        j = t.judgements.c
        with self.office.state.read() as conn:
            rows = conn.execute(sa.select(t.judgements).where(j.item == item).order_by(j.id)).mappings().all()
        gone = {row["supersedes"] for row in rows}
        live = [row for row in rows if row["id"] not in gone and row["skip"] is None]
        return [(row["reader"], json.loads(row["value"]), bool(row["blind"])) for row in live]

    def item(self, item: str) -> tuple[str, Any]:
        with self.office.state.read() as conn:
            i = t.review_items.c
            row = conn.execute(sa.select(i.state, i.truth).where(i.id == item)).one()
        return row.state, json.loads(row.truth or "null")


@pytest.fixture
def studio(state: State, clock: ManualClock) -> Iterator[Studio]:
    services = services_of(state, clock, {}, [])
    token = services.access.create("studio", "exchange")
    others = {"client": services.access.create("client", "client")}
    with TestClient(management_app(services), base_url="http://127.0.0.1") as client:
        made = Studio(Office(state, services, client, {}, others), token)
        made.office.add("b1", blind=True)
        made.office.add("s1")
        yield made


def test_the_documented_payloads_are_read(studio: Studio) -> None:
    for file in sorted(GOLDEN.glob("webhook-*.json")):
        one = json.loads(file.read_text())
        answer = studio.tell(**one["body"])
        assert answer.status_code == one["status"], (file.name, answer.json())
        for name, value in one["answer"].items():
            assert answer.json()[name] == value, file.name
    assert studio.standing("b1") == []


def test_a_delivery_that_comes_again_is_one_judgement(studio: Studio) -> None:
    first, again = studio.annotate("b1", 1, "defect"), studio.annotate("b1", 1, "defect")
    assert first.json()["judgements"]["stored"] == 1
    assert (again.json()["judgements"]["stored"], again.json()["judgements"]["known"]) == (0, 1)
    assert studio.standing("b1") == [("label_studio:7", "defect", True)]
    exported = [{
        "data": {"image": "x", "tenure_item": "b1", "tenure_shown": False},
        "annotations": [{
            "id": 1, "completed_by": {"id": 7, "email": "a@b.c"}, "updated_at": "2026-05-01T10:00:00.000000Z",
            "result": label_studio.results("defect", (BOX,), OUTPUT, (8, 5)),
        }],
    }]  # fmt: skip
    found = list(label_studio.read(exported, OUTPUT, name="export.json"))
    report = taking.take(studio.office.state, studio.office.services.queue, "phones", found)
    assert (report.stored, report.known) == (0, 1)  # the file tells nothing that the webhook did not


def test_a_changed_annotation_corrects_and_what_comes_late_or_twice_changes_nothing(studio: Studio) -> None:
    studio.annotate("b1", 1, "good")
    changed = studio.annotate("b1", 1, "defect", action="ANNOTATION_UPDATED", at="11:00")
    assert changed.json()["judgements"] | {"faults": []} == {
        "read": 1, "stored": 1, "late": 0, "corrected": 1, "known": 0, "waiting": 0, "refused": {}, "faults": [],
    }  # fmt: skip
    for at, value in (("11:00", "defect"), ("10:30", "good"), ("10:00", "good"), ("12:00", "defect")):
        said = studio.annotate("b1", 1, value, action="ANNOTATION_UPDATED", at=at).json()["judgements"]
        assert (said["stored"], said["known"]) == (0, 1)
    assert studio.standing("b1") == [("label_studio:7", "defect", True)]
    assert studio.item("b1")[1] in (None, "defect")


def test_a_change_before_its_creation_is_the_judgement(studio: Studio) -> None:
    assert studio.annotate("b1", 1, "good", action="ANNOTATION_UPDATED", at="11:00").status_code == 200
    assert studio.annotate("b1", 1, "defect", at="10:00").json()["judgements"]["known"] == 1
    assert studio.standing("b1") == [("label_studio:7", "good", True)]


def test_a_deleted_annotation_opens_its_item_again_and_stays_deleted(studio: Studio) -> None:
    studio.annotate("b1", 1, "good")
    state_before = studio.item("b1")[0]
    gone = [studio.tell("ANNOTATIONS_DELETED", annotations=[{"id": 1}]).json()["deleted"] for _ in range(2)]
    assert [(g["stored"], g["known"]) for g in gone] == [(1, 0), (0, 1)]
    assert (studio.standing("b1"), studio.item("b1")) == ([], ("open", None))
    assert state_before != "open"
    assert studio.annotate("b1", 1, "good").json()["judgements"]["known"] == 1  # delivered again: still gone
    late = studio.annotate("b1", 1, "defect", action="ANNOTATION_UPDATED", at="11:00")
    assert (late.status_code, late.json()["code"]) == (409, "withdrawn")
    assert studio.annotate("b1", 2, "defect").json()["judgements"]["stored"] == 1
    assert studio.standing("b1") == [("label_studio:7", "defect", True)]


def test_a_judgement_that_becomes_a_skip_is_taken_back(studio: Studio) -> None:
    studio.annotate("b1", 1, "good")
    skipped = studio.annotate(
        "b1", 1, "good", action="ANNOTATION_UPDATED", at="11:00", was_cancelled=True, result=[]
    )
    assert (skipped.json()["skipped"], skipped.json()["deleted"]["stored"]) == (1, 1)
    never = studio.annotate("s1", 2, "good", was_cancelled=True, result=[])
    assert (never.status_code, never.json()["skipped"]) == (200, 1)
    assert studio.standing("b1") == studio.standing("s1") == []


HINTS: list[dict[str, Any]] = [
    {"parent_prediction": 4},
    {"prediction": {"id": 4, "result": [{"type": "choices"}]}},
    {"task": {"total_predictions": 1}},
    {"task": {"predictions": [4]}},
    {"task": {"meta": {"shown_suggestion": True}}},
    {"shown": True},
    {"result": [{"type": "choices", "origin": "prediction-changed", "value": {"choices": ["good"]}}]},
]


@pytest.mark.parametrize("hint", HINTS, ids=[next(iter(h)) + str(n) for n, h in enumerate(HINTS)])
def test_whoever_may_have_seen_a_prediction_never_counts_as_blind(studio: Studio, hint: dict[str, Any]) -> None:
    studio.annotate("b1", 1, "good", **hint)
    assert [blind for _, _, blind in studio.standing("b1")] == [False]
    studio.annotate("b1", 1, "defect", action="ANNOTATION_UPDATED", at="11:00")
    assert [blind for _, _, blind in studio.standing("b1")] == [False]  # a correction sees nothing less


def test_a_correction_in_view_of_the_prediction_ends_blindness(studio: Studio) -> None:
    studio.annotate("b1", 1, "good")
    studio.annotate("b1", 1, "good", action="ANNOTATION_UPDATED", at="11:00", parent_prediction=4)
    assert studio.standing("b1") == [("label_studio:7", "good", False)]


def test_what_cannot_be_stored_is_said_with_its_reason(studio: Studio) -> None:
    for answer, status, code in (
        (studio.annotate("nobody", 1, "good"), 404, "not_found"),
        (studio.annotate("b1", 1, "ugly"), 409, "invalid_label"),
        (studio.tell("ANNOTATIONS_DELETED", annotations=[{"id": 99}]), 404, "not_found"),
        (studio.tell("ANNOTATION_CREATED"), 422, "invalid_exchange"),
        (
            studio.tell("ANNOTATION_CREATED", annotation={"id": 1, "result": []}, task={"data": {}}),
            422,
            "invalid_exchange",
        ),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.json()
    assert studio.tell("START_TRAINING").json() == {"action": "START_TRAINING", "ignored": True}
    assert studio.office.audit_actions().count("judgements.webhook") == 4


def test_a_judgement_of_an_item_that_somebody_reads_is_kept_and_stored_when_it_is_free(studio: Studio) -> None:
    state, queue = studio.office.state, studio.office.services.queue
    (held,) = queue.lease("ann", endpoint="phones")
    for at, value in (("10:00", "good"), ("10:00", "good"), ("11:00", "defect")):
        said = studio.annotate(held.item, 1, value, at=at)
        assert (said.status_code, said.json()["judgements"]["waiting"]) == (200, 1)
    assert (waiting.resume(state, queue), studio.standing(held.item)) == (0, [])
    queue.release(held.item, reader="ann", token=held.token)
    assert waiting.resume(state, queue) == 2
    assert [value for _, value, _ in studio.standing(held.item)] == ["defect"]
    assert waiting.resume(state, queue) == 0
    assert studio.office.audit_actions().count("judgements.resumed") == 1


def test_a_judgement_that_waits_can_be_deleted_and_is_judged_by_the_rules_in_the_end(studio: Studio) -> None:
    state, queue = studio.office.state, studio.office.services.queue
    (held,) = queue.lease("ann", endpoint="phones")
    studio.annotate(held.item, 1, "good")
    gone = studio.tell("ANNOTATIONS_DELETED", annotations=[{"id": 1}])
    assert (gone.status_code, gone.json()["deleted"]["stored"]) == (200, 1)
    studio.annotate(held.item, 2, "good")
    queue.submit(held.item, reader="ann", token=held.token, value="good", key="k")
    assert studio.item(held.item)[0] == "judged"  # the model said otherwise, so a second reader is wanted
    assert waiting.resume(state, queue) == 1
    assert len(studio.standing(held.item)) == 2
    with state.read() as conn:
        rows = conn.execute(sa.select(t.audit.c.detail).where(t.audit.c.action == "judgements.resumed")).scalars()
        (told,) = [json.loads(row) for row in rows]
    assert told == {"stored": 1, "known": 0, "refused": {}}
    (other,) = queue.lease("ann", endpoint="phones")
    studio.annotate(other.item, 3, "defect")
    queue.submit(other.item, reader="ann", token=other.token, value="defect", key="l")
    assert studio.item(other.item)[0] == "resolved"
    assert waiting.resume(state, queue) == 1  # refused for good: the queue's own reader was first
    assert len(studio.standing(other.item)) == 1


def test_of_several_annotations_a_bad_one_costs_no_other(studio: Studio) -> None:
    good = label_studio.results("good", (), OUTPUT, (8, 5))
    made = [
        {"id": 1, "task": 1, "result": good, "completed_by": 7, "updated_at": "2026-05-01T10:00:00Z"},
        {"id": 2, "task": 2, "result": [], "completed_by": 7, "updated_at": "2026-05-01T10:00:00Z"},
    ]
    tasks = [{"id": n, "data": {"tenure_item": i, "tenure_shown": False}} for n, i in ((2, "s1"), (1, "b1"))]
    said = studio.tell("ANNOTATIONS_CREATED", annotation=made, task=tasks)
    assert (said.status_code, said.json()["judgements"]["stored"], len(said.json()["unreadable"])) == (200, 1, 1)
    assert studio.standing("b1") == [("label_studio:7", "good", True)]


def test_a_wrong_secret_stores_nothing(studio: Studio) -> None:
    body = {"annotation": {"id": 1}, "task": {}}
    assert studio.tell("ANNOTATION_CREATED", token="wrong", **body).status_code == 401
    assert studio.tell("ANNOTATION_CREATED", token=studio.office.tokens["client"], **body).status_code == 403


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
PARTS = ("choices", "rectanglelabels", "x", "y", "width", "height")
RESULT = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["choices", "rectanglelabels"]), "original_width": JSON, "original_height": JSON,
        "value": st.fixed_dictionaries({}, optional={n: JSON | st.just(["good"]) for n in PARTS}),
    },
)  # fmt: skip
ANNOTATION = st.fixed_dictionaries(
    {}, optional={
        "id": st.integers() | JSON, "result": st.lists(RESULT, max_size=2) | JSON, "completed_by": JSON,
        "updated_at": JSON, "lead_time": JSON, "task": JSON, "was_cancelled": JSON, "parent_prediction": JSON,
    },
)  # fmt: skip
TASK = st.fixed_dictionaries(
    {}, optional={"id": JSON, "data": st.fixed_dictionaries({"tenure_item": st.just("b1") | JSON}), "meta": JSON}
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    action=st.sampled_from(["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]) | JSON,
    annotation=ANNOTATION | st.lists(ANNOTATION, max_size=2) | JSON,
    task=TASK | st.lists(TASK, max_size=2) | JSON,
)  # fmt: skip
def test_no_delivery_makes_a_fault(studio: Studio, action: Any, annotation: Any, task: Any) -> None:
    body = {"action": action, "annotation": annotation, "annotations": annotation, "task": task}
    headers = {"authorization": f"Bearer {studio.token}", "content-type": "application/json"}
    answer = studio.office.client.post(
        "/label-studio/phones/webhook", content=json.dumps(body).encode(), headers=headers
    )
    assert answer.status_code < 500, answer.json()
    assert len(studio.standing("b1")) <= 1 or len({r for r, _, _ in studio.standing("b1")}) > 1
