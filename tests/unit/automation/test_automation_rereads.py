"""Claims against adjudicated truth through the service: second readings of agreements, words, price, recount."""

from __future__ import annotations

import json

import pytest
from test_automation_ledger import E, World, spec

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.automation import lineages, rereads
from tenure.deploy.automation.verify import Checked, verify
from tenure.deploy.review import terms
from tenure.deploy.review.store import draw
from tenure.scope import rules
from tenure.scope.project import CertificateSpec, Output, Project, Review, Scope, SecondReader


def endpoint(share: float = 1.0, *, bound: float = 0.02, labels: str = "fair"):  # type: ignore[no-untyped-def]
    plan = CertificateSpec(pilot=100, plan=2000, agreements=bound, labels=labels)  # type: ignore[arg-type]
    made = spec(certificate=plan)
    review = Review(second_reader=SecondReader(agreements=share))
    return type(made)(input="image", automation=made.automation, review=review)


@pytest.fixture
def world(state: State, clock: ManualClock) -> World:
    return World(state, clock, endpoint())


def read(world: World, ids: list[str], value: str = "good", *, blind: int = 1) -> None:
    """Give each item the first reading `value`."""
    rows = [
        {"item": item, "reader": "ann", "role": "reader", "value": json.dumps(value), "regions": "[]",
         "skip": None, "blind": blind, "late": 0, "seconds": 1.0, "at_us": 1,
         "supersedes": None, "key": f"k{item}"}
        for item in ids
    ]  # fmt: skip
    with world.state.begin() as conn:
        conn.execute(t.judgements.insert(), rows)


def counts(world: World) -> lineages.lineage.Counts:
    return lineages.counts_of(world.lineage())


def check(world: World, number: int = 1) -> Checked:
    with world.state.read() as conn:
        return verify(conn, number)


def opened(world: World) -> None:
    world.tick()
    world.judge(100)
    assert "grid" in world.tick()


def test_a_claim_against_adjudicated_truth(world: World) -> None:
    opened(world)
    read(world, world.judge(900, source="agreed"))
    assert "certified" in world.tick()
    row = world.rows(t.certificates)[0]
    assert row["reference"] == "adjudicated"
    assert "judged against adjudicated truth" in row["claim"]
    assert "agreements that a second person read blind (bounds 3 % and 2 %)" in row["claim"]
    assert check(world).match, check(world).difference
    with world.state.begin() as conn:
        conn.execute(t.judgements.update().where(t.judgements.c.item == "i150").values(value='"bad"'))
    assert "agreements read again, n" in str(check(world).difference)


def test_without_second_readings_there_is_no_claim_but_a_price(world: World) -> None:
    opened(world)
    world.judge(900)
    assert "certified" not in world.tick()
    assert "agreements read again" in world.lineage()["note"]
    (line,) = world.auto.report(E)["lineages"]
    assert line["agreements"] == {"bound": 0.02, "share": 1.0, "n": 0, "k": 0}


def test_an_agreement_that_nobody_read_again_counts_as_an_error(world: World) -> None:
    opened(world)
    read(world, world.judge(50, source="single"))
    world.tick()
    again = counts(world).rereads
    assert again is not None
    assert (again.n[-1], again.k[-1], len(again.gaps)) == (50, 50, 50)


def test_readings_that_saw_the_answer_or_differ_are_no_agreements(world: World) -> None:
    opened(world)
    read(world, world.judge(20, source="agreed"), blind=0)
    read(world, world.judge(20, source="adjudicated"), "bad")
    world.tick()
    assert counts(world).rereads == rereads.start(rereads.Rereads(0.02, 1.0), len(counts(world).n))


def test_the_share_is_drawn_as_the_queue_draws_it(state: State, clock: ManualClock) -> None:
    world = World(state, clock, endpoint(0.3))
    salt = terms.salt(state)
    opened(world)
    ids = world.judge(400, source="agreed")
    read(world, ids)
    world.tick()
    again = counts(world).rereads
    assert again is not None
    assert again.n[-1] == sum(draw(f"second:{salt}", item) < 0.3 for item in ids)


def test_an_item_that_waits_for_a_second_person_is_waited_for_longer(world: World, clock: ManualClock) -> None:
    opened(world)
    read(world, world.judge(1, state="judged"))
    world.judge(20)
    clock.advance(3600.0)
    world.judge(1)
    world.tick()
    assert counts(world).labels == 0
    clock.advance(90_000.0)
    world.tick()
    assert (counts(world).labels, counts(world).missing) == (22, 1)


def test_a_project_that_begins_to_ask_for_it_starts_anew(state: State, clock: ManualClock) -> None:
    world = World(state, clock, spec())
    world.certify()
    world.auto = type(world.auto)(state, {E: endpoint()})
    world.auto.progress.specs = {E: endpoint()}
    world.tick()
    assert {r["state"] for r in world.rows(t.certificates)} == {"lapsed"}
    assert counts(world).rereads is not None


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (endpoint(bound=0.05), "less than each bound"),
        (endpoint(labels="weighted"), "labels: fair"),
        (endpoint(0.0), "both shares above 0"),
    ],
)
def test_what_it_needs_is_said(made, fault: str) -> None:  # type: ignore[no-untyped-def]
    project = Project(project="p", scope=Scope(y=Output(labels=("good", "bad"))), endpoints={E: made})
    assert any(fault in f.message for f in rules.faults(project))


def test_old_evidence_is_read(world: World) -> None:
    assert lineages.counts_of_text('{"n":[3],"k":[0],"log_e":[0.0]}').rereads is None
