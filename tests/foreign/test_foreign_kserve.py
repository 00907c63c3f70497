"""Clients whose environment is heavy, KServe's and those of gRPC: `./do test --foreign` runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import foreign_server
import pytest
from foreign_env import python_of, run

from tenure.system import Server

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def python() -> Path:
    return python_of("kserve")


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    with foreign_server.running(tmp_path_factory.mktemp("kserve"), grpc_port=0) as made:
        yield made


def test_the_rest_client_finds_what_it_expects(python: Path, server: tuple[Server, str]) -> None:
    up, token = server
    assert len(set(run(python, "kserve_rest.py", [up.url.removeprefix("http://"), token]))) == 6


@pytest.mark.parametrize(("script", "checks"), [("triton_grpc", 8), ("kserve_grpc", 3)])
def test_the_grpc_clients_find_what_they_expect(
    python: Path, server: tuple[Server, str], script: str, checks: int
) -> None:
    up, token = server
    port = up.project.server.grpc_port
    assert len(set(run(python, f"{script}.py", [f"127.0.0.1:{port}", token]))) == checks
