"""Random histories of the level: the invariants A1, A2, A4 and A5 hold after every step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenure.deploy.automation import levels, policies
from tenure.deploy.decide import Draws, decide
from tenure.deploy.router import Policy
from tenure.scope.project import Audit, Automation
from tenure.types import Level, Prediction, Route

evidences = st.builds(
    levels.Evidence,
    version=st.sampled_from([None, "m@1"]),
    labels=st.integers(0, 300),
    informative=st.booleans(),
    certified=st.booleans(),
    complete=st.booleans(),
    audit=st.sampled_from([0.0, 0.1]),
    blind=st.sampled_from([0.0, 0.2]),
)
any_level = st.sampled_from(list(Level))


@given(any_level, any_level, evidences, any_level, st.booleans())
def test_up_is_one_level_with_evidence_and_approval(
    level: Level, to: Level, evidence: levels.Evidence, cap: Level, approved: bool
) -> None:
    if levels.climb(level, to, evidence, cap=cap, approved=approved).allowed:
        assert to == level + 1
        assert to <= cap
        assert approved
        assert levels.lacking(to, evidence) is None
        assert to < Level.PARTIAL or (evidence.certified and evidence.audit > 0)
        assert to < Level.ASSIST or evidence.blind > 0


@given(any_level, evidences, any_level)
def test_a_forced_move_goes_down_and_ends(level: Level, evidence: levels.Evidence, cap: Level) -> None:
    seen = 0
    while (move := levels.forced(level, evidence, cap=cap)) is not None:
        assert move[0] < level
        level, seen = move[0], seen + 1
        assert seen <= 4
    assert level <= cap
    assert level < Level.PARTIAL or evidence.certified


@given(st.lists(st.tuples(any_level, st.booleans(), evidences), max_size=30), any_level)
def test_no_history_automates_without_a_certificate(
    steps: list[tuple[Level, bool, levels.Evidence]], cap: Level
) -> None:
    level = Level.HUMAN_ONLY
    for to, approved, evidence in steps:
        if to < level or levels.climb(level, to, evidence, cap=cap, approved=approved).allowed:
            level = to
        while (move := levels.forced(level, evidence, cap=cap)) is not None:
            level = move[0]
        assert level < Level.PARTIAL or evidence.certified
        assert level < Level.FULL or evidence.complete
        assert level <= cap


sides = st.dictionaries(st.sampled_from(["good", "bad"]), st.floats(0.0, 1.0), min_size=1)
thresholds = st.dictionaries(st.sampled_from(["m@1", "m@2"]), sides)


@given(any_level, thresholds, st.integers(1, 2**40), st.booleans(), st.booleans())
def test_composed_policies_keep_the_invariants(
    level: Level, certified: dict[str, dict[str, float]], expires: int, in_rollout: bool, all_complete: bool
) -> None:
    if level >= Level.PARTIAL and not certified:
        return  # `forced` has lowered the level before a policy is composed
    policy = policies.compose(
        Automation(audit=Audit(steady=0.1, rollout=0.5)),
        level,
        endpoint="e",
        thresholds=certified,
        complete=dict.fromkeys(certified, all_complete),
        expires_us=expires,
        in_rollout=in_rollout,
    )
    assert levels.broken(policy, certified) == []
    assert policy.audit == (0.5 if in_rollout else 0.1)
    for to in Level:
        if to < policy.level:
            assert levels.broken(policies.lowered(policy, to), certified) == []


@given(any_level, thresholds, st.sampled_from(["m@1", "m@2", "m@3"]), st.floats(0.0, 1.0))
def test_what_is_automated_was_certified(
    level: Level, certified: dict[str, dict[str, float]], version: str, score: float
) -> None:
    """A4, A6 and A2 through the function that the workers run."""
    policy = policies.compose(
        Automation(),
        level,
        endpoint="e",
        thresholds=certified,
        complete=dict.fromkeys(("m@1", "m@2", "m@3"), False),
        expires_us=1,
        in_rollout=False,
    )
    ruling = decide(
        Prediction("good", score), version=version, level=policy.level, policy=policy, drawn=Draws(False, False)
    )
    if ruling.route == Route.AUTO:
        assert level >= Level.PARTIAL
        assert score >= certified[version]["good"]


def test_broken_policies_are_named() -> None:
    bare = Policy(1, Level.PARTIAL, {}, audit=0.0, blind=0.0)
    assert [fault[:2] for fault in levels.broken(bare, {})] == ["A1", "A5"]
    bold = Policy(1, Level.PARTIAL, {"m@1": {"*": 0.5}}, valid_until_ns=1)
    assert [fault[:2] for fault in levels.broken(bold, {"m@1": {"*": 0.6}})] == ["A2"]
    early = Policy(1, Level.SHADOW, {"m@1": {"*": 0.5}})
    assert [fault[:2] for fault in levels.broken(early, {})] == ["A4"]
