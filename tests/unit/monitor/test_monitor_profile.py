"""Counts on the grid and on edges."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from monitor_rows import LABELS, rows, spec

from tenure.data import frames
from tenure.data.records import Flag, Status, prediction_schema
from tenure.monitor import profile
from tenure.monitor.measure import Cell, measure, rows_of, stable_version
from tenure.monitor.profile import Profile
from tenure.scope.project import Output


def test_missing_values_stand_apart() -> None:
    found = Profile.of([1.0, np.nan, np.inf, 3.0])
    assert (found.n, found.missing, found.total, found.low, found.high) == (2, 2, 4.0, 1.0, 3.0)


def test_an_empty_profile_has_no_mean() -> None:
    assert np.isnan(Profile.of([]).mean)
    assert np.isnan(profile.quantile(Profile.empty(), 0.5))


@pytest.mark.parametrize("x", [0.0, 1.0, -1.0, 0.45, 118.3, -87.25, 1e-20, 3e30])
def test_a_grid_cell_is_narrow_and_keeps_order(x: float) -> None:
    low, high = profile.value(int(profile.keys([x])[0])), profile.value(int(profile.keys([x])[0]) + 1)
    assert low <= np.float32(x) < high
    assert high - low <= abs(x) * 0.008 + 1e-38


def test_minus_zero_is_zero() -> None:
    assert profile.keys([-0.0]).tolist() == profile.keys([0.0]).tolist()


def test_edges_split_a_reference_into_about_equal_cells() -> None:
    reference = Profile.of(np.random.default_rng(0).normal(120, 10, 10_000))
    edges = profile.learn_edges(reference)
    dense = reference.dense(edges)
    assert dense is not None
    assert (dense[0], dense[-1]) == (0, 0)
    assert len(dense) == 12
    assert dense[1:-1].min() > 700
    assert dense[1:-1].max() < 1_300


def test_what_the_reference_never_saw_lies_in_the_outer_cells() -> None:
    edges = profile.learn_edges(Profile.of(np.arange(100.0, 200.0)))
    dense = Profile.of([5.0, 150.0, 900.0, 950.0]).dense(edges)
    assert dense is not None
    assert (dense[0], dense[-1], dense.sum()) == (1, 2, 4)


def test_few_values_get_a_cell_each() -> None:
    edges = profile.learn_edges(Profile.of([1.0, 2.0, 2.0, 5.0]))
    dense = Profile.of([1.0, 2.0, 5.0, 5.0]).dense(edges)
    assert dense is not None
    assert dense.tolist() == [0, 1, 1, 2, 0]


def test_profiles_on_other_edges_are_not_mixed() -> None:
    a = Profile.of([1.0, 2.0]).on(profile.learn_edges(Profile.of([1.0, 2.0])))
    both = a + Profile.of([7.0])
    assert (both.n, both.total, both.whole) == (3, 10.0, False)
    assert both.dense(profile.learn_edges(Profile.of([1.0, 2.0]))) is None


def test_a_stored_profile_comes_back() -> None:
    a = Profile.of([3.0, 4.0, np.nan])
    b = Profile.unpack((a.n, a.missing, a.total, a.low, a.high), a.pack())
    assert b.cells.tolist() == a.cells.tolist()
    assert b.counts.tolist() == a.counts.tolist()
    assert (b.n, b.missing, b.tag) == (2, 1, 0)


def test_quantiles_are_about_right() -> None:
    found = Profile.of(np.arange(1000.0))
    assert profile.quantile(found, 0.1) == pytest.approx(100, rel=0.01)
    edges = profile.learn_edges(found)
    assert profile.quantile(found.on(edges), 0.9, edges) == pytest.approx(850, abs=60)


def test_rows_become_profiles_by_pane_version_and_stage() -> None:
    rng = np.random.default_rng(0)
    made = rows(rng, 1_700_000_000_000_000, n=10, pane_s=2.0)
    c = made.columns
    c["t_ns"][:5], c["t_ns"][5:] = 1_700_000_000_100_000_000, 1_700_000_001_100_000_000
    c["status"][:2] = (Status.REFUSED, Status.FAILED)
    c["flags"][9] = Flag.EMPTY
    made.values[:] = ["good"] * 8 + ["defect", None]  # type: ignore[index]
    found = measure(made, pane_us=1_000_000, output=spec().output)
    first, second = 1_700_000_000_000_000, 1_700_000_001_000_000
    assert found[Cell("*", "software", "error_share", first)].total == 2
    assert found[Cell("*", "software", "latency_ms", first)].n == 4
    assert found[Cell("*", "input", "brightness", first)].n == 4
    assert found[Cell("m@1", "output", "confidence", first)].n == 3
    assert found[Cell("m@1", "output", "empty", second)].total == 1
    assert found[Cell("m@1", "output", "class:defect", second)].total == 1
    assert found[Cell("m@1", "output", "class:other", second)].total == 1
    assert found[Cell("*", "detect", "time_ms", second)].mean < 1
    assert {cell.metric for cell in found if cell.version == "m@1"} == {
        "confidence", "empty", "n_regions", *(f"class:{label}" for label in (*LABELS, "other"))
    }  # fmt: skip


def test_refused_rows_alone_are_software_only() -> None:
    made = rows(np.random.default_rng(0), 0, n=3)
    made.columns["status"][:] = Status.REFUSED
    assert {cell.stage for cell in measure(made, pane_us=1_000_000, output=None)} == {"software", "detect"}
    assert stable_version(made) is None


def test_the_stable_version_is_that_of_the_newest_routing_table() -> None:
    made = rows(np.random.default_rng(0), 0, n=4)
    made.columns["version"][:] = (1, 0, 1, 65535)
    made.columns["routing"][:] = (3, 9, 5, 12)
    made.columns["role"][:] = (0, 1, 0, 0)
    two = type(made)(made.endpoint, ("m@1", "m@2"), made.columns, made.values)
    assert stable_version(two) == (5, "m@2")


def test_a_number_is_an_output_metric() -> None:
    made = rows(np.random.default_rng(0), 0, n=4)
    made.columns["number"][:] = 7.5
    found = measure(made, pane_us=1_000_000, output=Output(kind="number"))
    assert found[Cell("m@1", "output", "number", 0)].mean == 7.5


def test_rows_come_from_real_frames() -> None:
    made = rows(np.random.default_rng(0), 1_700_000_000_000_000, n=6)
    inputs = tuple(name[2:] for name in made.columns if name.startswith("x:"))
    schema = prediction_schema("phones", stages=("detect",), metrics=inputs, versions=made.versions)
    columns = {name: made.columns[name] for name, _ in schema.columns}
    blobs = [msgspec.msgpack.encode({"value": value}) for value in made.values]
    data = frames.encode(schema, run=1, first_seq=0, t_ns=1, columns=columns, var=blobs)
    frame = frames.read(data, schemas=lambda _: schema)
    assert isinstance(frame, frames.Frame)
    parts = [frame, frame]
    both = rows_of(parts)
    assert (both.endpoint, both.versions, len(both.values)) == ("phones", ("m@1",), 12)
    once = measure(made, pane_us=10**12, output=spec().output)
    twice = measure(both, pane_us=10**12, output=spec().output)
    assert {cell: profile.n for cell, profile in twice.items()} == {cell: 2 * p.n for cell, p in once.items()}
    assert next(p.mean for c, p in twice.items() if c.metric == "brightness") == pytest.approx(
        next(p.mean for c, p in once.items() if c.metric == "brightness")
    )


@pytest.mark.parametrize("rows", [1, 511, 512, 3000])
def test_counting_many_rows_finds_what_sorting_them_finds(rows: int) -> None:
    rng = np.random.default_rng(rows)
    tiny = np.float32(1e-45)
    kinds = {
        "normal": rng.normal(size=rows),
        "positive": rng.exponential(50.0, size=rows),
        "mostly zero": np.where(rng.random(rows) < 0.9, 0.0, rng.normal(size=rows)),
        "zeros": np.zeros(rows),
        "minus zeros": np.full(rows, -0.0),
        "one value": np.full(rows, -3.5),
        "few values": rng.integers(-2, 3, rows),
        "hardly different from zero": rng.choice([tiny, -tiny, 0.0, -0.0, 1e-38, -1e-38], rows),
        "all sizes": rng.choice([-1.0, 1.0], rows) * 10.0 ** rng.uniform(-44, 38, rows),
        "the largest": rng.choice([-1.0, 1.0], rows) * np.finfo(np.float32).max,
    }
    for name, values in kinds.items():
        x = values.astype(np.float32)
        cells, counts = np.unique(profile.keys(x), return_counts=True)
        found = Profile.of(x)
        assert found.cells.tolist() == cells.tolist(), name
        assert found.counts.tolist() == counts.tolist(), name
        half = Profile.of(x[: rows // 2]) + Profile.of(x[rows // 2 :])
        assert half.cells.tolist() == cells.tolist(), name
        assert half.counts.tolist() == counts.tolist(), name
        assert found.cells.dtype == found.counts.dtype == half.counts.dtype == np.int64
