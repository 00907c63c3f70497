"""The drift bets against the specification's oracles, and their small print."""

from __future__ import annotations

import numpy as np
import pytest

from tenure.stats import detector
from tenure.stats.detector import Terms


def terms(**changes: float) -> Terms:
    return Terms(**{"threshold": 2000.0, "risk": 0.01 / 18, "bets": 18, "delay_rows": 1e5, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("k", "n", "bound"), [(50, 500, 0.150771), (2_000, 20_000, 0.107091)])
def test_upper_bound_oracle(k: int, n: int, bound: float) -> None:
    assert float(detector.clopper_pearson_upper(k, n, 0.01 / 18)) == pytest.approx(bound, abs=1e-6)


def test_upper_bound_of_everything_is_one() -> None:
    assert detector.clopper_pearson_upper([5, 0], [5, 5], 0.05).tolist() == pytest.approx([1.0, 1 - 0.05**0.2])


def test_bet_and_recursion_oracle() -> None:
    evidence = [float(detector.log_bet(c, 100, 0.1, 0.2)) for c in (10, 12, 25)]
    assert np.exp(evidence) == pytest.approx([0.0255019, 0.129103, 4890.02], rel=1e-5)
    log_m, seen = np.full((1, 1), -np.inf), []
    for log_e in evidence:
        log_m = detector.step(log_m, np.array([[log_e]]), [True])
        seen.append(float(np.exp(log_m[0, 0])))
    assert seen == pytest.approx([0.0255019, 0.132396, 5537.44], rel=1e-5)


def test_a_bet_without_rows_holds_its_value() -> None:
    log_m = np.array([[1.0] * 4, [2.0] * 4])
    after = detector.step(log_m, np.zeros((2, 4)), [False, True])
    assert after[0].tolist() == [1.0] * 4
    assert after[1].tolist() == pytest.approx([np.logaddexp(2.0, 0.0)] * 4)


def test_board_is_the_mean_of_what_is_armed() -> None:
    log_m = np.log(np.array([[1.0, 2.0, 3.0, 4.0], [1e6] * 4]))
    assert np.exp(detector.board(log_m, [True, False])) == pytest.approx(2.5)
    assert detector.board(log_m, [False, False]) == -np.inf


def test_nineteen_panes_are_refused_and_twenty_are_not() -> None:
    hits = np.full((20, 1), 10)
    rows = np.full((20, 1), 100)
    assert not detector.fit(hits[:19], rows[:19], terms()).armed.any()
    assert detector.fit(hits, rows, terms()).armed.all()


def test_a_reference_that_cannot_show_the_shift_says_how_many_rows_could() -> None:
    few = np.full((30, 1), 10.0)
    bets = detector.fit(few * 0.1, few, terms(delay_rows=20_000))
    assert not bets.armed[0]
    needed = float(bets.needed[0])
    assert 300 < needed < 100_000
    for factor, armed in ((0.98, False), (1.02, True)):
        rows = np.full((30, 1), factor * needed / 30)
        assert detector.fit(rows * 0.1, rows, terms(delay_rows=20_000)).armed[0] == armed


def test_no_reference_helps_when_there_is_too_little_traffic() -> None:
    bets = detector.fit(np.full((30, 1), 10), np.full((30, 1), 100), terms(delay_rows=50))
    assert not bets.armed[0]
    assert np.isinf(bets.needed[0])


def test_design_effect_sees_rows_that_hang_together() -> None:
    rng = np.random.default_rng(2)
    rows = np.full((400, 50), 100)
    alone = rng.binomial(100, 0.3, size=(400, 50))
    level = np.clip(0.3 + 0.1 * rng.normal(size=(400, 50)), 0.01, 0.99)
    together = rng.binomial(100, level)
    assert detector.design_effect(alone, rows).mean() < 2
    assert detector.design_effect(together, rows).mean() > 4
    assert detector.design_effect(np.zeros((400, 1)), rows[:, :1]).tolist() == [1.0]


def test_a_pane_within_the_bound_is_evidence_against_a_shift() -> None:
    evidence = detector.log_e([10, 30], [100, 100], [0.15, 0.15], [1.0, 2.0])
    assert evidence.shape == (2, 4)
    assert (evidence[0] < 0).all()
    assert evidence[1].max() > 0
