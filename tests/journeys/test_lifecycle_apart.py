"""A stage in a process of its own: real processes, killed, hung, broken while loading, dropped."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lifecycle_models as models
import msgspec
import psutil
import pytest
from lifecycle_plant import Plant, wait
from serving_server import LABELS, SIZES, Client

from tenure.clock import SystemClock
from tenure.data.view import Log
from tenure.errors import ModelError
from tenure.model import apart as apart_
from tenure.model import bundle
from tenure.model.pipeline import Pipeline
from tenure.model.pool import Pool
from tenure.model.registry import Registry
from tenure.scope.project import StageSpec
from tenure.types import Prediction

STAGE = StageSpec(stage="moody", uses="x:Moody", placement="process", budget=3.0)
SPEC = msgspec.structs.replace(SIZES, pipeline=(STAGE,))
WAITS_S = 60.0

Make = Callable[..., Pipeline]


@pytest.fixture
def make(state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Load a stage apart, from a bundle; a process that starts again may take its time, as on a busy machine."""
    monkeypatch.setattr(apart_, "PATIENCE_S", WAITS_S)
    registry = Registry(state, tmp_path)
    made: list[Pipeline] = []

    def load(thing: Any, *, limit_s: float = WAITS_S, processes: int = 1) -> Pipeline:
        version = registry.register("sizes", thing, spec=SIZES, output=LABELS, sample={"a": 2.0})
        opened = bundle.open_bundle(bundle.find_bundle(tmp_path, version))
        name = opened.manifest.stages[0].name
        made.append(bundle.load(opened, clock=SystemClock(), apart={name: apart_.Own(limit_s, processes)}))
        return made[-1]

    yield load
    for pipeline in made:
        stage = pipeline.stages[0][1]
        assert isinstance(stage, apart_.Apart | Pool)
        stage.close()


def stage_of(pipeline: Pipeline) -> apart_.Apart:
    stage = pipeline.stages[0][1]
    assert isinstance(stage, apart_.Apart)
    return stage


def say(pipeline: Pipeline, *values: float) -> list[Any]:
    answers = [result.prediction for result in pipeline.run([{"a": v} for v in values])]
    return [a.value if isinstance(a, Prediction) else a.reason.partition(": ")[2] for a in answers]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_stage_apart_answers_like_any_other_and_a_poison_item_fails_alone(make: Make) -> None:
    pipeline = make(models.Moody())
    assert say(pipeline, 2, 88, 0.5) == ["big", "ValueError: told to", "small"]
    told = pipeline.run([{"a": 99.0}])[0].prediction
    assert isinstance(told, Prediction)
    assert told.confidence == (stage_of(pipeline).pid % 1000) / 1000 != (os.getpid() % 1000) / 1000


def test_a_death_costs_the_items_in_hand_and_the_next_are_answered_by_a_new_process(make: Make) -> None:
    pipeline = make(models.Moody())
    pids = set()
    for _ in range(3):
        pids.add(stage_of(pipeline).pid)
        assert say(pipeline, 2, 77, 0.5) == ["the stage's process died"] * 3
        assert say(pipeline, 2, 0.5) == ["big", "small"]
    assert len(pids) == 3


def test_a_process_that_died_idle_costs_nothing(make: Make) -> None:
    pipeline = make(models.Moody())
    pid = stage_of(pipeline).pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # until the last of its threads is gone
    assert say(pipeline, 2) == ["big"]


def test_a_hang_is_ended_at_the_limit(make: Make) -> None:
    pipeline = make(models.Moody(), limit_s=3.0)
    pid = stage_of(pipeline).pid
    assert say(pipeline, 2, 66) == ["the stage's process did not answer within 3 s and was ended"] * 2
    assert is_gone(pid)
    assert say(pipeline, 2) == ["big"]


def test_a_process_that_keeps_dying_is_left_alone_for_a_while(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart_, "PAUSES_S", (0.0, 3600.0))
    pipeline = make(models.Moody())
    assert say(pipeline, 77) == ["the stage's process died"]
    assert say(pipeline, 77) == ["the stage's process died"]
    assert say(pipeline, 2) == ["the stage's process keeps dying; it starts again in a while"]
    assert stage_of(pipeline).pid == 0


