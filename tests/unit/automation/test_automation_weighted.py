"""Weighted labels through the service: chances from the policy that the log names, extended while partial."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from test_automation_ledger import E, V, World, spec

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.automation import chances, lineages
from tenure.deploy.automation.verify import verify
from tenure.deploy.decide import Draws, decide
from tenure.deploy.router import Policy
from tenure.scope.project import Audit, CertificateSpec
from tenure.types import Level, Prediction, Route


@pytest.fixture
def world(state: State, clock: ManualClock) -> World:
    plan = CertificateSpec(pilot=100, plan=1000, labels="weighted")
    return World(state, clock, spec(certificate=plan, audit=Audit(steady=0.1, rollout=0.1), blind=0.2))


def counts(world: World) -> lineages.lineage.Counts:
    return lineages.counts_of(world.lineage())


@pytest.mark.parametrize("level", [Level.SHADOW, Level.ASSIST, Level.PARTIAL, Level.FULL])
@pytest.mark.parametrize("score", [0.2, 0.9])
def test_the_chance_is_that_of_the_draws(level: Level, score: float) -> None:
    """Over the four outcomes of both draws: what `decide` lets a person judge blind."""
    policy, found, automated = Policy(1, level, {V: {"*": 0.5}}, audit=0.1, blind=0.3), 0.0, False
    for audited, pa in ((True, 0.1), (False, 0.9)):
        for blind, pb in ((True, 0.3), (False, 0.7)):
            ruling = decide(
                Prediction("good", score), version=V, level=level, policy=policy, drawn=Draws(audited, blind)
            )
            automated = ruling.route == Route.AUTO
            judged = ruling.audited if automated else True
            found += pa * pb * (judged and ruling.blind)
    assert chances.of(policy, level, automated=automated) == pytest.approx(found)
    assert chances.ratio(policy, level, automated=automated) >= 1.0
    none = msgspec.structs.replace(policy, audit=0.0, blind=0.0)
    assert chances.ratio(none, level, automated=automated) == (1.0 if level == Level.SHADOW else np.inf)


def test_a_lineage_is_earned_and_extended_while_partial(world: World) -> None:
    world.tick()
    world.judge(100)
    assert "grid" in world.tick()
    assert counts(world).weighted
    world.judge(500, error=lambda s: 0.0 if s > 0.4 else 0.5)
    world.judge(100, said="bad")
    assert "certified" in world.tick()
    before = world.rows(t.certificates)[-1]
    assert "each weighted by one over its chance to be drawn" in before["claim"]
    for level in (Level.ASSIST, Level.PARTIAL):
        world.auto.request(E, level, "ann", approve=True)
    world.tick()
    world.judge(300, level="partial", automated=1, lottery=1)
    world.judge(1400, level="partial")
    world.tick()
    assert sorted({c.ratio for c in counts(world).cells}) == pytest.approx([1.0, 2.8])
    with world.state.read() as conn:
        for row in world.rows(t.certificates):
            assert verify(conn, row["id"]).match, verify(conn, row["id"]).difference


def test_verify_takes_the_chances_from_the_policies_of_the_log(world: World) -> None:
    world.tick()
    world.judge(100)
    world.tick()
    world.judge(150, level="partial", automated=1, lottery=1)
    world.judge(150, level="partial")
    assert "certified" in world.tick()
    with world.state.begin() as conn:
        policy = msgspec.json.decode(conn.execute(sa.select(t.policies.c.body)).scalars().first(), type=Policy)
        body = msgspec.json.encode(msgspec.structs.replace(policy, audit=0.2)).decode()
        conn.execute(t.policies.update().where(t.policies.c.id == policy.id).values(body=body))
        found = verify(conn, 1)
    assert not found.match
    assert "log e-value" in str(found.difference)


def test_items_without_a_policy_do_not_count(world: World) -> None:
    world.tick()
    world.judge(100)
    world.tick()
    ids = world.number
    world.judge(50)
    with world.state.begin() as conn:
        conn.execute(t.review_items.update().where(t.review_items.c.number > ids).values(policy=99))
    world.tick()
    assert counts(world).labels == 0
