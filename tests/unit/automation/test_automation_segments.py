"""Degrees of automation per segment: each earns, keeps and loses its level by its own labels."""

from __future__ import annotations

import json

import msgspec
import pytest
import sqlalchemy as sa
from test_automation_ledger import E, V, World, spec

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.automation import certificates, levels, lineages, policies, standing
from tenure.deploy.automation.shadow_report import shadow_report
from tenure.deploy.automation.verify import verify
from tenure.deploy.shadow import report
from tenure.deploy.shadow.page import page
from tenure.deploy.shadow.settings import Settings
from tenure.errors import ConflictError, MissingError
from tenure.scope.project import EndpointSpec, Segments, SegmentSpec
from tenure.types import Level

JUDGED = {"regions": "[]", "skip": None, "blind": 1, "late": 0, "seconds": 1.0, "at_us": 1, "supersedes": None}
AB = Segments(by="unit", values={"A": SegmentSpec(), "B": SegmentSpec()})


class Lines(World):
    """A project whose lines A and B have levels of their own."""

    def policy_of(self, segment: str) -> policies.Policy:
        with self.state.begin() as conn:
            return self.auto.policy(conn, E, segment)

    def line(self, segment: str) -> sa.RowMapping:
        return next(row for row in reversed(self.rows(t.lineages)) if row["segment"] == segment)

    def certify_line(self, segment: str) -> None:
        """Bring one line to a valid certificate and to partial."""
        self.tick()
        self.judge(100, segment=segment)
        self.tick()
        self.judge(300, segment=segment)
        self.judge(100, said="bad", segment=segment)
        assert "certified" in self.tick()
        self.auto.request(E, Level.ASSIST, "ann", True, segment)
        self.auto.request(E, Level.PARTIAL, "ann", True, segment)
        self.tick()

    def levels(self) -> dict[str, str]:
        return {s: self.auto.level(E, s).word for s in self.auto.segments(E)}

    def check(self, live: tuple[str, ...]) -> None:
        """No policy of any segment that is in force after a tick breaks an invariant."""
        with self.state.read() as conn:
            for segment in self.auto.segments(E):
                policy = policies.newest(conn, E, segment)
                assert policy is not None
                assert policy.segment == segment
                assert levels.broken(policy, standing.certified(conn, E, segment)) == []


def promise(segments: Segments | None = AB, **changes: object) -> EndpointSpec:
    return spec(segments=segments, **changes)


@pytest.fixture
def world(state: State, clock: ManualClock) -> Lines:
    return Lines(state, clock, promise())


def again(world: Lines, endpoint: EndpointSpec) -> Lines:
    """Serve the same state with another project."""
    other = Lines(world.state, world.clock, endpoint)
    other.number = world.number
    return other


def test_one_line_earns_automation_and_lifts_no_other(world: Lines) -> None:
    world.certify_line("A")
    assert world.levels() == {"": "shadow", "A": "partial", "B": "shadow"}
    assert world.policy_of("A").thresholds[V]
    assert world.policy_of("B").thresholds == {}
    assert world.policy_of("").thresholds == {}
    (row,) = world.rows(t.certificates)
    assert (row["segment"], row["state"]) == ("A", "valid")
    assert f"the answers of {V} for unit 'A' with confidence" in row["claim"]
    assert world.line("B")["labels"] == world.line("")["labels"] == 0
    with pytest.raises(ConflictError, match="needs 100 more blind judgements"):
        world.auto.request(E, Level.ASSIST, "ann", True, "B")


def test_policies_of_segments_have_numbers_of_their_own_that_name_the_segment(world: Lines) -> None:
    world.tick()
    numbers = {s: world.policy_of(s).id for s in ("", "A", "B")}
    assert len(set(numbers.values())) == 3
    with world.state.read() as conn:
        assert {s: policies.segment_of(conn, n) for s, n in numbers.items()} == {"": "", "A": "A", "B": "B"}
        assert policies.segment_of(conn, 99) == ""


def test_audits_of_one_line_revoke_its_certificate_alone(world: Lines) -> None:
    world.certify_line("A")
    world.certify_line("B")
    assert world.levels() == {"": "shadow", "A": "partial", "B": "partial"}
    before = world.policy_of("B")
    world.judge(60, level="partial", automated=1, segment="A", error=0.9, score=0.99)
    world.judge(60, level="partial", automated=1, segment="B", score=0.99)
    assert "revoked" in world.tick()
    assert world.levels() == {"": "shadow", "A": "assist", "B": "partial"}
    states = [(r["segment"], r["state"]) for r in world.rows(t.certificates)]
    assert ("A", "revoked") in states
    assert ("B", "valid") in states
    assert ("B", "revoked") not in states
    assert world.policy_of("B").thresholds == before.thresholds
    assert world.policy_of("A").thresholds == {}


