"""The story on real photographs of magnetic tiles: a weak model on few photos earns no certificate."""

from pathlib import Path

import pytest

from tenure.demo.inspection import command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def story(real_data: Path) -> dict:
    tiles = real_data / "images" / "magnetic_tile"
    if not (tiles / "index.jsonl").is_file():
        pytest.skip(f"the magnetic tiles are not at {tiles}")
    return command.run(once=True, seed=1, photos=tiles, speed=4.0)


def test_a_weak_model_stays_below_partial_and_the_reason_is_said(story: dict) -> None:
    assert story["measured"]["auc"] < 0.95
    assert story["level"] in ("human_only", "shadow", "assist")
    assert not story["certificates"]
    assert story["why_not_higher"]


def test_no_model_decided_anything(story: dict) -> None:
    assert "model" not in story["all"]["by"]


def test_nothing_is_lost_or_doubled(story: dict) -> None:
    log = story["log"]
    assert log["answered"] == log["logged"] == story["all"]["requests"]
    assert (log["lost"], log["doubled"]) == (0, 0)


def test_each_photo_was_sent_once(story: dict) -> None:
    assert story["all"]["requests"] <= 225 + 444
