"""Measure certificates on real data: false claims, share automated, revocation; beside MAPIE and a plug-in.

    python benchmarks/certificates.py            500 draws of each data set and bound, a few minutes on one core
    python benchmarks/certificates.py --peers    installs MAPIE into an environment of its own; it takes part too
    python benchmarks/certificates.py --quick    60 draws; figures are then rough

A data set's whole labelled table is the population, so that the true error above any threshold is known. Each
draw takes labels from it with replacement and looks after every 25th part of them. Tenure's claims are those of
the code in production: its grid from unlabelled scores, its e-values, fallback and running maximum; for the first
draws of each data set `deploy.automation.lineage` itself is run label by label and must give the same. A claim is
false when the true error among what it automates is above the bound; with "each batch", when that holds after any
look; tenure's always counts after any look. Models are fitted anew, out of fold, with fixed seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from certificates_bench import audits, peer, report
from certificates_bench import draws as d
from certificates_bench.populations import SOURCES, Floats, Population, Shift
from rich.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
LOOKS = 25
FEW, FEW_ON = 1000, ("magnetic tiles", "spoken digits", "CIFAR-10H, one person")
"""A study with few labels, at the first bound of these data sets."""
CHECKED = 3
"""Draws of each data set and bound that the production code repeats label by label."""


def measure(
    population: Population, bound: float, runs: int, *, family: int, python: Path | None, tick: Any
) -> dict[str, Any]:
    """Return one row: false claims, shares and refusals of every method."""
    batch = population.labels // LOOKS
    evidence = d.Evidence(bound, population.labels)
    found = [d.draw(population, seed, population.labels, family=family) for seed in range(runs)]
    grids = [d.grid_of(each, bound, population.labels) for each in found]
    ours, naive, evenly = [], [], []
    for i, (each, grid) in enumerate(zip(found, grids, strict=True)):
        score, wrong = population.score[each.rows], population.wrong[each.rows]
        made = d.claims(score, wrong, grid, evidence=evidence, batch=batch)
        if i < CHECKED:
            check(made, d.by_the_service(score, wrong, grid, bound=bound, batch=batch))
        ours.append(made.tenure)
        naive.append(made.naive)
        evenly.append(
            d.claims(score, wrong, d.even(each, bound, population.labels), evidence=evidence, batch=batch).tenure
        )
        tick()
    looks = {
        "tenure": np.array(ours),
        "even": np.array(evenly),
        "naive_peeked": np.array(naive),
        "naive": np.array(naive)[:, -1:],
    }
    if python:
        said = peer.ask(python, population, found, grids=[g.thresholds for g in grids], bound=bound, batch=batch)
        looks |= {
            "mapie": said["default"][:, -1:], "mapie_peeked": said["default"],
            "mapie_grid": said["grid"][:, -1:], "mapie_grid_peeked": said["grid"],
        }  # fmt: skip
    return row(population, bound, looks) | {"mapie_lost": int(said["lost"]) / runs if python else None}


def check(fast: d.Claims, real: d.Claims) -> None:
    if not np.array_equal(fast.tenure, real.tenure) or not np.allclose(fast.log_e[-1], real.log_e, atol=1e-9):
        raise SystemExit("the fast path differs from deploy.automation.lineage")


def row(population: Population, bound: float, looks: dict[str, Floats]) -> dict[str, Any]:
    cuts = np.unique(np.concatenate([v.ravel() for v in looks.values()]))
    risk, share = (np.array([f(c) for c in cuts]) for f in (population.risk, population.share))
    at = {name: np.searchsorted(cuts, v) for name, v in looks.items()}
    shares = {name: float(share[v[:, -1]].mean()) for name, v in at.items()}
    ours = share[at["tenure"]].mean(axis=0)
    return {
        "data": population.name, "bound": bound, "labels": population.labels, "rows": len(population.score),
        "error": float(population.wrong.mean()),
        "false": {name: float((risk[v] > bound).any(axis=1).mean()) for name, v in at.items()},
        "share": {"oracle": population.share(d.oracle(population, bound)), **shares},
        "nothing": {name: float(np.isinf(v[:, -1]).mean()) for name, v in looks.items()},
        "growth": [float(ours[LOOKS // 5 - 1]), float(ours[2 * LOOKS // 5 - 1]), float(ours[-1])],
    }  # fmt: skip


def load(data: Path, names: list[str]) -> tuple[list[Population], list[Shift]]:
    populations, shifts = [], []
    with Progress() as progress:
        bar = progress.add_task("models", total=len(names))
        for name in names:
            population, own = SOURCES[name](data)
            populations.append(population)
            shifts += own
            progress.advance(bar)
    return populations, shifts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 draws, rough figures")
    parser.add_argument("--draws", type=int, default=500, help="of each data set and bound")
    parser.add_argument("--family", type=int, default=d.FAMILY, help="of the draws' seeds")
    parser.add_argument("--only", nargs="+", choices=list(SOURCES), default=list(SOURCES), help="data sets")
    parser.add_argument("--peers", action="store_true", help="install MAPIE where it is missing")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "tenure-bench",
        help="folder of MAPIE's environment",
    )
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("TENURE_TEST_DATA", ROOT.parent / "shared" / "data"))
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "out" / "certificates.json", help="where the figures go"
    )
    told = parser.parse_args()
    if not told.data.is_dir():
        parser.error(f"no real data at {told.data}; set TENURE_TEST_DATA or --data to their folder")
    if told.peers:
        peer.install(told.cache)
    python, runs = peer.home(told.cache), 60 if told.quick else told.draws
    populations, shifts = load(told.data, told.only)
    few = [replace(p, bounds=p.bounds[:1], labels=FEW) for p in populations if p.name in FEW_ON]
    populations = [*populations, *few]
    rows = []
    with Progress() as progress:
        bar = progress.add_task("draws", total=runs * sum(len(p.bounds) for p in populations))
        for population in populations:
            for bound in population.bounds:
                tick = partial(progress.advance, bar)
                rows.append(measure(population, bound, runs, family=told.family, python=python, tick=tick))
    moved = [r for each in shifts for r in audits.shifted(each, runs)]
    ends = audits.table(2 * runs, np.random.default_rng(3))
    limit = d.DELTA + 3 * float(np.sqrt(d.DELTA * (1 - d.DELTA) / runs))
    print(f"\n{runs} draws; promised at most {d.DELTA:.0%}, with this many draws up to {limit:.1%} may be seen\n")
    for part in (report.coverage, report.automated, report.nothing, report.half):
        print(part(rows), end="\n\n")
    print(report.shifts(moved), report.audits(ends), sep="\n\n")
    if python:
        lost = ", ".join(f"{r['data']} {r['bound']:.0%}: {r['mapie_lost']:.1%}" for r in rows)
        print(f"\ndraws in which MAPIE's controller claims nothing because a threshold has no label: {lost}")
    else:
        print("\nMAPIE did not take part; --peers installs it")
    told.out.parent.mkdir(parents=True, exist_ok=True)
    body = {"draws": runs, "family": told.family, "delta": d.DELTA, "peers": list(peer.PINS) if python else [],
            "rows": rows, "shifts": moved, "audits": ends}  # fmt: skip
    told.out.write_text(json.dumps(body, indent=1) + "\n")
    print(f"\nfigures: {told.out}")
    return int(any(r["false"]["tenure"] > limit for r in rows))


if __name__ == "__main__":
    sys.exit(main())
