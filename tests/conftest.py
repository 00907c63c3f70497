"""Shared fixtures: a clock that moves only when told, a fresh state database, the real data sets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import postgres
from tenure.clock import ManualClock
from tenure.data.state import State

# A busy machine is slow: that is no failure. The same examples in each run, so that what fails once fails again;
# --hypothesis-profile random looks for others.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("tenure", settings.get_profile("random"), derandomize=True)
settings.load_profile("tenure")

ROOT = Path(__file__).resolve().parent.parent
LONG_S = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the long runs the time that they need; the usual limit is for the others."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_S))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def state(tmp_path: Path, clock: ManualClock) -> Iterator[State]:
    opened = State.open(tmp_path / "state.db", clock)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("TENURE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets are not at {folder}; set TENURE_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a real PostgreSQL server of our own; tests that need it skip where it is not installed."""
    with postgres.cluster() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_state(postgres_url: str) -> Iterator[State]:
    """One database with our tables for the whole session; use `any_state`, which empties it."""
    opened = State.open(postgres.new_database(postgres_url), ManualClock())
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def any_state(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[State]:
    """An empty control state on each database."""
    if request.param == "sqlite":
        opened = State.open(tmp_path / "state.db", clock)
        yield opened
        opened.close()
        return
    shared: State = request.getfixturevalue("postgres_state")
    postgres.empty(shared)
    yield State(shared.engine, clock)
