"""Workers start with the memory settings that decoding needs, unless somebody chose others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tenure.deploy.serving.processes import supervisor


def test_what_somebody_set_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    monkeypatch.setenv("ANY", "thing")
    given = supervisor.environment()
    assert (given["MALLOC_TOP_PAD_"], given["ANY"]) == ("1", "thing")


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_TOP_PAD_", raising=False)
    monkeypatch.setattr(supervisor, "_is_glibc", lambda: False)
    assert "MALLOC_TOP_PAD_" not in supervisor.environment()


@pytest.mark.skipif(not supervisor._is_glibc(), reason="the C library is not glibc")
def test_glibc_takes_every_setting_that_a_worker_starts_with() -> None:
    """glibc passes over a value that is out of its bounds without a word; ask it."""
    numbers = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_TOP_PAD_": -2, "MALLOC_MMAP_THRESHOLD_": -3}  # of malloc.h
    assert supervisor.MALLOC.keys() == numbers.keys() & supervisor.environment().keys()
    code = "import ctypes, sys; sys.exit(not all(ctypes.CDLL(None).mallopt(int(n), int(v)) for n, v in {}))"
    asked = [(str(numbers[name]), value) for name, value in supervisor.MALLOC.items()]
    assert subprocess.run([sys.executable, "-c", code.format(asked)], check=False).returncode == 0
