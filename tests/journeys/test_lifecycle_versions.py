"""Versions come and go under load: no answer waits for a load, none is lost, and their memory comes back."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import lifecycle_models as models
import msgspec
import psutil
import pytest
from lifecycle_plant import Plant, wait
from serving_server import SIZES, Client

from tenure.scope.project import StageSpec

SLOW = msgspec.structs.replace(SIZES, pipeline=(StageSpec(stage="slowload", uses="x:SlowLoad"),))
MB = 2**20
HELD = 20.0  # MB in each version's array
BOUND = 60.0  # MB: two versions are held at once during a swap, and pages of the heap that were used in between


class Caller(threading.Thread):
    """A closed-loop client that counts which version answered, and what else came."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.stop, self.versions = url, threading.Event(), Counter[str]()
        self.faults: list[str] = []

    def run(self) -> None:
        client = Client(self.url)
        while not self.stop.is_set():
            reply = client.call("POST", "/v1/sizes/predict", {"a": 2})
            if reply.status == 200:
                self.versions[reply.json()["decision"]["version"]] += 1
            else:
                self.faults.append(f"{reply.status} {reply.body!r}")
        client.close()

    def answers(self) -> int:
        return sum(self.versions.values())

    def until(self, more: int) -> None:
        wanted = self.answers() + more
        wait(lambda: self.answers() >= wanted, f"{more} answers")


def rss(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / MB


def swap_many(root: Path, swaps: int) -> list[float]:
    """Swap from version to version under load; returns the worker's memory after each."""
    plant = Plant(root)
    names = [plant.register(models.Heavy(i)) for i in range(8)]
    plant.publish(names[0])
    sizes: list[float] = []
    with plant.running():
        caller = Caller(plant.url)
        caller.start()
        for i in range(1, swaps + 1):
            plant.swap(names[i % len(names)])
            caller.until(5)
            # a dropped version's memory comes back a moment later, in a thread
            wait(lambda: not sizes or rss(plant.pid()) < sizes[0] + BOUND, "a dropped version's memory")
            sizes.append(rss(plant.pid()))
        caller.stop.set()
        caller.join()
        assert caller.faults == []
        assert set(caller.versions) == set(names)
        last = names[swaps % len(names)]
        wait(lambda: rss(plant.pid()) < sizes[0] + BOUND / 2, "the last dropped version's memory")
        assert plant.client().call("POST", "/v1/sizes/predict", {"a": 2}).json()["decision"]["version"] == last
    return sizes


def check(sizes: list[float]) -> None:
    print(f"{len(sizes)} swaps: RSS {sizes[0]:.0f} MB after the first, {max(sizes):.0f} at most, "
          f"{sizes[-1]:.0f} after the last")  # fmt: skip
    assert max(sizes) < sizes[0] + BOUND, "no version stays behind"


def test_thirty_swaps_of_heavy_versions_leave_no_memory_behind(tmp_path: Path) -> None:
    check(swap_many(tmp_path, 30))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_swaps_of_heavy_versions_leave_no_memory_behind(tmp_path: Path) -> None:
    check(swap_many(tmp_path, 100))


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Register slow versions without waiting for them; workers, which are started later, do wait."""
    monkeypatch.setenv("LIFECYCLE_IN_A_HURRY", "1")
    return lambda: monkeypatch.delenv("LIFECYCLE_IN_A_HURRY")


@pytest.mark.parametrize("busy", [False, True])
def test_the_old_version_answers_until_the_new_one_is_loaded_and_tried(
    tmp_path: Path, hurry: Any, busy: bool
) -> None:
    plant = Plant(tmp_path, spec=SLOW)
    old, new = plant.register(models.SlowLoad(0.0)), plant.register(models.SlowLoad(3.0, busy))
    hurry()
    plant.publish(old)
    with plant.running():
        caller = Caller(plant.url)
        caller.start()
        caller.until(10)
        number = plant.publish(new)
        had = caller.versions[old]
        wait(lambda: plant.page.acknowledged() >= number, "the new table")
        assert caller.versions[old] > had + 10, "answers went on while it loaded"
        caller.until(20)
        caller.stop.set()
        caller.join()
        assert caller.faults == []
        assert set(caller.versions) == {old, new}


def test_a_roll_back_does_not_wait_for_a_load_that_hangs(tmp_path: Path, hurry: Any) -> None:
    plant = Plant(tmp_path, spec=SLOW)
    first, second = plant.register(models.SlowLoad(0.0)), plant.register(models.SlowLoad(0.001))
    hanging = plant.register(models.SlowLoad(3600.0))
    hurry()
    plant.publish(first, warm=(second,))
    with plant.running():
        number = plant.publish(hanging, warm=(first, second))
        slot = plant.page.slot(0)
        beat = slot.get("heartbeat_ns")
        wait(lambda: slot.get("heartbeat_ns") > beat + 500_000_000, "the load to have begun")
        assert plant.page.acknowledged() < number
        plant.swap(second, warm=(first,))
        reply = plant.client().call("POST", "/v1/sizes/predict", {"a": 2})
        assert reply.json()["decision"]["version"] == second


def test_a_stage_apart_is_loaded_beside_the_old_one_and_ends_with_its_version(tmp_path: Path) -> None:
    apart = StageSpec(stage="moody", uses="x:Moody", placement="process")
    plant = Plant(tmp_path, spec=msgspec.structs.replace(SIZES, pipeline=(apart,)))
    names = [plant.register(models.Moody(i)) for i in range(4)]
    plant.publish(names[0])
    with plant.running():
        caller = Caller(plant.url)
        caller.start()
        for name in names[1:]:
            plant.swap(name)
            caller.until(5)
        caller.stop.set()
        caller.join()
        assert caller.faults == []
        assert set(caller.versions) == set(names)
        worker = psutil.Process(plant.pid())
        wait(lambda: len(worker.children()) == 1, "the old versions' processes to end")
