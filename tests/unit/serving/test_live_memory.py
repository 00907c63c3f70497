"""Memory: what is allocated while a version loads goes back when it is freed."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tenure.deploy.serving.predict import memory
from tenure.deploy.serving.processes.supervisor import MALLOC

CHILD = """
import os, sys, threading
import numpy as np, psutil
from tenure.deploy.serving.predict import memory
rss = psutil.Process().memory_info
held = []
def allocate():
    held.extend(np.full(1_000_000, 1.0) for _ in range(8))  # 8 MB each, in the heap of this thread
def run(way):
    before = rss().rss
    with way:
        thread = threading.Thread(target=allocate); thread.start(); thread.join()
    held.clear()
    memory.give_back()
    return round((rss().rss - before) / 2**20)
import contextlib
print(run(memory.separate()), run(contextlib.nullcontext()))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's heaps")
def test_what_a_load_allocates_goes_back_when_it_is_freed_and_the_usual_way_keeps_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env={**MALLOC, "PYTHONPATH": ":".join(sys.path)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    separate, usual = map(int, done.stdout.split())
    assert separate < 4
    assert usual > 4, "else nothing had to be done"


def test_without_a_stated_threshold_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(memory.ENVIRONMENT, raising=False)
    monkeypatch.setattr(memory, "_libc", lambda name: pytest.fail if name == "mallopt" else None)
    with memory.separate():
        pass
    memory.give_back()
