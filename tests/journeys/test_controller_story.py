"""All services together on a manual clock, without HTTP: the story that the demo plays, in seconds."""

from __future__ import annotations

from pathlib import Path

from controller_story import Story


def test_a_model_earns_its_place_and_loses_it_in_the_dark(tmp_path: Path) -> None:
    Story(tmp_path).play()
