"""The same promise for whole boards: many metrics at once, edges and bounds from one small reference.

This runs the code that runs in production: profiles on the grid, `detector.learn`, `detector.step`.
"""

from __future__ import annotations

import numpy as np
import pytest

from tenure.monitor import detector
from tenure.monitor.detector import Key
from tenure.monitor.profile import Profile
from tenure.stats import detector as stats
from tenure.stats.detector import Terms

THRESHOLD, HORIZON, ROWS, REFERENCE = 2_000.0, 200, 50, 40
METRICS = ("brightness", "contrast", "sharpness", "bytes")

Pane = dict[Key, Profile]


def panes(rng: np.random.Generator, number: int, *, batch: float = 0.0, light: float = 1.0) -> list[Pane]:
    """Return panes of four metrics that hang together; `batch` is what the rows of one pane have in common."""
    out = []
    for _ in range(number):
        common = rng.normal(size=ROWS)
        level = batch * rng.normal(size=len(METRICS))
        own = rng.normal(size=(len(METRICS), ROWS))
        x = 120 + 10 * (0.7 * common + 0.7 * own + level[:, None])
        pane = {("input", name): Profile.of(x[i] * light) for i, name in enumerate(METRICS)}
        out.append({**pane, ("output", "empty"): Profile.flags(rng.uniform(size=ROWS) < 0.02)})
    return out


def learnt(reference: list[Pane]) -> tuple[detector.Watch, ...]:
    return detector.learn(reference, Terms(THRESHOLD, stats.REFERENCE_RISK, 1, 180_000.0, 0.02))


def first_alarm(watches: tuple[detector.Watch, ...], live: list[Pane]) -> int | None:
    bets = detector.armed(watches)
    log_m = stats.start(len(bets))
    for i, pane in enumerate(live):
        log_m = detector.step(watches, log_m, pane)
        if stats.board(log_m, bets) >= np.log(THRESHOLD):
            return i + 1
    return None


def false_share(runs: int, seed: int, batch: float) -> float:
    rng = np.random.default_rng(seed)
    false = 0
    for _ in range(runs):
        watches = learnt(panes(rng, REFERENCE, batch=batch))
        assert detector.armed(watches).any()
        false += first_alarm(watches, panes(rng, HORIZON, batch=batch)) is not None
    return false / runs


@pytest.mark.parametrize("batch", [0.0, 0.5])
def test_a_board_of_many_metrics_keeps_the_promise(batch: float) -> None:
    q, runs = HORIZON / THRESHOLD, 25
    found = false_share(runs, 5, batch)
    print(f"batch {batch}: {found:.1%} false, allowed {q:.0%}")
    assert found <= q + 3 * np.sqrt(q * (1 - q) / runs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("batch", [0.0, 0.5])
def test_a_board_of_many_metrics_keeps_the_promise_in_full(batch: float) -> None:
    q, runs = HORIZON / THRESHOLD, 600
    found = false_share(runs, 6, batch)
    print(f"batch {batch}: {found:.1%} false, allowed {q:.0%}")
    assert found <= q + 3 * np.sqrt(q * (1 - q) / runs)


@pytest.mark.parametrize(("light", "batch", "within"), [(0.9, 0.0, 3), (0.9, 0.5, 20), (0.45, 0.5, 2)])
def test_less_light_is_found(light: float, batch: float, within: int) -> None:
    rng = np.random.default_rng(8)
    delays = [
        first_alarm(learnt(panes(rng, REFERENCE, batch=batch)), panes(rng, 60, batch=batch, light=light)) or 60
        for _ in range(10)
    ]
    print(f"light {light}, batch {batch}: median {np.median(delays):.0f} panes, worst {max(delays)}")
    assert np.median(delays) <= within