def test_each_certificate_of_a_segment_is_computed_again_from_its_own_items(world: Lines) -> None:
    world.certify_line("A")
    world.judge(50, segment="B", error=1.0)
    with world.state.read() as conn:
        for row in world.rows(t.certificates):
            assert verify(conn, row["id"]).match
    with world.state.begin() as conn:
        conn.execute(t.certificates.update().values(segment="B"))
    with world.state.read() as conn:
        assert not verify(conn, 1).match


def test_an_alarm_of_the_endpoint_starts_the_evidence_of_all_lines_anew(world: Lines) -> None:
    world.certify_line("A")
    with world.state.begin() as conn:
        moves = world.auto.drop(conn, E, Level.ASSIST, "drift", "alarm")
    assert [(m.segment, m.kind) for m in moves] == [("A", "level")]
    assert world.levels() == {"": "shadow", "A": "assist", "B": "shadow"}
    with world.state.read() as conn:
        assert certificates.in_force(conn, E, "A") == []
        assert [r["labels"] for s in ("", "A", "B") for r in lineages.opened(conn, E, segment=s)] == [0, 0, 0]


def test_an_alarm_about_one_line_drops_that_line(world: Lines) -> None:
    world.certify_line("A")
    world.certify_line("B")
    with world.state.begin() as conn:
        world.auto.drop(conn, E, Level.HUMAN_ONLY, "new coating", "ann", segment="B")
    world.tick()
    assert world.levels() == {"": "shadow", "A": "partial", "B": "human_only"}


def test_an_item_that_nobody_read_is_not_overtaken_by_another_line(world: Lines) -> None:
    world.tick()
    world.judge(100, segment="A")
    world.tick()
    (waiting,) = world.judge(1, state="open", segment="A")
    world.judge(20, segment="A")
    world.judge(20, segment="B")
    world.tick()
    assert world.line("A")["labels"] == 0
    i = t.review_items
    with world.state.begin() as conn:  # the later ones of A are open too: only B was read on
        conn.execute(i.update().where(i.c.segment == "A", i.c.number > 101).values(state="open", truth=None))
    world.clock.advance(3600.0)
    world.tick()
    assert lineages.counts_of(world.line("A")).missing == 0
    world.resolve(waiting, "good")
    world.tick()
    assert world.line("A")["labels"] == 1


def test_a_line_without_cases_does_not_look_at_those_of_the_others_again(world: Lines) -> None:
    world.tick()
    world.judge(300, segment="A")
    world.clock.advance(60.0)
    world.tick()
    assert world.line("B")["last_item"] == world.line("")["last_item"] == 300
    assert world.line("B")["state"] == "pilot"
    world.judge(100, segment="B")
    assert "grid" in world.tick()
    assert world.line("B")["after_item"] == 400


def test_a_segment_starts_where_its_endpoint_stands_but_inherits_no_automation(
    state: State, clock: ManualClock
) -> None:  # fmt: skip
    before = Lines(state, clock, promise(None))
    before.certify()
    assert before.levels() == {"": "partial"}
    world = again(
        before, promise(Segments(by="unit", values={"A": SegmentSpec(), "B": SegmentSpec(max="shadow")}))
    )
    world.tick()
    assert world.levels() == {"": "assist", "A": "assist", "B": "shadow"}
    (row,) = world.rows(t.certificates)
    assert row["state"] == "lapsed"
    assert "other segments" in row["cause"]
    assert lineages.counts_of(world.line("")).population == "unit none of 'A', 'B'"


def test_a_state_without_segments_goes_on_as_it_was(state: State, clock: ManualClock) -> None:
    world = Lines(state, clock, promise(None))
    world.certify()
    assert {r["segment"] for table in (t.levels, t.policies, t.lineages) for r in world.rows(table)} == {""}
    assert "population" not in world.line("")["counts"], "stored counts are as before"
    again(world, promise(None)).tick()
    assert world.levels() == {"": "partial"}


def test_what_was_earned_for_a_segment_ends_when_the_project_names_it_no_more(world: Lines) -> None:
    world.certify_line("A")
    only_b = again(world, promise(Segments(by="unit", values={"B": SegmentSpec()})))
    only_b.tick()
    (row,) = only_b.rows(t.certificates)
    assert (row["state"], row["cause"]) == ("lapsed", "the project has no such segment any more")
    back = again(only_b, promise())
    back.tick()
    assert back.levels()["A"] == "assist"


def test_a_field_of_the_same_values_is_another_population(world: Lines) -> None:
    world.certify_line("A")
    fields = msgspec.structs.replace(promise(msgspec.structs.replace(AB, by="line")))
    other = again(world, fields)
    other.tick()
    assert other.levels()["A"] == "assist"
    assert [r["state"] for r in other.rows(t.certificates)] == ["lapsed"]


