"""What one certificate for all lines hides, and what certificates by segment show.

Line B is 5 % of the cases and wrong in 12 % of them at every confidence; line A in 0.5 %. Together that is 1.1 %,
below a bound of 3 %: a certificate for both is true, and on line B four times as many are wrong as it says.
"""

from __future__ import annotations

import numpy as np

from tenure.deploy.automation import lineage
from tenure.deploy.automation.items import Label

BOUND, DELTA, RUNS = 0.03, 0.05, 100
PART_B, WRONG = 0.05, {"A": 0.005, "B": 0.12}
GRID = [0.9, 0.7, 0.5, 0.3, 0.0]


def certified(labels: list[Label]) -> bool:
    """Say whether any threshold is ever certified, looking after every 100 labels."""
    counts = lineage.start(GRID, since=0, starts=(0, 1, 2, 4))
    for at in range(0, len(labels), 100):
        counts = lineage.advance(counts, GRID, BOUND, labels[at : at + 100])
        if lineage.valid(counts, DELTA):
            return True
    return False


def run(seed: int, cases: int) -> dict[str, bool]:
    rng = np.random.default_rng(seed)
    lines = np.where(rng.random(cases) < PART_B, "B", "A")
    wrong = rng.random(cases) < np.where(lines == "B", WRONG["B"], WRONG["A"])
    labels = [
        Label(i, float(s), float(bad), False)
        for i, (s, bad) in enumerate(zip(rng.random(cases), wrong, strict=True))
    ]
    by = {
        "all": labels,
        **{name: [x for x, at in zip(labels, lines, strict=True) if at == name] for name in "AB"},
    }
    return {name: certified(part) for name, part in by.items()}


def test_a_bad_line_hides_in_the_whole_and_not_in_its_segment() -> None:
    found = [run(seed, 4000) for seed in range(RUNS)]
    rate = {name: sum(one[name] for one in found) / RUNS for name in ("all", "A", "B")}
    assert rate["all"] >= 0.95, "a certificate for both lines is true, and is given"
    assert rate["A"] >= 0.95, "segments do not keep the good line from automation"
    assert rate["B"] == 0.0, "and never lift the bad one"
