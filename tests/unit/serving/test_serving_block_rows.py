"""A block's metrics are those that a single request of the same record gets."""

from __future__ import annotations

import numpy as np
import pytest

from tenure.deploy.serving.predict.block_rows import as_metrics

GOOD = np.random.default_rng(3).normal(size=(7, 4)).astype(np.float32).astype(np.float64)


def with_value(value: float, at: tuple[int, int] = (2, 1)) -> np.ndarray:
    values = GOOD.copy()
    values[at] = value
    return values


@pytest.mark.parametrize(
    "values", [GOOD, GOOD[:1], with_value(np.nan), np.full((3, 4), np.nan), with_value(-0.0)]
)
def test_float32_values_are_their_own_metrics(values: np.ndarray) -> None:
    found = as_metrics(values)
    assert found is not None
    assert found.flags.c_contiguous
    assert np.array_equal(found[1:], values.T, equal_nan=True)
    assert found[0].tolist() == np.isnan(values).mean(axis=1).astype(np.float32).tolist()


@pytest.mark.parametrize("value", [0.1, 1e300, -1e39, np.inf, 3.2e38, 2.0**24 + 1])
def test_what_float32_or_a_metric_would_change_needs_a_column_of_its_own(value: float) -> None:
    assert as_metrics(with_value(value)) is None
