"""Compare tenure's rollout gate with thresholds and other tests, on the same seeded traffic.

    python benchmarks/rollout.py            400 ramps without harm and 150 with x2 and x5, about ten minutes
    python benchmarks/rollout.py --quick    40 and 20 ramps, about one minute; figures are then rough

Every method follows one plan, 1-5-10-25-50 % of 20,000 requests each, and looks every 500 requests. The stable
version fails 1 % of requests. Two worlds: requests that are drawn one by one, and 20,000 sticky units whose own
rates differ (gamma, variance 10). Method and ramp share the requests, their draws and their luck, so that methods
differ only in what they conclude. Tenure's is the code that runs in production: `deploy.rollout.judge`,
`deploy.rollout.advance` and `evidence.chance`. The other tests get tenure's counts, each sticky unit once per
step with its right chance; the z-test and the thresholds get plain requests, as these tools do.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress
from rollout_bench import methods, traffic
from rollout_bench.ramp import ALPHA, End, run

from tenure.stats import interval

HARMS = (1.0, 2.0, 5.0)
WORLDS = {"requests": traffic.requests, "units": traffic.units}
TITLES = {"requests": "requests drawn one by one", "units": "sticky units whose rates differ"}
VALID = ("obf", "msprt", "step_end")


class Information:
    """A method that only watches: what a whole ramp brings, for the test that has to know it."""

    def __init__(self) -> None:
        self.total = 0.0

    def look(self, seen: Any) -> str:
        self.total = methods.score(seen)[1]
        return methods.scheduled(seen)


def planned(world: str) -> float:
    """Return the mean information of ten ramps without harm, on seeds that are not used again."""
    found = []
    for seed in range(10):
        watch = Information()
        run(WORLDS[world](900_000 + seed), 1.0, watch)
        found.append(watch.total)
    return float(np.mean(found))


def measure(runs: dict[float, int]) -> list[dict[str, Any]]:
    """Run every method over every world and harm; return a row of figures for each."""
    rows = []
    with Progress() as progress:
        bar = progress.add_task("ramps", total=len(WORLDS) * sum(runs.values()))
        for world, make in WORLDS.items():
            makers = methods.makers(planned(world))
            for harm, n in runs.items():
                ends: dict[str, list[End]] = {name: [] for name in makers}
                for seed in range(n):
                    same = make(int(harm) * 100_000 + seed)
                    for name, maker in makers.items():
                        ends[name].append(run(same, harm, maker()))
                    progress.advance(bar)
                rows += [row(world, harm, name, ends[name]) for name in makers]
    return rows


def row(world: str, harm: float, name: str, ends: list[End]) -> dict[str, Any]:
    n = len(ends)
    back = [e for e in ends if e.state == "rolled_back"]
    done = [e.requests for e in ends if e.state == "promoted"]
    low, high = interval.clopper_pearson(len(back), n)
    until = [e.requests if e.state == "rolled_back" else traffic.HORIZON for e in ends]
    return {
        "world": world, "harm": harm, "method": name, "ramps": n, "rolled_back": len(back) / n,
        "low": low, "high": high, "promoted": len(done) / n,
        "requests_to_promote": float(np.median(done)) if done else None,
        "requests_to_catch": float(np.median(until)) if 2 * len(back) > n else None,
        "requests_to_catch_mean": float(np.mean(until)),
        "bad_served": float(np.median([e.bad for e in ends])),
        "bad_served_mean": float(np.mean([e.bad for e in ends])),
    }  # fmt: skip


def keeps(rows: list[dict[str, Any]], world: str, name: str) -> bool:
    """Say whether the measured false rollbacks are compatible with the promise."""
    return next(r["low"] for r in rows if (r["world"], r["harm"], r["method"]) == (world, 1.0, name)) <= ALPHA


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tenure's requests until it catches a harm over those of the best method that keeps its promise."""
    found = []
    for world in WORLDS:
        for harm in HARMS[1:]:
            mine = {r["method"]: r for r in rows if (r["world"], r["harm"]) == (world, harm)}
            for what in ("requests_to_catch", "requests_to_catch_mean", "bad_served_mean"):
                rivals = {n: mine[n][what] for n in VALID if keeps(rows, world, n) and mine[n][what]}
                ours, told = mine["tenure"][what], mine[f"oracle_{harm:g}"][what]
                if not rivals or not ours:
                    continue
                best = min(rivals, key=lambda n: rivals[n])
                found.append({
                    "world": world, "harm": harm, "what": what, "tenure": ours, "best": best,
                    "of_best": rivals[best], "ratio": ours / rivals[best], "bound": told,
                    "ratio_to_bound": ours / told if told else None,
                })  # fmt: skip
    return found


def table(rows: list[dict[str, Any]], world: str) -> str:
    """Return one world's figures as a Markdown table."""
    heads = (
        "method", "false rollbacks (95 % interval)", "good promoted", "after requests",
        "x2 caught", "requests", "bad served", "x5 caught", "requests", "bad served",
    )  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for name, said in methods.NAMES.items():
        good, twice, five = (
            next(r for r in rows if (r["world"], r["harm"], r["method"]) == (world, harm, name)) for harm in HARMS
        )
        cells = [
            said, f"{good['rolled_back']:.1%} ({good['low']:.1%} to {good['high']:.1%})",
            f"{good['promoted']:.1%}", number(good["requests_to_promote"]),
        ]  # fmt: skip
        for r in (twice, five):
            cells += [f"{r['rolled_back']:.0%}", number(r["requests_to_catch"]), number(r["bad_served"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def ratio_table(found: list[dict[str, Any]]) -> str:
    heads = "| world | harm | figure | tenure | best that keeps its promise | ratio | to Wald's bound |"
    lines = [heads, "|---|---|---|---:|---:|---:|---:|"]
    words = {
        "requests_to_catch": "requests, median", "requests_to_catch_mean": "requests, mean",
        "bad_served_mean": "bad answers served, mean",
    }  # fmt: skip
    for r in found:
        best = f"{r['of_best']:,.1f} ({methods.NAMES[r['best']]})"
        bound = "-" if r["ratio_to_bound"] is None else f"{r['ratio_to_bound']:.2f}"
        lines.append(
            f"| {TITLES[r['world']]} | x{r['harm']:g} | {words[r['what']]} | {r['tenure']:,.1f} | {best} "
            f"| {r['ratio']:.2f} | {bound} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few ramps, rough figures")
    parser.add_argument("--ramps", type=int, default=400, help="ramps without harm")
    parser.add_argument("--harmful", type=int, default=150, help="ramps of each harm")
    parser.add_argument("--out", type=Path, default=Path("out/rollout.json"), help="where the figures go")
    asked = parser.parse_args()
    good, harmful = (40, 20) if asked.quick else (asked.ramps, asked.harmful)
    rows = measure({1.0: good, 2.0: harmful, 5.0: harmful})
    found = ratios(rows)
    for world, title in TITLES.items():
        print(f"\n{title}: {good} ramps without harm, {harmful} of each harm, alpha {ALPHA:.0%}\n")
        print(table(rows, world))
    print(f"\n{ratio_table(found)}")
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    body = {"alpha": ALPHA, "ramps": good, "harmful": harmful, "rows": rows, "ratios": found}
    asked.out.write_text(json.dumps(body, indent=1) + "\n")
    print(f"\nfigures: {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
