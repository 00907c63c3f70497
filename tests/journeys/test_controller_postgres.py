"""The control plane on PostgreSQL: the story on a manual clock, and a real server from request to decision."""

from __future__ import annotations

from pathlib import Path

import pytest

import postgres
from controller_story import Story

pytestmark = pytest.mark.postgres


def test_the_story_is_the_same_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    Story(tmp_path, state=postgres.new_database(postgres_url)).play_to_the_dark()
