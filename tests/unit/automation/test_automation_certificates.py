"""Certificates of every kind of answer through the service; their lives; the same numbers computed again."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.automation import certificates, policies
from tenure.deploy.automation.ledger import Automation
from tenure.deploy.automation.verify import Checked, verify
from tenure.scope.project import Automation as Spec
from tenure.scope.project import CertificateSpec, EndpointSpec, LossSpec, Output
from tenure.types import Level

E, V = "line", "line@1"
BOX = [{"x1": 0, "y1": 0, "x2": 10, "y2": 10, "label": "crack"}]
FAR = [{"x1": 50, "y1": 0, "x2": 60, "y2": 10, "label": "crack"}]
ITEM = {
    "endpoint": E, "required": 1, "pending": 0, "priority": 0.0, "audit_prob": 0.1, "unit": "", "policy": 1,
    "rollout": None, "arm": "stable", "share": 1.0, "media_type": "x/y", "deadline_us": 0, "blind": 1,
    "version": V, "state": "resolved", "source": "single",
}  # fmt: skip


class Line:
    """One endpoint whose review tables the test fills."""

    def __init__(self, state: State, output: Output, by: LossSpec, **certificate: Any) -> None:
        plan = CertificateSpec(pilot=60, plan=600, **certificate)
        spec = Spec(start="shadow", max="partial", errors=0.1, loss=by, certificate=plan)
        self.state, self.auto = (
            state,
            Automation(state, {E: EndpointSpec(input="text", automation=spec, output=output)}),
        )
        self.rng, self.number = np.random.default_rng(5), 0

    def judge(self, truths: list[Any], answers: list[Any], *, automated: bool = False, **more: Any) -> None:
        """Add judged items; a list is boxes, anything else a value."""
        rows, said = [], []
        for truth, answer in zip(truths, answers, strict=True):
            self.number += 1
            now, name = self.state.now_us(), f"i{self.number}"
            boxes = isinstance(truth, list)
            rows.append(
                {**ITEM, "id": name, "number": self.number, "resolution": self.number, "created_us": now,
                 "resolved_us": now, "truth": "null" if boxes else json.dumps(truth),
                 "truth_regions": json.dumps(truth) if boxes else None, "lottery": int(automated),
                 "kind": "audit" if automated else "shadow",
                 "level": "partial" if automated else "shadow", **more}
            )  # fmt: skip
            said.append(
                {"item": name, "version": V, "role": "primary", "automated": int(automated), "at_us": now,
                 "value": "null" if boxes else json.dumps(answer), "confidence": float(self.rng.random()),
                 "regions": json.dumps(answer) if boxes else "[]"}
            )  # fmt: skip
        with self.state.begin() as conn:
            conn.execute(t.review_items.insert(), rows)
            conn.execute(t.item_predictions.insert(), said)

    def tick(self) -> list[str]:
        with self.state.begin() as conn:
            return [
                m.kind for m in self.auto.reconcile(conn, E, self.state.now_us(), live=(V,), in_rollout=False)
            ]

    def certificates(self) -> list[sa.RowMapping]:
        with self.state.read() as conn:
            return list(conn.execute(sa.select(t.certificates).order_by(t.certificates.c.id)).mappings())

    def verify(self, number: int = 1) -> Checked:
        with self.state.read() as conn:
            return verify(conn, number)

    def change(self, statement: sa.Update) -> None:
        with self.state.begin() as conn:
            conn.execute(statement)

    def climb(self) -> None:
        for level in (Level.ASSIST, Level.PARTIAL):
            self.auto.request(E, level, "ann", approve=True)
        self.tick()


KINDS: dict[str, tuple[Output, LossSpec, list[Any], list[Any], list[Any]]] = {
    "regression": (Output(kind="number"), LossSpec(tolerance=0.5), [1.0, 7.0], [1.3, 6.9], [1.6, 3.0]),
    "detection": (Output(regions="box"), LossSpec(iou=0.5), [BOX, FAR], [BOX, FAR], [[], BOX]),
    "transcription": (
        Output(kind="text"), LossSpec(word_error=0.25), ["one two three four", "five"],
        ["one two three for", "Five."], ["one", "nine"],
    ),
    "costs": (
        Output(labels=("defect", "good")), LossSpec(costs={"defect": {"good": 10.0}, "good": {"defect": 1.0}}),
        ["defect", "good"], ["defect", "good"], ["good", "defect"],
    ),
}  # fmt: skip


def line(state: State, kind: str, **certificate: Any) -> Line:
    output, by, *_ = KINDS[kind]
    return Line(state, output, by, **certificate)


def feed(world: Line, kind: str, n: int, *, wrong: int = 0, **more: Any) -> None:
    """Add n items, evenly of both truths; the first `wrong` are answered wrongly."""
    _, _, truths, right, bad = KINDS[kind]
    answers = [(bad if i < wrong else right)[i % 2] for i in range(n)]
    world.judge([truths[i % 2] for i in range(n)], answers, **more)


def certified(state: State, kind: str, **certificate: Any) -> Line:
    world = line(state, kind, **certificate)
    world.tick()
    feed(world, kind, 60)
    world.tick()
    feed(world, kind, 300, wrong=2)
    assert "certified" in world.tick()
    return world


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_earns_partial_and_loses_it_by_audits(state: State, kind: str) -> None:
    world = certified(state, kind)
    row = world.certificates()[-1]
    told = {
        "regression": "off by more than 0.5",
        "detection": "a box missed",
        "transcription": "25 % of the words",
    }
    assert told.get(kind, "the mean loss (cost of mistakes") in row["claim"]
    assert world.verify(row["id"]).difference is None
    world.climb()
    with state.read() as conn:
        policy = policies.newest(conn, E)
    assert policy is not None
    assert policy.thresholds == {V: {"*": row["threshold"]}}
    feed(world, kind, 120, wrong=120, automated=True)
    assert "revoked" in world.tick()
    assert world.auto.level(E) == Level.ASSIST
    assert world.certificates()[row["id"] - 1]["state"] == "revoked"
    found = world.verify(row["id"])
    assert (found.difference, found.audits) == (None, world.certificates()[row["id"] - 1]["audit_n"])


@pytest.mark.parametrize("kind", ["regression", "detection", "transcription"])
def test_answers_that_are_always_wrong_earn_nothing(state: State, kind: str) -> None:
    world = line(state, kind)
    world.tick()
    feed(world, kind, 60)
    world.tick()
    feed(world, kind, 300, wrong=300)
    world.tick()
    assert world.certificates() == []


def test_a_cheap_mistake_counts_less_than_a_dear_one(state: State) -> None:
    """20 % false alarms at a tenth of the price are 2 % of the dearest: below the bound of 10 %."""
    world = line(state, "costs")
    world.tick()
    feed(world, "costs", 60)
    world.tick()
    world.judge(["good"] * 400, ["defect" if i % 5 == 0 else "good" for i in range(400)])
    assert "certified" in world.tick()
    assert world.certificates()[-1]["k"] > 0.1 * world.certificates()[-1]["n"]
    assert world.verify().match


def test_decisions_end_a_certificate_and_the_level_falls(state: State) -> None:
    world = certified(state, "regression", decisions=1000)
    world.climb()
    with state.begin() as conn:
        certificates.count_decisions(conn, E, V, 999)
    assert "lapsed" not in world.tick()
    assert world.auto.level(E) == Level.PARTIAL
    with state.begin() as conn:
        certificates.count_decisions(conn, E, V, 1)
    assert "lapsed" in world.tick()
    assert world.auto.level(E) == Level.ASSIST
    assert world.certificates()[-1]["cause"] == "its 1000 decisions are made"


def test_half_of_the_decisions_open_a_renewal_that_counts_recent_audits_only(state: State) -> None:
    world = certified(state, "regression", decisions=1000)
    world.climb()
    first = world.certificates()[-1]
    with state.begin() as conn:
        certificates.count_decisions(conn, E, V, 500)
    world.tick()
    feed(world, "regression", 400, automated=True)
    kinds = world.tick()
    assert "renewed" in kinds
    new = world.certificates()[-1]
    assert (new["cause"], new["threshold"], new["decided"]) == ("renewal", first["threshold"], 0)
    assert new["n"] <= 400
    assert world.verify(new["id"]).difference is None


def test_another_loss_in_the_project_ends_what_was_earned(state: State, clock: ManualClock) -> None:
    world = certified(state, "regression")
    world.climb()
    spec = world.auto.endpoints[E]
    looser = msgspec.structs.replace(spec.automation, loss=LossSpec(tolerance=9.0))
    world.auto = Automation(state, {E: msgspec.structs.replace(spec, automation=looser)})
    world.tick()
    assert world.auto.level(E) == Level.ASSIST
    assert world.certificates()[-1]["state"] == "lapsed"


SAID, ITEMS, ISSUED = t.item_predictions, t.review_items, t.certificates
TAMPERED = {
    "a truth": (
        ITEMS.update().where(ITEMS.c.number == 100).values(truth="99.0"),
        "item 100 was counted as right and is wrong",
    ),
    "an answer": (
        SAID.update().where(SAID.c.item == "i61").values(value="1.1"),
        "item 61 was counted as wrong and is right",
    ),
    "a lost truth": (
        ITEMS.update().where(ITEMS.c.number == 77).values(state="open", truth=None),
        "item 77 was counted with",
    ),
    "a confidence": (SAID.update().where(SAID.c.item == "i90").values(confidence=0.0), "stored"),
    "a deleted item": (ITEMS.update().where(ITEMS.c.number == 300).values(endpoint="other"), "counted again"),
    "the errors": (ISSUED.update().values(k=0), "k: 0 stored, 2 by the evidence"),
    "the bound": (ISSUED.update().values(bound=0.01), "log e-value"),
    "the claim": (ISSUED.update().values(claim="never wrong"), "the claim reads otherwise"),
    "the threshold": (ISSUED.update().values(threshold=0.0001), "threshold"),
    "the evidence": (ISSUED.update().values(evidence=""), "before evidence was kept"),
}


@pytest.mark.parametrize("what", list(TAMPERED))
def test_a_tampered_row_is_found_and_named(state: State, what: str) -> None:
    world = certified(state, "regression")
    assert world.verify().match
    statement, told = TAMPERED[what]
    world.change(statement)
    found = world.verify()
    assert not found.match
    assert told in str(found.difference)


def test_a_truth_that_came_too_late_changes_nothing(state: State, clock: ManualClock) -> None:
    world = line(state, "regression")
    world.tick()
    feed(world, "regression", 60)
    world.tick()
    world.judge([1.0], [1.0], state="open", source=None)
    feed(world, "regression", 300)
    clock.advance(60.0)
    assert "certified" in world.tick()
    assert world.certificates()[-1]["k"] <= 1
    world.change(
        ITEMS.update().where(ITEMS.c.number == 61).values(state="resolved", source="single", truth="1.0")
    )
    assert world.verify().difference is None


def audited(state: State) -> Line:
    """Return a line at `partial` with 30 audits, two of them errors and one without a truth."""
    world = certified(state, "regression")
    world.climb()
    _, _, truths, right, bad = KINDS["regression"]
    for answers in (right, bad, right):
        world.judge(truths * 5, answers * 5 if answers is right else (bad + right * 4), automated=True)
    world.change(ITEMS.update().where(ITEMS.c.id == f"i{world.number}").values(state="expired", truth=None))
    world.change(SAID.update().where(SAID.c.automated == 1).values(confidence=0.999))
    world.tick()
    assert world.verify().audits == world.certificates()[0]["audit_n"] == 29
    return world


def test_audits_are_counted_again_and_a_gap_stays_one(state: State) -> None:
    world = audited(state)
    row = world.certificates()[0]
    assert (row["audit_k"], row["state"]) == (2, "valid")
    assert world.verify().match
    late = ITEMS.update().where(ITEMS.c.id == f"i{world.number}").values(state="resolved", truth="99.0")
    world.change(late)
    assert world.verify().match


AUDITED = {
    "an audited truth": (
        ITEMS.update().where(ITEMS.c.kind == "audit", ITEMS.c.number == 611).values(truth="99.0"),
        "audit: item 611 was counted as right and is wrong",
    ),
    "the evidence of the audits": (
        ISSUED.update().values(revoke_log_e=9.0),
        "log e-value of the audits: 9 stored",
    ),
    "a revocation that was none": (
        ISSUED.update().values(state="revoked"),
        "its audits do not contradict the bound",
    ),
    "a number of audits": (ISSUED.update().values(audit_n=28), "audits, n: 28 stored, 29 counted again"),
}


@pytest.mark.parametrize("what", list(AUDITED))
def test_tampered_audits_are_found_and_named(state: State, what: str) -> None:
    world = audited(state)
    statement, told = AUDITED[what]
    if what == "an audited truth":
        first = world.number - 25
        statement = ITEMS.update().where(ITEMS.c.number == first).values(truth="99.0")
        told = told.replace("611", str(first))
    world.change(statement)
    assert told in str(world.verify().difference)


def test_a_certificate_older_than_the_record_of_audits_is_still_verified(state: State) -> None:
    world = audited(state)
    world.change(ISSUED.update().values(audit_losses=""))
    found = world.verify()
    assert (found.match, found.audits) == (True, None)
