"""Profiles merge as if all values had been seen together; alarms never promote or come back from the dead."""

from __future__ import annotations

from typing import get_args

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import binom

from tenure.monitor import profile
from tenure.monitor.alarms import AlarmState, Sign, advance
from tenure.monitor.profile import Profile
from tenure.stats import detector

numbers = st.lists(st.floats(width=32) | st.sampled_from([0.0, 1.0, float("nan")]), max_size=30)


def counted(found: Profile) -> tuple[object, ...]:
    return found.n, found.missing, found.low, found.high, found.cells.tolist(), found.counts.tolist(), found.tag


@given(numbers, numbers)
def test_merging_equals_seeing_both(a: list[float], b: list[float]) -> None:
    merged, whole = Profile.of(a) + Profile.of(b), Profile.of(a + b)
    assert counted(merged) == counted(whole)
    assert np.isclose(merged.total, whole.total, rtol=1e-9, equal_nan=True) or not np.isfinite(whole.total)


@given(numbers, numbers, st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50))
def test_merging_and_counting_on_edges_commute(a: list[float], b: list[float], reference: list[float]) -> None:
    edges = profile.learn_edges(Profile.of(reference))
    early = Profile.of(a).on(edges) + Profile.of(b).on(edges)
    late = (Profile.of(a) + Profile.of(b)).on(edges)
    dense = late.dense(edges)
    assert dense is not None
    assert early.dense(edges) is not None
    assert np.array_equal(early.dense(edges), dense)  # type: ignore[arg-type]
    assert dense.sum() == late.n


@given(numbers)
def test_a_profile_survives_storage(a: list[float]) -> None:
    found = Profile.of(a)
    again = Profile.unpack((found.n, found.missing, found.total, found.low, found.high), found.pack())
    assert counted(again) == counted(found)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=50))
def test_the_grid_keeps_order(values: list[float]) -> None:
    ordered = sorted(values)
    keys = profile.keys(ordered)
    assert (np.diff(keys) >= 0).all()


@given(st.lists(st.sampled_from(get_args(Sign)), max_size=20))
def test_a_resolved_alarm_stays_resolved(signs: list[Sign]) -> None:
    state: AlarmState = "inactive"
    for sign in signs:
        after = advance(state, sign)
        assert state != "resolved" or after == "resolved"
        assert state in ("inactive", after) or after != "inactive"
        assert not (state == "acknowledged" and after == "firing")
        state = after


@given(st.integers(0, 100), st.floats(0.01, 0.95), st.floats(1, 20))
def test_more_rows_in_the_tail_never_lower_the_evidence(hits: int, bound: float, deff: float) -> None:
    low = detector.log_e([min(hits, 99)], [100], [bound], [deff])
    high = detector.log_e([min(hits, 99) + 1], [100], [bound], [deff])
    assert (high > low).all()


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.integers(1, 200))
def test_a_bet_is_fair_at_its_bound(bound: float, n: int) -> None:
    """The e-value's mean is 1 when the share is exactly the bound (and less below it)."""
    k = np.arange(n + 1)
    evidence = np.array([detector.log_e([x], [n], [bound], [1.0])[0] for x in k])
    log_mean = logsumexp(binom.logpmf(k, n, bound)[:, None] + evidence, axis=0)
    assert np.allclose(log_mean, 0.0, atol=1e-6)
