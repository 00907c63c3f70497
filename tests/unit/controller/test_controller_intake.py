"""What the controller makes of logged rows: items, answers, outcomes, counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from controller_world import Worker, World, model, project
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.records import encode_id
from tenure.deploy.review.queue import ReviewQueue
from tenure.scope.project import (
    Audit,
    Automation,
    CertificateSpec,
    EndpointSpec,
    Fallback,
    GateSpec,
    RolloutSpec,
    Segments,
    SegmentSpec,
    Serve,
    Step,
)
from tenure.types import Level, Prediction

SERVE = Serve(on_timeout=Fallback(decide="defect", after=30.0))


def world(
    folder: Path, clock: ManualClock, *, start: str = "human_only", decisions: int | None = None, **more: object
) -> World:  # fmt: skip
    audit, certificate = Audit(steady=0.5, rollout=1.0), CertificateSpec(decisions=decisions)
    automation = Automation(
        start=start, max="full", errors=0.05, audit=audit, blind=0.5, certificate=certificate
    )  # fmt: skip
    spec = EndpointSpec(input="image", serve=SERVE, automation=automation, **more)  # type: ignore[arg-type]
    made = World(project(folder, spec), clock)
    made.register("m@1", model())
    made.register("m@2", model(wrong_above=0.5))
    made.put_in_force("m@1")
    made.controller.start()
    return made


def items(made: World) -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in made.rows(t.review_items)}


def test_a_pending_request_becomes_an_item_with_its_own_id(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock)
    worker = Worker(made)
    asked = clock.now_ns() // 1000
    (id_,) = made.serve(worker, made.cases(1))
    made.tick(0.2)
    (row,) = made.rows(t.review_items)
    assert row["id"] == id_
    assert (row["kind"], row["pending"], row["blind"], row["level"]) == ("shadow", 1, 1, "human_only")
    assert (row["created_us"], row["deadline_us"]) == (asked, asked + 30_000_000)
    assert (row["version"], row["audit_prob"], row["media_type"]) == (None, 1.0, "image/*")
    assert made.rows(t.item_predictions) == []


def test_rows_are_taken_once(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock)
    worker = Worker(made)
    ids = made.serve(worker, made.cases(5))
    made.tick(0.2)
    made.tick(0.2)
    assert list(items(made)) == sorted(ids)
    made.restart()
    made.controller.start()
    assert list(items(made)) == sorted(ids)
    counted = made.rows(t.panes, t.panes.c.metric == "brightness")
    assert sum(row["n"] for row in counted) == 5


def test_a_refused_row_makes_no_item_but_is_counted(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock)
    worker = Worker(made)
    worker.refuse()
    made.tick(0.2)
    assert made.rows(t.review_items) == []
    (row,) = made.rows(t.panes, t.panes.c.metric == "over_budget")
    assert row["n"] == 1
    assert made.rows(t.panes, t.panes.c.stage == "input") == []


def test_shadow_answers_are_joined_to_their_item(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock, start="shadow")
    worker = Worker(made)
    cases = made.cases(4)
    ids = made.serve(worker, cases)
    made.tick(0.2)
    answers = {row["item"]: row for row in made.rows(t.item_predictions)}
    assert sorted(answers) == sorted(ids)
    for id_, case in zip(ids, cases, strict=True):
        row = answers[id_]
        assert (row["version"], row["role"], row["automated"]) == ("m@1", "shadow", 0)
        assert row["value"] == f'"{case.truth}"'
        assert row["confidence"] == pytest.approx(model()(case).confidence, abs=1e-6)  # type: ignore[union-attr]


def test_a_shadow_answer_about_nobody_s_case_is_passed_over(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world(tmp_path, clock, start="shadow")
    taken: list[str] = []
    monkeypatch.setattr(
        ReviewQueue, "add_predictions", lambda _self, _conn, preds: taken.extend(p.item for p in preds)
    )
    worker = Worker(made)
    (id_,) = made.serve(worker, made.cases(1))
    desk = worker.desks[next(iter(worker.desks))]
    answer = Prediction("good", 0.9)
    for seq, spare in ((98, True), (99, False)):
        desk.log_shadow("m@1", [seq], [answer], spare=[spare], t_ns=clock.now_ns(), latency_us=1)
    made.tick(0.2)
    assert taken == [id_, encode_id(worker.journal.run, 99, made.secret)]


def test_at_assist_the_primary_answer_and_the_lottery_are_kept(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock, start="assist")
    worker = Worker(made)
    made.serve(worker, made.cases(200))
    made.tick(0.2)
    rows = list(items(made).values())
    assert {(r["kind"], r["version"], r["level"], r["arm"]) for r in rows} == {
        ("uncertain", "m@1", "assist", "stable")
    }
    assert 60 <= sum(r["lottery"] for r in rows) <= 140  # audits: 50 %
    assert 60 <= sum(r["blind"] for r in rows) <= 140
    answers = made.rows(t.item_predictions)
    assert len(answers) == 200
    assert {(a["role"], a["automated"]) for a in answers} == {("primary", 0)}


def test_automated_decisions_use_up_a_certificate(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock, start="full", decisions=50)
    row = {
        "endpoint": "phones", "version": "m@1", "side": "*", "lineage": 1, "state": "valid", "threshold": 0.0,
        "bound": 0.05, "delta": 0.05, "n": 1, "k": 0, "coverage": 1.0, "reference": "adjudicated", "issued_us": 0,
        "expires_us": 2**62, "cause": "lineage", "audit_n": 0, "audit_k": 0, "revoke_log_e": 0.0, "last_item": 0,
        "claim": "", "decisions": 50,
    }  # fmt: skip
    with made.state.begin() as conn:
        conn.execute(t.certificates.insert().values(**row))
    worker = Worker(made)
    made.serve(worker, made.cases(20))
    made.tick(0.2)
    assert [(c["decided"], c["state"]) for c in made.rows(t.certificates)] == [(20, "valid")]
    made.serve(worker, made.cases(40))
    made.tick(0.2)
    made.tick(5.0)
    assert [(c["decided"], c["state"]) for c in made.rows(t.certificates)] == [(60, "lapsed")]


def test_an_item_has_the_segment_whose_policy_ruled_on_it(tmp_path: Path, clock: ManualClock) -> None:
    audit, certificate = Audit(steady=0.5, rollout=1.0), CertificateSpec(decisions=50)
    listed = Segments(by="unit", values={"A": SegmentSpec(), "B": SegmentSpec()})
    spec = EndpointSpec(
        input="image", serve=SERVE,
        automation=Automation(start="full", max="full", audit=audit, certificate=certificate, segments=listed),
    )  # fmt: skip
    made = World(project(tmp_path, spec), clock)
    made.register("m@1", model())
    made.put_in_force("m@1")
    made.controller.start()
    made.services.automation.request("phones", Level.ASSIST, "ann", True, "B")
    made.tick(0.2)
    worker = Worker(made)
    cases = [dataclasses.replace(case, unit=unit) for case in made.cases(30) for unit in ("A", "B", "C", None)]
    ids = dict(zip(made.serve(worker, cases), cases, strict=True))
    made.tick(0.2)
    rows = items(made)
    assert {(ids[i].unit, row["segment"]) for i, row in rows.items()} == {
        ("A", "A"), ("B", "B"), ("C", ""), (None, ""),
    }  # fmt: skip
    assert {row["level"] for row in rows.values() if row["segment"] == "B"} == {"assist"}
    assert {row["level"] for row in rows.values() if row["segment"] != "B"} == {"full"}
    assert all(row["automated"] for row in made.rows(t.item_predictions) if rows[row["item"]]["segment"] != "B")


def test_only_audited_ones_of_automated_answers_become_items(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock, start="full")
    worker = Worker(made)
    ids = made.serve(worker, made.cases(200))
    made.tick(0.2)
    rows = list(items(made).values())
    assert 60 <= len(rows) <= 140
    assert {r["id"] for r in rows} < set(ids)
    told = {(r["kind"], r["pending"], r["blind"], r["lottery"], r["deadline_us"], r["audit_prob"]) for r in rows}
    assert told == {("audit", 0, 1, 1, 0, 0.5)}
    assert {a["automated"] for a in made.rows(t.item_predictions)} == {1}
    assert len(made.rows(t.item_predictions)) == len(rows)


def test_a_rollouts_rows_carry_its_id_arm_and_share_and_are_counted(tmp_path: Path, clock: ManualClock) -> None:
    steps = (Step(share=0.25, min=10_000), Step(share=1.0))
    plan = RolloutSpec(steps=steps, gates=(GateSpec(bad="wrong_decision"), GateSpec(bad="failed")))
    made = world(tmp_path, clock, start="full", rollout=plan)
    worker = Worker(made)
    before = made.serve(worker, made.cases(20))
    made.tick(0.2)
    rollout = made.services.rollouts.start("phones", "m@2", by="ann")
    made.tick(0.2)
    late = made.serve(worker, made.cases(400))
    made.tick(0.2)
    found = items(made)
    assert {found[i]["rollout"] for i in before if i in found} == {None}
    rows = [found[i] for i in late]  # audits of a rollout: all
    assert {r["rollout"] for r in rows} == {rollout}
    arms = {(r["arm"], r["version"], round(float(str(r["share"])), 6)) for r in rows}
    assert arms == {("candidate", "m@2", 0.25), ("stable", "m@1", 0.75)}
    (requests,) = made.rows(t.evidence, t.evidence.c.gate == "requests")
    assert requests["n1"] + requests["n0"] == 400
    assert requests["n1"] == sum(r["arm"] == "candidate" for r in rows)


def test_an_outcome_resolves_an_audit_but_never_a_pending_item(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock, start="full")
    worker = Worker(made)
    ids = made.serve(worker, made.cases(50))
    made.tick(0.2)
    audited = next(iter(items(made)))
    spared = next(i for i in ids if i not in items(made))
    worker.feedback(audited, "defect")
    worker.feedback(audited, "redo", kind="reaction")
    worker.feedback(spared, "defect")
    made.tick(0.2)
    row = items(made)[audited]
    assert (row["state"], row["truth"], row["source"]) == ("resolved", '"defect"', "outcome")
    assert spared not in items(made)


def test_an_outcome_leaves_a_waiting_client_to_people(tmp_path: Path, clock: ManualClock) -> None:
    made = world(tmp_path, clock)
    worker = Worker(made)
    (id_,) = made.serve(worker, made.cases(1))
    worker.feedback(id_, "defect")
    made.tick(0.2)
    assert items(made)[id_]["state"] == "open"


def test_rows_of_an_endpoint_that_left_the_project_are_passed_over(tmp_path: Path, clock: ManualClock) -> None:
    spec = EndpointSpec(input="image", serve=SERVE, automation=Automation(max="assist"))
    made = World(project(tmp_path, spec, spec), clock)
    made.controller.start()
    worker = Worker(made)
    made.serve(worker, made.cases(2), "tablets")
    made.serve(worker, made.cases(1))
    made.project = project(tmp_path, spec)
    made.restart()
    made.controller.start()
    assert [row["endpoint"] for row in made.rows(t.review_items)] == ["phones"]
