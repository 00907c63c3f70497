"""Routing and deciding hold for every input: shares, stickiness, and automation that only ever goes one way."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.deploy.decide import Draws, decide, decide_scores, draws, level_in_force, threshold
from tenure.deploy.router import Endpoint, Policy, Table, assign
from tenure.deploy.serving.predict.shadows import shadowed
from tenure.deploy.serving.predict.work import Lane
from tenure.model.answer import Scores
from tenure.seeds import request_draw
from tenure.types import Failed, Level, Prediction, Route

names = st.text(min_size=1, max_size=20)
requests = st.tuples(st.integers(1, 2**64 - 1), st.integers(0, 2**48 - 1))
shares = st.floats(0, 1)
confidences = st.one_of(st.none(), st.just(math.nan), st.floats(0, 1))
levels = st.sampled_from(Level)
drawn = st.builds(Draws, st.booleans(), st.booleans())
predictions = st.one_of(
    st.none(),
    st.builds(Failed, names),
    st.builds(Prediction, st.sampled_from(["good", "bad", None, 3, True]), confidences),
)
thresholds = st.dictionaries(
    st.sampled_from(["m@1", "m@2"]), st.dictionaries(st.sampled_from(["good", "bad", "*", "True"]), shares)
)
policies = st.builds(
    Policy, st.integers(0, 9), levels, thresholds, shares, shares, st.integers(0, 10), st.sampled_from(["p", "q"])
)
Assign = Literal["request", "unit", "unit_epoch"]
assigns: st.SearchStrategy[Assign] = st.sampled_from(["request", "unit", "unit_epoch"])
routes = st.builds(
    Endpoint, st.just("m@1"), st.just(Policy(1, Level.FULL)), st.one_of(st.none(), st.just("m@2")), shares,
    assign=assigns, salt=names, shadows=st.just(("s@1", "m@1")), shadow=shares,
)  # fmt: skip


# Who answers


@given(routes, requests, st.one_of(st.none(), names), st.integers(0, 10**15))
def test_an_assignment_names_the_chance_that_it_had(
    route: Endpoint, request: tuple[int, int], unit: str | None, now_ns: int
) -> None:
    got = assign(route, request=request, unit=unit, now_ns=now_ns)
    assert 0 < got.share <= 1
    assert got.version == (route.candidate if got.role == "candidate" else route.stable)
    if got.role == "candidate":
        assert got.share == route.share > 0
    else:
        assert route.candidate is None or got.share == 1 - route.share or route.share == 0
    assert assign(route, request=request, unit=unit, now_ns=now_ns) == got


@given(names, requests, names, shares, shares, assigns)
def test_a_growing_share_takes_nobody_away_from_the_candidate(
    salt: str, request: tuple[int, int], unit: str, one: float, other: float, how: Assign
) -> None:
    low, high = sorted((one, other))

    def role(share: float) -> str:
        route = Endpoint("m@1", Policy(1, Level.FULL), "m@2", share, assign=how, salt=salt)
        return assign(route, request=request, unit=unit, now_ns=0).role

    assert not (role(low) == "candidate" and role(high) == "stable")


@given(routes, names, st.lists(requests, min_size=2, max_size=5), st.integers(0, 10**15))
def test_a_unit_stays_with_its_version_for_the_whole_salt_or_epoch(
    route: Endpoint, unit: str, asked: list[tuple[int, int]], now_ns: int
) -> None:
    if route.assign == "request":
        return
    epoch_ns = int(route.epoch_s * 1e9)
    times = [now_ns // epoch_ns * epoch_ns, now_ns]
    versions = {assign(route, request=r, unit=unit, now_ns=t).version for r in asked for t in times}
    assert len(versions) == 1


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("how", ["request", "unit"])
def test_the_drawn_share_is_the_share(share: float, how: Assign) -> None:
    """Within five standard errors over 20,000 keys; keys are fixed, so the test is too."""
    route = Endpoint("m@1", Policy(1, Level.FULL), "m@2", share, assign=how, salt="ramp")
    n = 20_000
    roles = Counter(assign(route, request=(77, i), unit=f"u{i}", now_ns=0).role for i in range(n))
    assert abs(roles["candidate"] / n - share) < 5 * math.sqrt(share * (1 - share) / n)


def test_salts_and_purposes_are_drawn_independently() -> None:
    """Who is in the canary says nothing about who is audited, and a new salt deals anew."""
    n, share = 20_000, 0.5

    def canary(salt: str) -> list[bool]:
        route = Endpoint("m@1", Policy(1, Level.FULL), "m@2", share, salt=salt)
        return [assign(route, request=(77, i), unit=None, now_ns=0).role == "candidate" for i in range(n)]

    policy = Policy(1, Level.FULL, audit=share, blind=share, salt="a")
    dealt = [draws(policy, (77, i)) for i in range(n)]
    audited, blind = [d.audited for d in dealt], [d.blind for d in dealt]
    one, two = canary("a"), canary("b")
    for left, right in ((one, two), (one, audited), (one, blind), (audited, blind)):
        both = sum(a and b for a, b in zip(left, right, strict=True)) / n
        assert abs(both - share**2) < 5 * math.sqrt(share**2 * (1 - share**2) / n)


# Who decides


@given(predictions, policies, levels, drawn)
def test_nothing_is_automated_below_partial_without_an_answer_or_a_threshold(
    prediction: Prediction | Failed | None, policy: Policy, level: Level, draw: Draws
) -> None:
    ruling = decide(prediction, version="m@1", level=level, policy=policy, drawn=draw)
    if ruling.route == Route.AUTO:
        assert level >= Level.PARTIAL
        assert isinstance(prediction, Prediction)
        if level == Level.PARTIAL:
            bound = threshold(policy, "m@1", prediction)
            assert bound is not None
            assert prediction.confidence is not None
            assert prediction.confidence >= bound
    else:
        assert ruling.route == Route.PENDING
        assert not ruling.audited, "an audit is of an automated decision"
    assert ruling.reason


@given(predictions, policies, drawn, shares, shares)
def test_automation_is_monotone_in_confidence(
    prediction: Prediction | Failed | None, policy: Policy, draw: Draws, one: float, other: float
) -> None:
    if not isinstance(prediction, Prediction):
        return

    def automated(confidence: float) -> bool:
        sure = msgspec.structs.replace(prediction, confidence=confidence)
        return decide(sure, version="m@1", level=Level.PARTIAL, policy=policy, drawn=draw).route == Route.AUTO

    low, high = sorted((one, other))
    assert automated(low) <= automated(high)


@given(predictions, policies, drawn)
def test_automation_is_monotone_in_the_level(
    prediction: Prediction | Failed | None, policy: Policy, draw: Draws
) -> None:
    routes = [decide(prediction, version="m@1", level=lv, policy=policy, drawn=draw).route for lv in Level]
    automated = [route == Route.AUTO for route in routes]
    assert automated == sorted(automated)


@given(predictions, policies, levels, drawn)
def test_a_lottery_item_is_blind_and_the_draw_does_not_move_the_route(
    prediction: Prediction | Failed | None, policy: Policy, level: Level, draw: Draws
) -> None:
    rulings = {
        audited: decide(prediction, version="m@1", level=level, policy=policy, drawn=Draws(audited, draw.blind))
        for audited in (False, True)
    }
    assert rulings[False].route == rulings[True].route
    if level >= Level.PARTIAL:
        assert rulings[True].blind
    if rulings[True].route == Route.AUTO:
        assert rulings[True].audited
        assert not rulings[False].audited


@given(predictions, policies, drawn)
def test_up_to_shadow_every_judgement_is_blind(
    prediction: Prediction | Failed | None, policy: Policy, draw: Draws
) -> None:
    for level in (Level.HUMAN_ONLY, Level.SHADOW):
        assert decide(prediction, version="m@1", level=level, policy=policy, drawn=draw).blind


@given(
    policies,
    st.sampled_from([Level.PARTIAL, Level.FULL]),
    st.lists(st.lists(shares, min_size=2, max_size=2), min_size=1),
)
def test_many_answers_of_a_classifier_are_ruled_on_as_each_of_them(
    policy: Policy, level: Level, chances: list[list[float]]
) -> None:
    scores = Scores.of(("good", "bad"), np.array(chances))
    assert isinstance(scores, Scores)
    automated, reasons = decide_scores(scores, version="m@1", level=level, policy=policy)
    for i, prediction in enumerate(scores):
        ruling = decide(prediction, version="m@1", level=level, policy=policy, drawn=Draws(False, False))
        assert (ruling.route == Route.AUTO) == (automated is None or automated[i])
        assert ruling.reason == ("level full" if reasons is None else reasons[i])


@given(policies, st.integers(0, 20), st.booleans())
def test_time_and_a_lost_controller_only_ever_lower_the_level(policy: Policy, now_ns: int, watched: bool) -> None:
    now = level_in_force(policy, now_ns=now_ns, watched=watched)
    assert now <= policy.level
    assert now >= min(policy.level, Level.ASSIST)
    if not watched or 0 < policy.valid_until_ns <= now_ns:
        assert now <= Level.ASSIST
    else:
        assert now == policy.level
    assert level_in_force(policy, now_ns=now_ns + 1, watched=watched) <= now


@given(
    routes, levels, st.sampled_from([None, "m@1", "m@2", "s@1"]), st.integers(1, 2**64 - 1), st.integers(1, 30)
)
def test_a_shadow_answers_once_and_never_what_already_answered(
    route: Endpoint, level: Level, answered: str | None, run: int, n: int
) -> None:
    lane, seqs = Lane(answered, level=level), range(7, 7 + n)
    named = shadowed(route, lane, run=run, seqs=seqs)
    assert answered not in named
    assert set(named) <= {route.stable, *route.shadows}
    for version, chosen in named.items():
        assert len(set(chosen)) == len(chosen) <= n
        always = version == route.stable and level == Level.SHADOW
        if always or route.shadow >= 1.0:
            assert len(chosen) == n
        else:
            drawn = [
                i for i, seq in enumerate(seqs) if request_draw(f"shadow:{route.salt}", run, seq) < route.shadow
            ]
            assert list(chosen) == drawn
    if level == Level.SHADOW and answered is None:
        assert route.stable in named


@given(routes, policies)
def test_a_table_survives_its_file(route: Endpoint, policy: Policy) -> None:
    table = Table(1, 2, {"e": msgspec.structs.replace(route, policy=policy)})
    assert msgspec.json.decode(msgspec.json.encode(table), type=Table) == table
