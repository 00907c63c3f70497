"""Environments of their own for clients that we did not write, made once under `.foreign/`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".foreign"
CLIENTS = HERE / "clients"


def python_of(name: str) -> Path:
    """Return the interpreter of the environment that `requirements-NAME.txt` pins; made when it is missing.

    Where it cannot be made (no network) the test is skipped, or fails with TENURE_FOREIGN=required.
    """
    pins = HERE / f"requirements-{name}.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    sha = hashlib.sha256(pins.read_bytes() + version.encode()).hexdigest()[:12]
    folder, made = CACHE / f"{name}-{sha}", CACHE / f"{name}-{sha}" / "made"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(folder, pins)
            made.touch()
    return folder / "bin" / "python"


def run(python: Path, script: str, arguments: Sequence[str], *, timeout: float = 280) -> list[str]:
    """Run a client and return the checks that it names; a client that fails fails the test with its words."""
    done = subprocess.run(
        [python, "-E", "-s", CLIENTS / script, *arguments], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{script}:\n{done.stdout}\n{done.stderr}"
    return done.stdout.split()


def _make(folder: Path, pins: Path) -> None:
    for command in (
        [sys.executable, "-m", "venv", "--clear", folder],
        [folder / "bin" / "pip", "install", "-q", "--retries", "1", "--timeout", "20", "-r", pins],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = f"{pins.name} cannot be installed: {done.stderr.strip().splitlines()[-1:]}"
            pytest.fail(reason) if os.environ.get("TENURE_FOREIGN") == "required" else pytest.skip(reason)
