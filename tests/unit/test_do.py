"""The script that sets everything up: what it hands to pytest, and what it says when it cannot go on."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def do() -> ModuleType:
    loader = SourceFileLoader("do_script", str(ROOT / "do"))
    spec = importlib.util.spec_from_loader("do_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_needs_only_the_standard_library() -> None:
    """`-I -S` sees neither installed packages nor this folder."""
    done = subprocess.run([sys.executable, "-I", "-S", "do", "help"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: ./do COMMAND" in done.stdout


def test_may_be_executed() -> None:
    assert os.access(ROOT / "do", os.X_OK)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "exec ./do test </dev/null" in (ROOT / ".ci" / "run").read_text()


def test_an_unknown_command_is_named(do: ModuleType) -> None:
    with pytest.raises(SystemExit, match="unknown command dance, expected one of demo, test, check"):
        do.main(["dance"])


def test_pytest_gets_every_folder_unless_one_is_named(do: ModuleType) -> None:
    everything = do.pytest_arguments(["-q"], slow=False)
    assert "tests/unit" in everything
    assert "src/tenure" in everything
    assert everything[-1] == "-q"
    named = do.pytest_arguments(["tests/unit/scope::x", "-n0"], slow=False)
    assert "src/tenure" not in named
    assert named[-2:] == ["tests/unit/scope::x", "-n0"]


def test_every_folder_of_tests_is_in_the_order(do: ModuleType) -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.rglob("test_*.py"))}
    assert folders <= set(do.SLOWEST_FIRST)


def test_slow_and_foreign_add_tests(do: ModuleType) -> None:
    assert "not slow and not foreign" in do.pytest_arguments([], slow=False)
    assert "not foreign" in do.pytest_arguments([], slow=True)
    assert "not slow" in do.pytest_arguments([], slow=False, foreign=True)
    assert "-m" not in do.pytest_arguments([], slow=True, foreign=True)


def test_a_python_that_is_too_old_is_told_so(do: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(do.sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed"):
        do.use_new_python()


def test_a_python_without_venv_names_the_package(
    do: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lame = tmp_path / "python"
    lame.write_text("#!/bin/sh\necho ensurepip is not available\nexit 1\n")
    lame.chmod(0o755)
    monkeypatch.setattr(do.sys, "executable", str(lame))
    monkeypatch.setattr(do, "VENV", tmp_path / "venv")
    monkeypatch.setattr(do, "BIN", tmp_path / "venv" / "bin")
    with pytest.raises(
        SystemExit, match=r"apt-get install -y python3\.\d+-venv(.|\n)*ensurepip is not available"
    ):
        do.make_venv()


def test_missing_system_packages_are_one_line_to_run(do: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(do, "has_chromium", lambda: False)
    monkeypatch.setattr(do, "has_postgres", lambda: True)
    monkeypatch.setattr(do, "may_sudo", lambda: False)
    monkeypatch.setattr(do.os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="sudo apt-get install -y --no-install-recommends chromium\n"):
        do.install_system_packages()


def test_a_stamp_holds_until_its_source_changes(
    do: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(do, "ROOT", tmp_path)
    monkeypatch.setattr(do, "VENV", tmp_path)
    lock = tmp_path / "some.lock"
    lock.write_text("a==1\n")
    assert not do.is_stamped("some", "some.lock")
    do.stamp("some", "some.lock")
    assert do.is_stamped("some", "some.lock")
    lock.write_text("a==2\n")
    assert not do.is_stamped("some", "some.lock")


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock", "requirements-node.lock"])
def test_locks_pin_by_hash_and_name_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert pins
    assert all("==" in pin and pin.endswith("\\") for pin in pins)
    assert "://" not in text
