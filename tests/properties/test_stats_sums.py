"""Exact sums of means: neither order nor splitting changes a digit, and they are what the plain formula gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.stats.means import Sums, clustered_mean, mean_of_sums, row_sums, unit_sums

UNITS = st.lists(
    st.integers(1, 1000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n * 1_000_000))), max_size=30
)
ROWS = st.lists(st.integers(0, 1 << 20), max_size=40)


def summed(units: list[tuple[int, int]]) -> Sums:
    found = Sums()
    for n, y in units:
        found += unit_sums(n, y)
    return found


@given(UNITS, st.randoms())
@settings(deadline=None)
def test_order_changes_nothing_and_a_unit_that_grows_is_one_that_was_big(
    units: list[tuple[int, int]], rng: object
) -> None:
    mixed = list(units)
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    assert summed(mixed) == summed(units)
    grown = Sums()
    for n, y in units:
        half = (n // 2, y // 2)
        grown += unit_sums(*half)
        grown += unit_sums(n, y) - unit_sums(*half)
    assert grown == summed(units)


@given(UNITS)
@settings(deadline=None)
def test_exact_sums_give_the_clustered_mean(units: list[tuple[int, int]]) -> None:
    found = mean_of_sums(summed(units))
    plain = clustered_mean([n for n, _ in units], [y for _, y in units]) if units else None
    if found is None or plain is None:
        assert found is plain
        return
    assert found.value == pytest.approx(plain.value, rel=1e-9)
    assert found.units == plain.units
    scale = max(y / n for n, y in units) ** 2 * max(n for n, _ in units) ** 2 / sum(n for n, _ in units) ** 2
    assert found.variance == pytest.approx(plain.variance, rel=1e-6, abs=1e-9 * scale + 1e-12)
    if found.variance > 1e-6 * scale:
        assert found.effective == pytest.approx(plain.effective, rel=1e-3)


@given(ROWS, st.integers(0, 40))
@settings(deadline=None)
def test_rows_are_units_of_one_row_however_they_are_split(rows: list[int], at: int) -> None:
    values = np.array(rows, np.int64)
    assert row_sums(values) == summed([(1, v) for v in rows])
    assert row_sums(values[:at]) + row_sums(values[at:]) == row_sums(values)


def test_the_largest_batch_does_not_overflow() -> None:
    top, rows = 1 << 20, (1 << 22) - 1
    found = row_sums(np.full(rows, top, np.int64))
    assert (found.yy, found.ny3, found.y4) == (rows * top**2, rows * top**3, rows * top**4)
