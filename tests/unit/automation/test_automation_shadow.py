"""The shadow report of each kind, on cases whose answer is known by counting."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
import shadow_cases as sc

from tenure.deploy.shadow import judges
from tenure.deploy.shadow.cases import Case, Said
from tenure.deploy.shadow.classes import Classification
from tenure.deploy.shadow.detections import Detection
from tenure.deploy.shadow.numbers import Regression
from tenure.deploy.shadow.page import page
from tenure.deploy.shadow.report import Report, compare, same_by
from tenure.deploy.shadow.settings import Settings, kind_of
from tenure.deploy.shadow.transcripts import Transcription
from tenure.errors import CaseError
from tenure.scope.project import Output, SecondReader
from tenure.types import Box


def report(cases: list[Case], **settings: object) -> Report:
    return compare(cases, "e", "m@1", settings=Settings(**settings), now_us=1)  # type: ignore[arg-type]


def spec_table() -> list[Case]:
    cells = [("good", "good")] * 960 + [("good", "bad")] * 15 + [("bad", "good")] * 15 + [("bad", "bad")] * 10
    order = np.random.default_rng(0).permutation(len(cells))
    return [sc.case(i, *cells[k]) for i, k in enumerate(order)]


def test_the_table_of_the_specification() -> None:
    found = report(spec_table(), labels=("good", "bad"))
    detail = found.detail
    assert isinstance(detail, Classification)
    assert found.agreement.value == 0.97
    assert (found.agreement.low, found.agreement.high) == pytest.approx((0.957446, 0.979669), abs=1e-5)
    assert [c.specific for c in detail.classes] == pytest.approx([0.984615, 0.4], abs=1e-6)
    assert detail.kappa is not None
    assert detail.ac1 is not None
    assert (detail.kappa.value, detail.ac1.value) == pytest.approx((0.384615, 0.968463), abs=1e-6)
    assert detail.kappa.low == pytest.approx(0.21, abs=0.02)
    assert detail.kappa.high == pytest.approx(0.56, abs=0.02)
    assert [(d.model, d.person, d.share.count) for d in detail.directions] == [
        ("good", "bad", 15), ("bad", "good", 15),
    ]  # fmt: skip


def test_one_class_leaves_chance_undefined() -> None:
    detail = report([sc.case(i, "good", "good") for i in range(50)]).detail
    assert isinstance(detail, Classification)
    assert (detail.kappa, detail.ac1) == (None, None)
    assert "not defined" in page(report([sc.case(i, "good", "good") for i in range(50)]))


def test_nobody_knows_who_was_wrong_until_items_are_read_again() -> None:
    found = report(spec_table())
    assert (found.judges.model.estimate, found.judges.mcnemar) == (None, None)
    assert (found.judges.once.outcome, found.judges.always.outcome) == ("no_data", "wait")
    assert "Nobody has read any" in found.sentences[1]


def test_the_error_of_both_from_what_was_read_again() -> None:
    cases = [sc.case(i, "good", "good", "good" if i < 100 else None) for i in range(180)]
    cases += [sc.case(180 + i, "bad", "good", "bad" if i < 12 else "good") for i in range(20)]
    j = report(cases).judges
    assert (j.model.estimate, j.person.estimate) == pytest.approx((0.1 * 8 / 20, 0.1 * 12 / 20))
    assert (j.model_alone, j.person_alone) == (8, 12)
    assert (j.disagreements.read, j.agreements.read, j.agreements.both_wrong) == (20, 100, 0)
    none_wrong = 1.0 - (0.05 / 3) ** (1 / 100)
    assert j.model.upper is not None
    assert j.model.upper > 0.9 * none_wrong


def test_agreements_drawn_for_another_versions_sake_are_a_stratum_of_their_own() -> None:
    other = [msgspec.structs.replace(sc.case(i, "x", "x", "y"), differed=True) for i in range(50)]
    plain = [sc.case(50 + i, "x", "x", "x" if i < 20 else None) for i in range(450)]
    found = judges.error([*other, *plain], same_by(Settings()), of="model")
    assert found.estimate == pytest.approx(0.1)  # and not 50 of 70 read again


def settings(**values: object) -> Settings:
    return Settings(margin=0.05, planned=300, **values)  # type: ignore[arg-type]


def ends(n: int, b: int, c: int, *, waiting: int = 0) -> list[Case]:
    told = [("bad", "good", "good")] * b + [("bad", "good", "bad")] * c + [("good", "good", None)] * (n - b - c)
    return [sc.case(i, m, p, None if i < waiting else t, waiting=i < waiting) for i, (m, p, t) in enumerate(told)]


def test_the_planned_look_is_one_look() -> None:
    same = same_by(Settings())
    early = judges.once(ends(200, 2, 4), same, settings())
    assert (early.outcome, early.labels_needed, early.statistic) == ("wait", 100, None)
    done = judges.once(ends(300, 2, 4), same, settings())
    later = judges.once([*ends(300, 2, 4), *ends(500, 400, 0)], same, settings())
    assert done == later
    assert done.outcome == "pass"
    failed = judges.once(ends(300, 14, 2), same, settings())
    assert failed.outcome == "wait"
    assert failed.labels_needed is not None
    assert failed.labels_needed > 300


def test_an_awaited_second_reading_counts_against_the_model() -> None:
    same = same_by(Settings())
    known, awaited = ends(300, 4, 10), ends(300, 4, 10, waiting=14)
    assert judges.once(known, same, settings()).statistic < judges.once(awaited, same, settings()).statistic
    assert judges.always(known, same, settings()).statistic > judges.always(awaited, same, settings()).statistic


def test_undrawn_disagreements_forbid_the_planned_look_and_not_the_bet() -> None:
    cases = [sc.case(i, "a", "b" if i % 20 == 0 else "a", "a" if i % 40 == 0 else None) for i in range(2000)]
    half = settings(second=SecondReader(disagreements=0.5))
    same = same_by(Settings())
    assert judges.once(cases, same, half).outcome == "no_data"
    assert judges.always(cases, same, half).outcome == "pass"


def test_what_is_needed_is_enough() -> None:
    same = same_by(Settings())
    few = ends(100, 1, 1)
    needed = judges.always(few, same, settings()).labels_needed
    assert needed is not None
    assert needed > 0
    times = 1 + needed // 100
    assert judges.always(few * (times + 1), same, settings()).outcome == "pass"
    assert judges.always(few * max(1, times - 1), same, settings()).outcome == "wait"


def test_a_worse_model_is_told_that_no_number_helps() -> None:
    found = report(ends(400, 60, 2), margin=0.05)
    assert found.judges.always.labels_needed is None
    assert "no number of judgements" in found.sentences[-1]


def test_one_item_of_each_unit_counts_in_tests() -> None:
    cases = [msgspec.structs.replace(c, unit=f"line{c.number % 40}") for c in ends(400, 5, 5)]
    found = report(cases)
    assert (found.items, found.units, found.judges.independent) == (400, 40, 40)
    assert found.agreement.method == "bootstrap over units"
    assert found.judges.always.items == 40


def test_boxes_are_counted_in_both_directions() -> None:
    pit, crack, far = Box(0, 0, 10, 10, "pit"), Box(0, 0, 10, 10, "crack"), Box(50, 50, 60, 60, "pit")
    model, person = Said("defect", (pit, far)), Said("defect", (crack,))
    found = report([sc.case(0, model, person, person), sc.case(1, Said("ok"), Said("ok"))], kind="detection")
    d = found.detail
    assert isinstance(d, Detection)
    assert (d.both, d.model_only, d.person_only, d.renamed[0].count) == (0, 1, 0, 1)
    assert (d.model.missed.count, d.model.false.count, d.person.missed.count) == (1, 2, 0)
    assert (found.agreement.count, d.pictures.count) == (1, 1)
    assert (found.judges.model_alone, found.judges.person_alone) == (1, 0)


def test_words_are_counted_in_both_directions() -> None:
    cases = [sc.case(0, "store in airtight jars", "store in air tight jars", "store in air tight jars")]
    cases += [sc.case(i, "Yes, please.", "yes please") for i in range(1, 3)]
    found = report(cases, kind="transcription")
    d = found.detail
    assert isinstance(d, Transcription)
    assert found.agreement.count == 2
    there, back = d.model_by_person, d.person_by_model
    assert (there.words, there.substituted, there.deleted, there.inserted) == (9, 1, 1, 0)
    assert (back.words, back.substituted, back.deleted, back.inserted) == (8, 1, 0, 1)
    assert (d.model_by_truth.rate, d.person_by_truth.rate) == (0.4, 0.0)
    assert (d.confusions[0].person, d.confusions[0].model) == ("tight", "airtight")


def test_numbers_differ_by_bias_and_limits() -> None:
    found = report(sc.numbers(400, bias=2.0, noise=1.0), kind="regression", tolerance=3.0)
    d = found.detail
    assert isinstance(d, Regression)
    assert d.differences is not None
    assert d.model is not None
    assert d.differences.bias.value == pytest.approx(2.0, abs=0.25)
    assert d.differences.upper.value - d.differences.lower.value == pytest.approx(2 * 1.96 * 2**0.5, rel=0.1)
    assert d.model.bias.value == pytest.approx(2.0, abs=0.2)
    assert found.judges.model.estimate > found.judges.person.estimate  # type: ignore[operator]


class Checked(HTMLParser):
    """Collects what a page loads, and whether its tags are closed."""

    VOID = frozenset({"meta", "line", "circle", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loads += [v or "" for k, v in attrs if k in ("src", "href")] + (
            ["script"] if tag == "script" else []
        )
        if tag == "svg":
            self.images += 1
            assert found["role"] == "img"
            assert found["aria-label"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed by itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def every_kind() -> dict[str, Report]:
    rng = np.random.default_rng(3)
    true = [tuple(Box(x, y, x + 30, y + 30, "open") for x, y in rng.uniform(0, 280, (2, 2))) for _ in range(40)]
    drawn = [[sc.picture(rng, b, lose=0.2, rename=0.2, extra=0.3) for b in true] for _ in range(2)]
    boxes = [(a, b, Said("defect", t)) for a, b, t in zip(*drawn, true, strict=True)]
    texts = [(f"one two {w}", "one two three", "one two three") for w in ("three", "tree", "") for _ in range(15)]
    return {
        "classification": report(sc.classes(400, model=0.05, person=0.08, labels=("cat", "<dog>", "ship"))),
        "detection": report(sc.judged(boxes, agreements=0.5), kind="detection"),
        "transcription": report(sc.judged(texts, agreements=0.5), kind="transcription"),
        "regression": report(sc.numbers(60, bias=1.0, noise=0.5), kind="regression", tolerance=1.0),
        "nothing": report([]),
    }


@pytest.mark.parametrize("kind", ["classification", "detection", "transcription", "regression", "nothing"])
def test_every_report_is_json_and_a_page_of_its_own(kind: str) -> None:
    found = every_kind()[kind]
    data = msgspec.json.encode(found)
    assert json.loads(data)["format"] == "tenure-shadow-report/1"
    assert msgspec.json.decode(data, type=Report) == found
    checked = Checked()
    checked.feed(page(found))
    assert (checked.open, checked.loads) == ([], [])
    assert checked.images > 0 or kind == "nothing"
    assert "<dog>" not in page(found)


def test_a_kind_follows_from_the_output() -> None:
    assert kind_of(Output(labels=("a", "b"), regions="box")) == "detection"
    assert [kind_of(Output(kind=k)) for k in ("label", "number", "text")] == [
        "classification", "regression", "transcription",
    ]  # fmt: skip
    with pytest.raises(CaseError, match="at least 300"):
        Settings(planned=20).check()
