"""Certificates on real tables as the population: false claims stay rare, a shift is revoked.

The full version, with MAPIE beside it, is `benchmarks/certificates.py`.
"""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tenure.stats import certificate

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RUNS = [pytest.param(60, id="short"), pytest.param(500, id="full", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def bench() -> dict[str, ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return {n: importlib.import_module(f"certificates_bench.{n}") for n in ("populations", "draws", "audits")}
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(("name", "least"), [("votes", 0.9), ("digits", 0.9)])
def test_claims_on_a_real_table_are_rarely_false(
    bench: dict[str, ModuleType], real_data: Path, name: str, least: float, runs: int
) -> None:
    """The table is the population; labels come with replacement; a look after each of 25 batches."""
    d = bench["draws"]
    people, _ = bench["populations"].SOURCES[name](real_data)
    bound = people.bounds[-1]
    evidence, batch = d.Evidence(bound, people.labels), people.labels // 25
    false, naive, shares = 0, 0, []
    for seed in range(runs):
        found = d.draw(people, 10_000 + seed, people.labels)
        grid = d.grid_of(found, bound, people.labels)
        score, wrong = people.score[found.rows], people.wrong[found.rows]
        made = d.claims(score, wrong, grid, evidence=evidence, batch=batch)
        if seed < 2:
            real = d.by_the_service(score, wrong, grid, bound=bound, batch=batch)
            assert made.tenure.tolist() == real.tenure.tolist()
            assert made.log_e[-1] == pytest.approx(real.log_e, abs=1e-9)
        risk = {c: people.risk(c) for c in {*made.tenure, *made.naive}}
        false += any(risk[c] > bound for c in made.tenure)
        naive += any(risk[c] > bound for c in made.naive)
        shares.append(people.share(made.tenure[-1]))
    print(f"\n{people.name}, {runs} draws: {false} false, plug-in {naive}, {np.mean(shares):.3f} automated")
    assert false / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert naive / runs > 0.15  # so that the test can fail
    assert np.mean(shares) >= least


def test_no_case_of_the_table_says_so_when_nothing_can_be_claimed(bench: dict[str, ModuleType]) -> None:
    """Scores without information and errors above the bound: nothing may be claimed."""
    d, rng = bench["draws"], np.random.default_rng(4)
    people = bench["populations"].Population("noise", rng.random(2000), rng.random(2000) < 0.1, (0.05,), 2000)
    assert d.oracle(people, 0.05) > np.quantile(people.score, 0.95)
    found = d.draw(people, 1, 2000)
    grid = d.grid_of(found, 0.05, 2000)
    made = d.claims(
        people.score[found.rows], people.wrong[found.rows], grid, evidence=d.Evidence(0.05, 2000), batch=80
    )
    assert (made.tenure == d.NOTHING).all()


def test_a_new_speaker_is_revoked_and_known_ones_are_not(bench: dict[str, ModuleType], real_data: Path) -> None:
    """Coverage is not promised for another source; what is promised is that audits notice."""
    _, (shift,) = bench["populations"].digits(real_data)
    home, away = bench["audits"].shifted(shift, 40)
    print(f"\nknown speakers: {home}\nnew speaker: {away}")
    assert away["risk"] > 3 * away["bound"]
    assert away["share"] == 1.0
    assert away["audits"] <= 60
    assert home["share"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 40)


def test_revocation_looks_where_the_evidence_can_rise(bench: dict[str, ModuleType]) -> None:
    wrong = np.random.default_rng(5).random((20, 400)) < 0.06
    ends = bench["audits"].revoked(wrong, 0.02)
    for row, audits in zip(wrong, ends.audits, strict=True):
        n, k = np.arange(1.0, 401.0), row.cumsum().astype(float)
        hit = np.flatnonzero(certificate.revoke_log_es(n, k, 0.02) >= -math.log(0.05))
        assert audits == (hit[0] + 1 if len(hit) else -1)
