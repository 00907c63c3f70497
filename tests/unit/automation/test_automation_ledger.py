"""The automation service over real tables: from the first blind judgement to revocation."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.automation import levels, policies, standing
from tenure.deploy.automation.ledger import Automation
from tenure.deploy.decide import Draws, decide
from tenure.deploy.router import Policy
from tenure.errors import ConflictError, MissingError
from tenure.scope.project import Automation as Spec
from tenure.scope.project import CertificateSpec, EndpointSpec, Output, Side
from tenure.types import Level, Prediction

V = "phones@1"
E = "phones"
ITEM = {
    "endpoint": E,
    "required": 1,
    "pending": 0,
    "priority": 0.0,
    "audit_prob": 0.1,
    "unit": "",
    "policy": 1,
    "rollout": None,
    "arm": "stable",
    "share": 1.0,
    "media_type": "image/png",
    "deadline_us": 0,
}


def spec(**changes: object) -> EndpointSpec:
    automation = {
        "start": "shadow",
        "max": "partial",
        "errors": 0.05,
        "certificate": CertificateSpec(pilot=100, plan=1000),
    }
    return EndpointSpec(input="image", automation=Spec(**{**automation, **changes}))  # type: ignore[arg-type]


class World:
    """A project of one endpoint whose review tables the test fills."""

    def __init__(self, state: State, clock: ManualClock, endpoint: EndpointSpec, wait_s: float = 30.0) -> None:
        self.state, self.clock = state, clock
        self.auto = Automation(state, {E: endpoint}, wait_s=wait_s)
        self.number = 0
        self.rng = np.random.default_rng(7)

    def tick(self, *live: str, in_rollout: bool = False) -> list[str]:
        with self.state.begin() as conn:
            moves = self.auto.reconcile(conn, E, self.state.now_us(), live=live or (V,), in_rollout=in_rollout)
        self.check(live or (V,))
        return [m.kind for m in moves]

    def check(self, live: tuple[str, ...]) -> None:
        """No policy that was ever in force after a tick breaks an invariant."""
        with self.state.read() as conn:
            policy = policies.newest(conn, E)
            certified = standing.certified(conn, E)
        assert policy is not None
        assert levels.broken(policy, certified) == []

    def judge(
        self,
        n: int,
        *,
        error: float | Callable[[float], float] = 0.0,
        level: str = "shadow",
        version: str = V,
        said: str = "good",
        lottery: int = 0,
        blind: int = 1,
        automated: int = 0,
        state: str = "resolved",
        source: str = "single",
        score: float | None = None,
        segment: str = "",
    ) -> list[str]:
        """Add items that people have judged."""
        now, done = self.state.now_us(), state == "resolved"
        rows, answers = [], []
        for _ in range(n):
            self.number += 1
            s = float(self.rng.random()) if score is None else score
            rate = error(s) if callable(error) else error
            truth = "bad" if (said == "good") == (self.rng.random() < rate) else "good"
            item = {
                "id": f"i{self.number}",
                "number": self.number,
                "kind": "audit" if automated else "shadow",
                "state": state,
                "blind": blind,
                "level": level,
                "version": version,
                "lottery": lottery,
                "segment": segment,
                "created_us": now,
                "resolved_us": now if done else None,
                "truth": json.dumps(truth) if done else None,
                "source": source if done else None,
                "resolution": self.number if done else None,
            }
            rows.append({**ITEM, **item})
            answer = {
                "item": item["id"],
                "version": version,
                "confidence": s,
                "automated": automated,
                "at_us": now,
            }
            answers.append({"role": "primary", "value": json.dumps(said), "regions": "[]", **answer})
        with self.state.begin() as conn:
            conn.execute(t.review_items.insert(), rows)
            conn.execute(t.item_predictions.insert(), answers)
        return [str(row["id"]) for row in rows]

    def resolve(self, item: str, truth: str) -> None:
        i = t.review_items
        with self.state.begin() as conn:
            conn.execute(
                i.update()
                .where(i.c.id == item)
                .values(
                    state="resolved", truth=json.dumps(truth), source="single", resolved_us=self.state.now_us()
                )
            )

    def rows(self, table: sa.Table) -> list[sa.RowMapping]:
        with self.state.read() as conn:
            return list(conn.execute(sa.select(table).order_by(table.c.id)).mappings())

    def policy(self) -> policies.Policy:
        with self.state.begin() as conn:
            return self.auto.policy(conn, E)

    def lineage(self) -> sa.RowMapping:
        return self.rows(t.lineages)[-1]

    def certify(self) -> None:
        """Bring the version to a valid certificate and the level to partial."""
        self.tick()
        self.judge(100)
        self.tick()
        self.judge(300)
        self.judge(100, said="bad")
        assert "certified" in self.tick()
        self.auto.request(E, Level.ASSIST, "ann", approve=True)
        self.auto.request(E, Level.PARTIAL, "ann", approve=True)
        self.tick()
        assert self.policy().level == Level.PARTIAL


@pytest.fixture
def world(state: State, clock: ManualClock) -> World:
    return World(state, clock, spec())


def test_the_first_policy_comes_from_the_project(world: World) -> None:
    policy = world.policy()
    assert (policy.level, policy.thresholds, policy.audit) == (Level.SHADOW, {}, 0.1)
    assert world.policy().id == policy.id
    assert world.auto.level(E) == Level.SHADOW


def test_nothing_changes_without_news(world: World) -> None:
    world.tick()
    before = len(world.rows(t.policies)), len(world.rows(t.levels)), len(world.rows(t.lineages))
    assert world.tick() == []
    assert before == (len(world.rows(t.policies)), len(world.rows(t.levels)), len(world.rows(t.lineages)))


def test_the_pilot_fixes_the_grid_and_its_labels_do_not_count(world: World) -> None:
    world.tick()
    world.judge(99)
    assert "grid" not in world.tick()
    assert world.lineage()["note"] == "needs 1 more unlabelled scores of answers to fix its thresholds"
    world.judge(1)
    assert "grid" in world.tick()
    line = world.lineage()
    grid = json.loads(line["grid"])
    assert (line["state"], line["labels"], line["after_item"]) == ("open", 0, 100)
    assert grid == sorted(grid, reverse=True)
    assert grid[-1] == 0.0
    world.judge(10)
    world.tick()
    assert world.lineage()["labels"] == 10
    assert json.loads(world.lineage()["grid"]) == grid


def test_a_certificate_end_to_end(world: World) -> None:
    world.tick()
    world.judge(100)
    world.tick()
    world.judge(60, error=0.0)
    assert "certified" not in world.tick()
    report = world.auto.report(E)
    assert "more labels of answers at the present error rate" in report["lineages"][0]["note"]
    world.judge(400, error=lambda s: 0.3 * (s < 0.3))
    world.judge(60, said="bad")
    assert "certified" in world.tick()
    row = world.rows(t.certificates)[-1]
    assert (row["state"], row["version"], row["bound"]) == ("valid", V, 0.05)
    assert 0.0 < row["threshold"] < 1.0
    assert "against one blind reader" in row["claim"]
    assert f"{row['k']} errors in {row['n']} blind labels" in row["claim"]
    # No certificate moves a level by itself where people approve.
    assert world.auto.level(E) == Level.SHADOW
    with pytest.raises(ConflictError, match="one level at a time"):
        world.auto.request(E, Level.PARTIAL, "ann", approve=True)
    with pytest.raises(ConflictError, match="an operator has to approve"):
        world.auto.request(E, Level.ASSIST, "ann", approve=False)
    world.auto.request(E, Level.ASSIST, "ann", approve=True)
    world.auto.request(E, Level.PARTIAL, "ann", approve=True)
    world.tick()
    policy = world.policy()
    assert policy.level == Level.PARTIAL
    assert policy.thresholds == {V: {"*": row["threshold"]}}
    assert policy.valid_until_ns == row["expires_us"] * 1000
    with pytest.raises(ConflictError, match="at most partial"):
        world.auto.request(E, Level.FULL, "ann", approve=True)


def test_more_labels_supersede_by_a_bolder_threshold(world: World) -> None:
    world.tick()
    world.judge(100)
    world.tick()
    world.judge(230, error=lambda s: 0.15 * (s < 0.4))
    while not world.rows(t.certificates):
        world.judge(20, error=lambda s: 0.15 * (s < 0.4))
        world.tick()
    first = world.rows(t.certificates)[0]
    world.clock.advance(3600)
    for _ in range(60):
        world.judge(50, error=lambda s: 0.02 * (s < 0.4))
        world.tick()
    found = world.rows(t.certificates)
    assert len(found) > 1
    assert [r["state"] for r in found] == ["superseded"] * (len(found) - 1) + ["valid"]
    falling = [r["threshold"] for r in found]
    assert falling == sorted(falling, reverse=True)
    assert {r["expires_us"] for r in found} == {first["expires_us"]}  # one lineage, one life


def test_a_weak_model_stays_and_says_why(world: World) -> None:
    world.tick()
    world.judge(100)
    world.tick()
    world.judge(600, error=0.2)
    world.tick()
    assert world.rows(t.certificates) == []
    assert "no number of labels" in world.lineage()["note"]
    assert "no more about the truth" in world.auto.report(E)["why_not_higher"]
    world.judge(60, said="bad", error=0.2)
    world.tick()
    world.auto.request(E, Level.ASSIST, "ann", approve=True)
    assert "no number of labels" in world.auto.report(E)["why_not_higher"]
    with pytest.raises(ConflictError, match="no number of labels"):
        world.auto.request(E, Level.PARTIAL, "ann", approve=True)


def test_draw_order_waits_and_then_counts_the_missing_as_wrong(world: World) -> None:
    world.tick()
    world.judge(100)
    world.tick()
    (open_item,) = world.judge(1, state="open")
    world.judge(5)
    world.tick()
    assert world.lineage()["labels"] == 0  # the open one holds up the later ones
    world.clock.advance(29)
    world.tick()
    assert world.lineage()["labels"] == 0
    world.clock.advance(2)
    world.tick()
    counts = json.loads(world.lineage()["counts"])
    assert (world.lineage()["labels"], counts["k"][-1], counts["missing"]) == (6, 1, 1)
    world.resolve(open_item, "good")  # too late: its turn is over
    world.tick()
    assert json.loads(world.lineage()["counts"])["k"][-1] == 1


def test_an_open_item_that_nobody_overtook_is_not_missing(world: World) -> None:
    world.tick()
    world.judge(100)
    world.tick()
    (item,) = world.judge(1, state="open")
    world.clock.advance(3600)
    world.tick()
    assert world.lineage()["labels"] == 0
    world.resolve(item, "good")
    world.tick()
    assert json.loads(world.lineage()["counts"])["k"][-1] == 0


def test_many_missing_labels_forbid_a_certificate(world: World) -> None:
    world.tick()
    world.judge(100)
    world.tick()
    world.judge(120, state="expired", score=0.01)
    world.judge(1500, score=0.99)
    world.tick()
    assert world.rows(t.certificates) == []
    assert "missing" in world.lineage()["note"]


@pytest.mark.parametrize("kwargs", [{"level": "partial"}, {"level": "full"}, {"level": "assist", "blind": 0}])
def test_score_selected_or_seen_items_never_count(world: World, kwargs: dict[str, object]) -> None:
    """A7: at partial people see the unsure and the audited; those are no fair sample."""
    world.tick()
    world.judge(100)
    world.tick()
    world.judge(500, **kwargs)  # type: ignore[arg-type]
    world.judge(500, automated=1, **kwargs)  # type: ignore[arg-type]
    world.tick()
    assert world.lineage()["labels"] == 0
    assert world.rows(t.certificates) == []


def test_lottery_items_count_at_partial(world: World) -> None:
    world.tick()
    world.judge(100)
    world.tick()
    world.judge(300, level="partial")
    world.judge(40, level="partial", lottery=1)
    world.tick()
    assert world.lineage()["labels"] == 40


def test_lottery_items_that_were_not_blind_count_as_missing(world: World) -> None:
    world.tick()
    world.judge(100)
    world.tick()
    world.judge(900, level="partial", lottery=1)
    world.judge(100, level="partial", lottery=1, blind=0)
    world.tick()
    counts = json.loads(world.lineage()["counts"])
    assert (counts["missing"], world.lineage()["labels"]) == (100, 1000)


def test_a_certificate_lapses_and_the_level_drops_at_once(world: World) -> None:
    world.certify()
    world.clock.advance(8 * 86400)
    assert {"lapsed", "level", "policy"} <= set(world.tick())
    assert world.auto.level(E) == Level.ASSIST
    assert world.policy().thresholds == {}
    assert world.lineage()["labels"] == 0  # the new lineage starts from nothing, on the old grid
    assert world.lineage()["state"] == "open"


def test_audits_renew_a_certificate(world: World) -> None:
    world.certify()
    old = world.rows(t.certificates)[-1]
    world.clock.advance(4 * 86400)
    world.tick()
    assert json.loads(world.lineage()["counts"])["renewal"]
    world.judge(80, level="partial", automated=1, score=1.0)
    assert "renewed" in world.tick()
    new = world.rows(t.certificates)[-1]
    assert (new["state"], new["threshold"]) == ("valid", old["threshold"])
    assert new["expires_us"] > old["expires_us"]
    assert new["coverage"] == old["coverage"]
    world.clock.advance(4 * 86400)
    world.tick()
    assert world.auto.level(E) == Level.PARTIAL  # the old one's end passed


def test_silence_does_not_renew(world: World) -> None:
    world.certify()
    world.clock.advance(4 * 86400)
    world.tick()
    world.judge(500, level="partial", score=1.0)  # unsure items are no audits
    world.clock.advance(4 * 86400)
    world.tick()
    assert world.auto.level(E) == Level.ASSIST


def test_wrong_audits_revoke_and_lower_the_level(world: World) -> None:
    world.certify()
    world.judge(200, level="partial", automated=1, score=1.0, error=0.04)
    assert "revoked" not in world.tick()
    world.judge(60, level="partial", automated=1, score=1.0, error=0.4)
    assert {"revoked", "level"} <= set(world.tick())
    assert world.auto.level(E) == Level.ASSIST
    row = world.rows(t.certificates)[-1]
    assert (row["state"], row["audit_n"]) == ("revoked", 260)
    assert "audits contradict" in row["cause"]
    assert world.lineage()["state"] == "pilot"


def test_missing_audits_do_not_revoke(world: World) -> None:
    world.certify()
    world.judge(200, level="partial", automated=1, score=1.0, state="expired")
    world.tick()
    assert world.rows(t.certificates)[-1]["audit_n"] == 0
    assert world.auto.level(E) == Level.PARTIAL


def test_an_alarm_drops_the_level_and_starts_the_evidence_anew(world: World) -> None:
    world.certify()
    before = world.number
    with world.state.begin() as conn:
        moves = world.auto.drop(conn, E, Level.ASSIST, "brightness fell", "alarm 3")
    assert [m.kind for m in moves] == ["level"]
    assert world.policy().level == Level.ASSIST
    world.tick()
    assert world.rows(t.certificates)[-1]["state"] == "lapsed"
    assert world.lineage()["after_item"] >= before
    assert (world.lineage()["state"], world.lineage()["attempt"]) == ("pilot", 2)
    assert "100 more blind judgements" in world.auto.report(E)["why_not_higher"]
    with pytest.raises(ConflictError, match="more blind judgements"):
        world.auto.request(E, Level.PARTIAL, "ann", approve=True)


def test_drop_never_raises(world: World) -> None:
    world.tick()
    with world.state.begin() as conn:
        assert world.auto.drop(conn, E, Level.ASSIST, "alarm", "alarm 1") == []
    assert world.auto.level(E) == Level.SHADOW


def test_a_new_version_inherits_nothing(world: World) -> None:
    world.certify()
    world.tick(V, "phones@2")
    assert set(world.policy().thresholds) == {V}
    assert world.auto.level(E) == Level.PARTIAL
    world.tick("phones@2", V)  # promoted without a certificate of its own
    assert world.auto.level(E) == Level.ASSIST


def test_granted_candidates_use_the_thresholds_of_the_stable_version(world: World) -> None:
    world.certify()
    state = world.state
    with state.begin() as conn:
        world.auto.reconcile(conn, E, state.now_us(), live=(V, "phones@2"), in_rollout=True, granted=True)
    policy = world.policy()
    assert policy.thresholds["phones@2"] == policy.thresholds[V]


def test_audits_are_denser_in_a_rollout(world: World) -> None:
    world.certify()
    world.tick(V, in_rollout=True)
    assert world.policy().audit == 0.5
    world.tick(V)
    assert world.policy().audit == 0.1


def test_each_side_has_its_own_part_of_the_risk(state: State, clock: ManualClock) -> None:
    sides = {"good": Side(errors=0.05), "bad": Side(errors=0.1)}
    world = World(state, clock, spec(errors=None, sides=sides))
    world.tick()
    assert [(r["side"], r["bound"], round(r["delta"], 6)) for r in world.rows(t.lineages)] == [
        ("good", 0.05, 0.025),
        ("bad", 0.1, 0.025),
    ]
    world.judge(100)
    world.judge(100, said="bad")
    world.tick()
    world.judge(400)
    world.tick()
    assert [r["side"] for r in world.rows(t.certificates)] == ["good"]
    world.judge(100, said="bad")
    world.auto.request(E, Level.ASSIST, "ann", approve=True)
    world.auto.request(E, Level.PARTIAL, "ann", approve=True)
    world.tick()
    assert set(world.policy().thresholds[V]) >= {"good"}


def test_automatic_projects_climb_one_level_a_tick(state: State, clock: ManualClock) -> None:
    certificate = CertificateSpec(pilot=100, plan=1000, up="automatic")
    sides = {"good": Side(errors=0.05), "bad": Side(errors=0.05)}
    world = World(state, clock, spec(certificate=certificate, errors=None, sides=sides))
    world.tick()
    for said in ("good", "bad"):
        world.judge(100, said=said)
    world.tick()
    assert world.auto.level(E) == Level.ASSIST  # pilot items are blind judgements too
    for said in ("good", "bad"):
        world.judge(400, said=said)
    world.tick()
    assert world.auto.level(E) == Level.PARTIAL
    world.auto.request(E, Level.SHADOW, "ann", approve=True)  # a person's word holds
    world.tick()
    assert world.auto.level(E) == Level.SHADOW


def test_an_operators_move_is_audited(world: World) -> None:
    world.certify()
    world.auto.request(E, Level.HUMAN_ONLY, "ann", approve=True)
    assert world.policy().level == Level.HUMAN_ONLY  # A3: at once, not at the next tick
    row = world.rows(t.audit)[-1]
    assert (row["actor"], row["action"], json.loads(row["detail"])["to"]) == (
        "ann",
        "automation.level",
        "human_only",
    )


def test_full_needs_every_answer_certified(state: State, clock: ManualClock) -> None:
    endpoint = msgspec.structs.replace(spec(max="full"), output=Output(labels=("good", "bad")))
    world = World(state, clock, endpoint)
    world.certify()
    world.auto.request(E, Level.FULL, "ann", approve=True)
    world.tick()
    assert world.policy().level == Level.FULL
    world.tick(V, "phones@2")  # a version that has earned nothing must not decide everything
    assert world.policy().level == Level.PARTIAL
    assert set(world.policy().thresholds) == {V}


def test_pilot_scores_at_registration(world: World) -> None:
    scores = {"good": list(np.linspace(0.0, 1.0, 200)), "bad": [0.5] * 10}
    world.tick()
    world.judge(30)
    with world.state.begin() as conn:
        world.auto.seed_pilot(conn, E, V, scores)
    assert (world.lineage()["state"], world.lineage()["after_item"]) == ("open", 30)
    world.judge(5)
    world.tick()
    assert world.lineage()["labels"] == 5


def test_pilot_scores_in_the_manifest(world: World) -> None:
    with world.state.begin() as conn:
        manifest = json.dumps({"pilot_scores": {"good": list(np.linspace(0.0, 1.0, 200))}})
        conn.execute(
            t.versions.insert().values(
                id=V,
                endpoint=E,
                name="phones",
                sha="1",
                manifest=manifest,
                provenance="{}",
                state="live",
                created_us=0,
                created_by="ann",
            )
        )
    world.tick()
    assert world.lineage()["state"] == "open"


def test_a_project_without_bound_has_no_lineage(state: State, clock: ManualClock) -> None:
    world = World(state, clock, spec(errors=None))
    world.tick()
    world.judge(200)
    world.judge(100, said="bad")
    world.tick()
    assert world.rows(t.lineages) == []
    world.auto.request(E, Level.ASSIST, "ann", approve=True)
    with pytest.raises(ConflictError, match="no valid certificate"):
        world.auto.request(E, Level.PARTIAL, "ann", approve=True)


def test_unknown_endpoints_are_missing(world: World) -> None:
    with pytest.raises(MissingError):
        world.auto.level("tablets")


def test_the_report_is_json(world: World) -> None:
    world.certify()
    report = json.loads(json.dumps(world.auto.report(E)))
    assert (report["level"], report["version"], report["next"]) == ("partial", V, None)
    assert report["why_not_higher"] == "the project allows at most partial"
    curve = report["lineages"][0]["curve"]
    assert len(curve) > 10
    assert curve[-1]["share"] == 1.0
    assert all(p["upper"] >= p["k"] / max(p["n"], 1) for p in curve)
    assert report["certificates"][0]["claim"]
    assert [m["to_level"] for m in report["moves"]] == ["partial", "assist", "shadow"]


def test_a_drawn_item_is_blind_at_partial_whoever_decides() -> None:
    """Else blindness would depend on the score, and the lottery would be no fair sample."""
    policy = Policy(1, Level.PARTIAL, {V: {"*": 0.9}}, audit=0.3, blind=0.2, valid_until_ns=1)
    for confidence in (0.1, 0.95):
        for drawn in (Draws(audited=True, blind=False), Draws(audited=True, blind=True)):
            ruling = decide(
                Prediction("good", confidence), version=V, level=Level.PARTIAL, policy=policy, drawn=drawn
            )
            assert ruling.blind


def _reconcile(world: World) -> None:
    """Tick without the check of certificates: a declared level has none."""
    with world.state.begin() as conn:
        world.auto.reconcile(conn, E, world.state.now_us(), live=(V,), in_rollout=False)


def test_a_new_capability_that_starts_at_full_needs_no_certificate(state: State, clock: ManualClock) -> None:
    world = World(state, clock, spec(start="full", max="full", errors=None))
    _reconcile(world)
    assert world.policy().level == Level.FULL
    assert world.policy().valid_until_ns == 0
    with state.begin() as conn:
        world.auto.drop(conn, E, Level.ASSIST, "drift", "alarm")
    _reconcile(world)
    assert world.policy().level == Level.ASSIST
    world.auto.request(E, Level.FULL, "ann", True)
    _reconcile(world)
    assert world.policy().level == Level.FULL
