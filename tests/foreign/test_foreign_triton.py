"""tritonclient from PyPI against a real server: what NVIDIA's own client expects is what tenure answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import foreign_server
import psutil
import pytest
from foreign_env import python_of, run

from tenure.system import Server

GROWTH_BYTES = 24 * 2**20


@pytest.fixture(scope="module")
def python() -> Path:
    return python_of("triton")


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    with foreign_server.running(tmp_path_factory.mktemp("triton")) as made:
        yield made


@pytest.mark.parametrize(("script", "checks"), [("triton_sync", 12), ("triton_async", 2), ("triton_aio", 5)])
def test_the_client_finds_what_it_expects(
    python: Path, server: tuple[Server, str], script: str, checks: int
) -> None:
    passed = run(python, f"{script}.py", [_host(server[0]), server[1]])
    assert len(set(passed)) == checks


def test_memory_does_not_grow_with_the_calls(python: Path, server: tuple[Server, str]) -> None:
    up, token = server
    run(python, "triton_growth.py", [_host(up), token, "300"])
    before = _resident(up)
    run(python, "triton_growth.py", [_host(up), token, "1200"])
    assert _resident(up) - before < GROWTH_BYTES


def _host(server: Server) -> str:
    return server.url.removeprefix("http://")


def _resident(server: Server) -> int:
    pids = [pid for name, pid in server.supervisor.pids().items() if name.startswith("worker")]
    return max(psutil.Process(pid).memory_info().rss for pid in pids)
