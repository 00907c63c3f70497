"""The project that these tests score with; the models are registered once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from offline_world import World, build


@pytest.fixture(scope="session")
def offline_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("offline-project")
    build(root)
    return root


@pytest.fixture
def world(offline_template: Path, tmp_path: Path) -> Iterator[World]:
    made = World(offline_template, tmp_path / "shop")
    yield made
    made.close()
