"""The whole story on rendered phones, short: it asserts what came out, not how long it took."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tenure.demo.inspection.command import app

pytestmark = pytest.mark.timeout(1500)  # five minutes on two busy cores


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("demo") / "summary.json"
    arguments = ["inspection", "--once", "--seed", "1", "--json", str(path), "--keep", str(path.parent / "kept")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text()) | {"output": result.output, "kept": str(path.parent / "kept")}


def test_nothing_is_lost_or_doubled(story: dict) -> None:
    """A request whose connection broke may be in the log or not; an answered one is there exactly once."""
    log, unanswered = story["log"], story["all"]["requests"] - story["log"]["answered"]
    assert (log["lost"], log["doubled"], log["undecided"]) == (0, 0, 0)
    assert 0 <= log["logged"] - log["answered"] <= unanswered <= sum(story["faults"].values())


def test_version_1_was_certified_before_it_decided(story: dict) -> None:
    assert any(c["version"] == story["versions"]["v1"] for c in story["certificates"])
    assert story["before"]["automated"] > 100


def test_errors_among_automated_decisions_keep_the_bound_before_the_shock(story: dict) -> None:
    """2 % is promised; by chance an honest run of n decisions may show somewhat more."""
    before = story["before"]
    assert before["wrong"] <= 0.02 * before["automated"] + 3 * (0.02 * before["automated"]) ** 0.5


def test_the_bad_version_is_rolled_back_by_its_gate(story: dict) -> None:
    bad = story["bad"]
    assert bad["state"] == "rolled_back"
    assert story["versions"]["bad"] in bad["reason"]
    assert bad["decided_wrong"] <= 5


def test_the_alarm_names_the_brightness_and_people_take_over(story: dict) -> None:
    shock = story["shock"]
    assert (shock["metric"], shock["stage"]) == ("brightness", "input")
    assert shock["level"] != "partial"
    assert shock["alarm_to_level_s"] is not None


def test_version_3_is_trained_on_what_people_said(story: dict) -> None:
    assert story["collected"] > 500
    assert story["retraining"]["state"] == "registered"
    assert story["versions"]["v3"] == story["retraining"]["version"]


def test_the_summary_is_told_in_words(story: dict) -> None:
    assert "0 lost, 0 doubled" in story["output"]
    assert story["why_not_higher"]


def test_the_kept_project_can_be_looked_into(story: dict) -> None:
    assert Path(story["kept"], "tenure.yaml").is_file()
    assert Path(story["kept"], "tenure-data", "state.db").is_file()
