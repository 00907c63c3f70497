"""The shared page: one writer per field, totals that never fall, versions that living workers serve with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tenure.deploy.serving.control_page import COUNTERS, LATENCY_BOUNDS_MS, ControlPage

CHILD = """
import sys
from pathlib import Path
from tenure.deploy.serving.control_page import ControlPage
page = ControlPage(Path(sys.argv[1]))
slot = page.slot(1)
slot.begin(run=2**64 - 1, pid=42)
slot.state = "ready"
slot.set("routing", page.routing)
for _ in range(1000):
    slot.add("requests")
"""


@pytest.fixture
def page(tmp_path: Path) -> ControlPage:
    return ControlPage.create(tmp_path / "control.page", workers=2)


def test_another_process_sees_and_writes_the_same_page(page: ControlPage, tmp_path: Path) -> None:
    page.routing = 7
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "control.page")], check=True)
    slot = page.slot(1)
    assert (slot.run, slot.pid, slot.state, slot.routing) == (2**64 - 1, 42, "ready", 7)
    assert slot.get("requests") == 1000
    assert page.slot(0).get("requests") == 0


def test_a_new_process_goes_on_counting_and_has_acknowledged_nothing(page: ControlPage) -> None:
    slot = page.slot(0)
    slot.begin(run=1, pid=1)
    slot.set("routing", 5)
    slot.add("auto", 3)
    slot.observe(1500)
    slot.begin(run=2, pid=2)
    assert (slot.get("auto"), sum(slot.buckets()), slot.routing, slot.state) == (3, 1, 0, "starting")


def test_latencies_fall_into_the_first_bucket_that_holds_them(page: ControlPage) -> None:
    slot = page.slot(0)
    for us in (0, 1000, 1001, 2000, 10**7):
        slot.observe(us)
    expected = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    expected[0], expected[1], expected[-1] = 2, 2, 1
    assert slot.buckets() == expected
    assert slot.get("latency_us") == 10**7 + 4001


def test_acknowledged_is_the_oldest_version_of_the_living(page: ControlPage) -> None:
    assert page.acknowledged() == 0
    for i, (state, version) in enumerate([("ready", 4), ("dead", 2)]):
        page.slot(i).state = state
        page.slot(i).set("routing", version)
    assert page.acknowledged() == 4
    page.slot(1).state = "draining"
    assert page.acknowledged() == 2


def test_a_page_made_anew_leaves_readers_of_the_old_one_alone(page: ControlPage, tmp_path: Path) -> None:
    page.routing = 3
    fresh = ControlPage.create(tmp_path / "control.page", workers=1)
    assert (fresh.routing, fresh.workers, page.routing) == (0, 1, 3)


@pytest.mark.parametrize("workers", [0, 65])
def test_a_page_holds_1_to_64_workers(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 64"):
        ControlPage.create(tmp_path / "control.page", workers=workers)


def test_every_counter_starts_at_zero(page: ControlPage) -> None:
    assert {name: page.slot(0).get(name) for name in COUNTERS} == dict.fromkeys(COUNTERS, 0)
