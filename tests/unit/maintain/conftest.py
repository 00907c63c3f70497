from __future__ import annotations

from pathlib import Path

import pytest
from maintain_world import World

from tenure.clock import ManualClock
from tenure.data.state import State


@pytest.fixture
def world(tmp_path: Path, state: State, clock: ManualClock) -> World:
    return World(tmp_path, state, clock)