@pytest.mark.parametrize(("dies", "why"), [(False, "RuntimeError: no weights"), (True, "died while it loaded")])
def test_a_stage_that_cannot_be_loaded_apart_says_why(make: Make, dies: bool, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        make(models.LoadsHereOnly(os.getpid(), dies))


def test_dropping_the_version_ends_its_process_and_gives_its_memory_back(make: Make, tmp_path: Path) -> None:
    opened = make(models.Heavy(7))
    pid = stage_of(opened).pid
    found = next((tmp_path / "bundles").glob("[0-9a-f]*"))
    again = bundle.load(bundle.open_bundle(found), apart={"heavy": apart_.Own()})
    other = stage_of(again).pid
    assert say(again, 2) == ["big"]
    del again
    gc.collect()
    wait(lambda: is_gone(other), "the end of the dropped one")
    assert say(opened, 2) == ["big"]
    assert not is_gone(pid)


CHILD = """
import sys, time
from pathlib import Path
from tenure.model import apart, bundle
opened = bundle.open_bundle(next(Path(sys.argv[1]).glob("[0-9a-f]*")))
pipeline = bundle.load(opened, apart={"moody": apart.Own(600.0)})
print(pipeline.stages[0][1].pid, flush=True)
pipeline.run([{"a": 66.0}])
"""


def test_a_process_ends_with_its_parent_even_in_the_middle_of_a_call(make: Make, tmp_path: Path) -> None:
    make(models.Moody())
    command = [sys.executable, "-c", CHILD, str(tmp_path / "bundles")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait(lambda: psutil.Process(pid).cpu_times().user > 0, "it to run")
        parent.kill()
    wait(lambda: is_gone(pid), "the end of the orphan")


class Caller(threading.Thread):
    """A closed-loop client of harmless values; notes answers, failures and everything else."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__()
        self.url, self.stop = url, stop
        self.seen: Counter[str] = Counter()

    def run(self) -> None:
        client = Client(self.url)
        while not self.stop.is_set():
            reply = client.call("POST", "/v1/sizes/predict", {"a": 2})
            said = reply.json()
            self.seen[f"{reply.status} {said.get('status', said)}"] += 1
        client.close()


def stages_below(pid: int) -> list[int]:
    return [p.pid for p in psutil.Process(pid).children() if is_stage(p)]


def is_stage(process: psutil.Process) -> bool:
    try:
        return "tenure.model.inside" in process.cmdline()
    except psutil.Error:  # it ended after it was listed
        return False


def asked_again(plant: Plant, workers: list[int]) -> bool:
    """Send a request, which either worker may take, and say whether each has its process again."""
    client = plant.client()
    client.call("POST", "/v1/sizes/predict", {"a": 2})
    client.close()
    return all(len(stages_below(worker)) == 1 for worker in workers)


def reasons(plant: Plant) -> Counter[str]:
    """Count why requests had no answer of the model, as the log says."""
    log = Log(plant.folder)
    try:
        return Counter(log.query("select reason from predictions where route = 'pending'")["reason"].to_pylist())
    finally:
        log.close()


def test_killing_stage_processes_under_load_costs_only_their_items(tmp_path: Path) -> None:
    """Each request is answered: by the model, or, when its process died with it, by a person later."""
    plant, dice = Plant(tmp_path, workers=2, spec=SPEC), random.Random(5)
    plant.publish(plant.register(models.Moody()))
    stop = threading.Event()
    with plant.running():
        callers = [Caller(plant.url, stop) for _ in range(4)]
        for caller in callers:
            caller.start()
        kills = 0
        while kills < 8:
            had = sum(c.seen["200 decided"] for c in callers)
            found = stages_below(plant.pid(dice.randrange(2)))
            if found:
                with contextlib.suppress(ProcessLookupError):  # the blow before was slow to work
                    os.kill(found[0], signal.SIGKILL)
                    kills += 1
            wanted = had + dice.randint(50, 150)
            wait(lambda w=wanted: sum(c.seen["200 decided"] for c in callers) >= w, "answers")
        stop.set()
        for caller in callers:
            caller.join(WAITS_S)
        seen = sum((c.seen for c in callers), Counter[str]())
        assert set(seen) <= {"200 decided", "202 pending"}, seen
        assert seen["200 decided"] > 400
        workers = [plant.pid(0), plant.pid(1)]
        wait(lambda: asked_again(plant, workers), "a process below each worker")
        pids = [pid for worker in workers for pid in stages_below(worker)]
        assert len(pids) == 2
    fallen = reasons(plant)
    assert fallen.total() >= seen["202 pending"]
    died = sum(n for why, n in fallen.items() if "died" in why)
    slow = sum(n for why, n in fallen.items() if "is not loaded after" in why)  # as a busy machine is
    assert died <= kills * len(callers), "never more than what was in hand"
    assert died + slow == fallen.total(), fallen
    wait(lambda: all(is_gone(pid) for pid in pids), "the end of what was below the workers")
    print(f"{kills} kills of stage processes: {dict(seen)}")


def test_a_batch_is_computed_by_all_processes_of_a_pool_at_once(make: Make, tmp_path: Path) -> None:
    pipeline = make(models.Meets(os.getpid(), str(tmp_path), 4), processes=3)
    assert say(pipeline, 2, 0.5, 2) == ["big", "small", "big"]  # each waits for the others; we are the fourth


def test_a_death_in_a_pool_costs_its_own_part_of_the_batch(make: Make) -> None:
    pipeline = make(models.Moody(), processes=2)
    stage = pipeline.stages[0][1]
    assert isinstance(stage, Pool)
    before = stage.pids
    assert say(pipeline, 2, 0.5, 77, 2) == ["big", "small", *["the stage's process died"] * 2]
    assert say(pipeline, 2, 0.5, 2, 0.5, 2) == ["big", "small"] * 2 + ["big"]
    assert len(set(before) & set(stage.pids)) == 1
    assert [say(pipeline, 99)[0], say(pipeline, 99)[0]] == ["big", "big"]
    stage.close()
    wait(lambda: all(is_gone(pid) for pid in before), "the end of the pool")


def test_the_limit_of_a_batch_is_generous_but_bounded() -> None:
    assert apart_.limit_of(None) == apart_.LIMIT_S
    assert (apart_.limit_of(0.04), apart_.limit_of(3.0)) == (1.0, 30.0)
