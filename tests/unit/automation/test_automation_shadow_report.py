"""The comparison of a version with people, over real tables."""

from __future__ import annotations

import json

import pytest

from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.automation.shadow_report import shadow_report

V, E = "m@1", "e"


class Desk:
    def __init__(self, state: State) -> None:
        self.state = state
        self.number = 0
        self.judgement = 0

    def add(
        self,
        n: int,
        model: str,
        person: str,
        truth: str | None = None,
        *,
        source: str = "single",
        unit: str = "",
        blind: int = 1,
        level: str = "shadow",
        lottery: int = 0,
    ) -> None:
        with self.state.begin() as conn:
            for _ in range(n):
                self.number += 1
                key = f"i{self.number}"
                conn.execute(
                    t.review_items.insert().values(
                        id=key,
                        number=self.number,
                        endpoint=E,
                        kind="shadow",
                        state="resolved",
                        blind=blind,
                        required=1,
                        pending=0,
                        priority=0.0,
                        audit_prob=0.0,
                        unit=unit,
                        policy=1,
                        level=level,
                        version=V,
                        rollout=None,
                        arm="stable",
                        share=1.0,
                        lottery=lottery,
                        media_type="x",
                        created_us=self.number,
                        deadline_us=0,
                        resolved_us=1,
                        truth=json.dumps(truth or person),
                        source=source,
                        resolution=self.number,
                    )
                )
                conn.execute(
                    t.item_predictions.insert().values(
                        item=key,
                        version=V,
                        role="shadow",
                        value=json.dumps(model),
                        confidence=0.9,
                        regions="[]",
                        automated=0,
                        at_us=1,
                    )
                )
                self.judge(conn, key, "ann", person, blind=blind)

    def judge(
        self, conn, item: str, reader: str, value: str, *, blind: int = 1, supersedes: int | None = None,
        skip: str | None = None,
    ) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
        self.judgement += 1
        conn.execute(
            t.judgements.insert().values(
                item=item,
                reader=reader,
                role="reader",
                value=json.dumps(value),
                regions="[]",
                skip=skip,
                blind=blind,
                late=0,
                seconds=1.0,
                at_us=1,
                supersedes=supersedes,
                key=str(self.judgement),
            )
        )

    def report(self, since_us: int = 0) -> dict[str, object]:
        with self.state.read() as conn:
            return shadow_report(conn, E, V, since_us)


@pytest.fixture
def desk(state: State) -> Desk:
    return Desk(state)


def test_the_table_of_the_specification(desk: Desk) -> None:
    desk.add(960, "good", "good")
    desk.add(15, "good", "bad")
    desk.add(15, "bad", "good")
    desk.add(10, "bad", "bad")
    report = desk.report()
    assert report["agreement"] == pytest.approx(0.97)
    assert report["agreement_interval"] == pytest.approx((0.9574486, 0.9796695))
    assert report["kappa"] == pytest.approx(0.384615, abs=1e-6)
    assert report["ac1"] == pytest.approx(0.968463, abs=1e-6)
    assert report["specific"] == pytest.approx({"bad": 0.4, "good": 0.984615}, abs=1e-6)
    directions = {(d["model"], d["person"]): d["count"] for d in report["directions"]}  # type: ignore[index, union-attr]
    assert directions == {("good", "bad"): 15, ("bad", "good"): 15}
    assert "it is not known who was wrong" in str(report["sentence"])


def test_seen_and_score_selected_items_do_not_count(desk: Desk) -> None:
    desk.add(5, "good", "good")
    desk.add(7, "good", "bad", blind=0)
    desk.add(7, "good", "bad", level="partial")
    desk.add(2, "good", "good", level="partial", lottery=1)
    assert desk.report()["n"] == 7
    assert desk.report(since_us=desk.number - 1)["n"] == 2


def test_the_persons_own_error_is_told(desk: Desk) -> None:
    desk.add(80, "good", "good")
    desk.add(100, "good", "good", source="agreed")
    desk.add(12, "bad", "good", "bad", source="adjudicated")  # the person was wrong
    desk.add(8, "bad", "good", "good", source="adjudicated")  # the model was wrong
    report = desk.report()
    model, person = report["model_error"], report["person_error"]
    assert model["estimate"] == pytest.approx(0.1 * 8 / 20)  # type: ignore[index]
    assert person["estimate"] == pytest.approx(0.1 * 12 / 20)  # type: ignore[index]
    assert model["upper"] > 0.05  # type: ignore[index, operator]
    assert "the model was wrong in 8, the person in 12" in str(report["sentence"])


def test_shared_errors_are_unknown_without_reread_agreements(desk: Desk) -> None:
    desk.add(80, "good", "good")
    desk.add(20, "bad", "good", "bad", source="adjudicated")
    report = desk.report()
    assert report["model_error"]["estimate"] is None  # type: ignore[index]
    assert "error rates are not known" in str(report["sentence"])


def test_a_correction_replaces_the_first_reading(desk: Desk) -> None:
    desk.add(1, "good", "bad", "good", source="adjudicated")
    with desk.state.begin() as conn:
        desk.judge(conn, "i1", "bob", "bad")
        desk.judge(conn, "i1", "ann", "good", supersedes=1)
    assert desk.report()["agreement"] == 1.0


def test_a_reading_that_was_taken_back_does_not_count(desk: Desk) -> None:
    desk.add(1, "good", "bad", "good")
    with desk.state.begin() as conn:
        desk.judge(conn, "i1", "ann", "", skip="undo", supersedes=1)
        desk.judge(conn, "i1", "bob", "good")
    assert desk.report()["agreement"] == 1.0


def test_a_reading_after_an_undo_keeps_its_place(desk: Desk) -> None:
    desk.add(1, "good", "bad", "good", source="adjudicated")
    with desk.state.begin() as conn:
        desk.judge(conn, "i1", "ann", "", skip="undo", supersedes=1)
        desk.judge(conn, "i1", "ann", "good", supersedes=1)
        desk.judge(conn, "i1", "bob", "bad")
    assert desk.report()["agreement"] == 1.0


def test_repeated_units_need_a_bootstrap_over_units(desk: Desk) -> None:
    for line in range(40):
        desk.add(3, "good", "good" if line % 4 else "bad", unit=f"line{line}")
    report = desk.report()
    assert report["interval_method"] == "bootstrap over units"
    low, high = report["agreement_interval"]  # type: ignore[misc]
    assert low < 0.75 < high
    assert high - low > 0.2  # 40 units, not 120 items


def test_few_units_give_no_interval(desk: Desk) -> None:
    desk.add(50, "good", "good", unit="line1")
    desk.add(50, "good", "bad", unit="line2")
    report = desk.report()
    assert report["agreement_interval"] is None
    assert report["interval_method"] == "none: 2 units are too few"


def test_no_data_is_said(desk: Desk) -> None:
    report = desk.report()
    assert (report["agreement"], report["kappa"], report["ac1"]) == (None, None, None)
    assert "not been judged" in str(report["sentence"])
    json.dumps(report)


def test_one_class_leaves_kappa_undefined(desk: Desk) -> None:
    desk.add(10, "good", "good")
    report = desk.report()
    assert (report["kappa"], report["ac1"]) == (None, None)