def test_a_segment_has_a_bound_and_a_top_of_its_own(state: State, clock: ManualClock) -> None:
    values = {"A": SegmentSpec(errors=0.2), "B": SegmentSpec(max="assist")}
    world = Lines(state, clock, promise(Segments(by="unit", values=values)))
    world.tick()
    assert {s: world.line(s)["bound"] for s in ("", "A", "B")} == {"": 0.05, "A": 0.2, "B": 0.05}
    for segment in ("A", "B"):
        world.judge(100, segment=segment)
        world.tick()
        world.judge(150, segment=segment, error=0.02)
        world.judge(60, segment=segment, said="bad", error=0.02)
    world.tick()
    for segment in ("A", "B"):
        world.auto.request(E, Level.ASSIST, "ann", True, segment)
    world.auto.request(E, Level.PARTIAL, "ann", True, "A")
    with pytest.raises(ConflictError, match="the project allows at most assist"):
        world.auto.request(E, Level.PARTIAL, "ann", True, "B")


def test_every_move_keeps_the_evidence_that_it_rests_on(world: Lines) -> None:
    world.certify_line("A")
    moves = [json.loads(r["numbers"]) for r in world.rows(t.levels) if r["segment"] == "A"]
    assert [m["hold"] for m in moves] == [False] * 3
    assert "evidence" not in moves[0], "the start of the project rests on none"
    assert moves[1]["evidence"]["labels"] >= 100
    assert moves[2]["evidence"]["certified"]
    assert moves[2]["certificates"] == [1]


def test_the_report_has_a_row_for_each_segment_and_says_what_all_promise(world: Lines) -> None:
    world.certify_line("A")
    page = world.auto.report(E, "A")
    assert (page["level"], page["by"], len(page["certificates"])) == ("partial", "unit", 1)
    assert {m["segment"] for m in page["moves"]} == {"A"}
    rows = {row["segment"]: row for row in page["segments"]}
    assert {s: rows[s]["level"] for s in rows} == {"": "shadow", "A": "partial", "B": "shadow"}
    assert rows["A"]["certificates"] == 1
    assert rows["B"]["next"] == "assist"
    assert "100 more blind judgements" in rows["B"]["why_not_higher"]
    assert "3 promises" in page["promise"]
    assert "85 %" in page["promise"]
    assert world.auto.report(E)["certificates"] == []


def test_a_certificate_that_waits_for_an_operator_is_named_until_somebody_decides(world: Lines) -> None:
    def ready() -> dict[str, int]:
        with world.state.read() as conn:
            return world.auto.ready(conn, E)

    world.certify_line("A")
    assert ready() == {}
    with world.state.begin() as conn:
        world.auto._set_level(conn, E, Level.ASSIST, author="tenure", cause="test", segment="A")
    assert ready() == {"A": world.rows(t.certificates)[0]["issued_us"]}
    world.auto.request(E, Level.SHADOW, "ann", False, "A")
    world.auto.request(E, Level.ASSIST, "ann", True, "A")
    assert list(ready()) == ["A"]
    world.auto.request(E, Level.PARTIAL, "ann", True, "A")
    world.auto.request(E, Level.ASSIST, "ann", False, "A")
    assert ready() == {}, "a person has just said no"


def test_the_comparison_with_people_is_made_for_one_line_or_for_all(world: Lines) -> None:
    world.tick()
    said = dict.fromkeys(world.judge(30, segment="A"), '"good"')
    said |= dict.fromkeys(world.judge(10, segment="B"), '"bad"')
    people = [
        {"item": i, "reader": "ann", "role": "reader", "value": v, "key": i} | JUDGED for i, v in said.items()
    ]
    with world.state.begin() as conn:
        conn.execute(t.judgements.insert(), people)
    with world.state.read() as conn:
        found = {s: shadow_report(conn, E, V, segment=s) for s in (None, "A", "B", "")}
        whole = report.shadow_report(conn, E, V, settings=Settings(), now_us=1, segment="B")
    assert {s: (f["n"], f["agreement"]) for s, f in found.items() if f["n"]} == {
        None: (40, 0.75), "A": (30, 1.0), "B": (10, 0.0),
    }  # fmt: skip
    assert (whole.items, whole.segment) == (10, "B")
    assert "<h1>Shadow report: phones/B" in page(whole)


def test_a_segment_that_is_not_named_is_refused_with_those_that_are(world: Lines) -> None:
    with pytest.raises(MissingError, match="no segment 'C' of phones; there are A, B"):
        world.auto.request(E, Level.HUMAN_ONLY, "ann", True, "C")
    with pytest.raises(MissingError, match="the endpoint has none"):
        again(world, promise(None)).auto.report(E, "A")


def test_decisions_end_the_certificate_of_their_own_segment(world: Lines) -> None:
    world.certify_line("A")
    with world.state.begin() as conn:
        certificates.count_decisions(conn, E, V, 5)
        certificates.count_decisions(conn, E, V, 7, segment="A")
    assert world.rows(t.certificates)[0]["decided"] == 7
