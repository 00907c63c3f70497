"""Rate, time left and the deadline; what people see of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from offline_world import World, customers, parquet

from tenure.cli import score_progress
from tenure.cli.scoring import Told, score
from tenure.clock import ManualClock
from tenure.deploy.offline import ahead
from tenure.deploy.offline.pace import Pace, Progress, lateness, next_time
from tenure.errors import CaseError

SECOND = 1_000_000_000


def test_the_rate_is_that_of_the_last_minute() -> None:
    pace = Pace(1000, 0)
    for second in range(1, 61):
        pace.mark(1000 + 100 * second, second * SECOND)
    assert pace.rate(60 * SECOND) == pytest.approx(100)
    for second in range(61, 181):
        pace.mark(7000 + 10 * (second - 60), second * SECOND)
    assert pace.rate(180 * SECOND) == pytest.approx(10)


def test_the_first_seconds_are_not_believed() -> None:
    pace = Pace(0, 0)
    pace.mark(10, SECOND)
    assert not pace.is_settled(SECOND)
    assert pace.is_settled(3 * SECOND)


def test_a_deadline_out_of_reach_says_how_much_faster_it_would_have_to_be() -> None:
    said = lateness(100_000, 1_000_000, 50.0, seconds=9000)
    assert said == (
        "at 50 rows/s it ends 2 h 30 min after the deadline; it would have to be 2.0 times as fast (100 rows/s)"
    )
    assert lateness(100_000, 1_000_000, 100.1, seconds=9000) is None
    assert lateness(1, 5, 1.0, seconds=-1) == "the deadline has passed; 4 rows are left"


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2026-11-24T23:00", "06:00", "2026-11-25T06:00"),
        ("2026-11-24T05:59", "06:00", "2026-11-24T06:00"),
        ("2026-11-24T06:00", "06:00", "2026-11-25T06:00"),
        ("2026-03-28T22:00", "06:00", "2026-03-29T06:00"),  # a night of 23 hours
        ("2026-10-24T22:00", "06:00", "2026-10-25T06:00"),  # a night of 25 hours
    ],
)
def test_a_deadline_is_the_next_time_by_the_clock_on_the_wall(now: str, text: str, expected: str) -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = datetime.fromisoformat(now).replace(tzinfo=zone)
    found = next_time(text, int(start.timestamp() * 1e9), zone)
    assert datetime.fromtimestamp(found / 1e9, UTC) == datetime.fromisoformat(expected).replace(tzinfo=zone)


@pytest.mark.parametrize("text", ["25:00", "soon", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(CaseError, match="expected a time of day"):
        next_time(text, 0)


def test_a_slow_run_is_warned_about_on_its_way(world: World, tmp_path: Path) -> None:
    source = parquet(tmp_path / "day.parquet", customers(400))
    now = datetime.fromtimestamp(world.clock.now_ns() / 1e9).astimezone()
    deadline = datetime.fromtimestamp(now.timestamp() + 300).astimezone()
    seen: list[Progress] = []

    def slow(progress: Progress) -> None:
        seen.append(progress)
        world.clock.advance(110)  # for 100 rows; there are 400 and at most five minutes

    told = Told(
        endpoint="churn", input=str(source), output=str(tmp_path / "out"), chunk=100,
        deadline=f"{deadline:%H:%M}",
    )  # fmt: skip
    score(world.desk, told, slow)
    assert [p.rows for p in seen] == [100, 200, 300, 400]
    assert seen[0].late is None  # nothing is known yet
    assert seen[1].late is not None
    assert "times as fast" in seen[1].late


def test_lines_come_every_few_seconds_and_when_the_deadline_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock()
    lines = score_progress.Lines(clock)
    lines(Progress(10, 100, 0, 10.0, 9.0))
    assert capsys.readouterr().err == ""
    clock.advance(6)
    lines(Progress(60, 100, 1, 10.0, 4.0))
    assert capsys.readouterr().err == "60 of 100 rows, 10 rows/s, 4 s left, 1 quarantined\n"
    lines(Progress(61, 100, 1, 10.0, 4.0, late="at 10 rows/s"))
    assert capsys.readouterr().err.endswith("too slow: at 10 rows/s\n")
    lines(Progress(62, 100, 1, 20.0, 2.0))
    assert capsys.readouterr().err.endswith("the deadline is in reach again\n")


def test_a_reader_ahead_hands_on_errors_and_stops_when_nobody_listens() -> None:
    def broken() -> object:
        yield 1
        raise ValueError("line 2")

    found = ahead.ahead(broken())
    assert next(found) == 1
    with pytest.raises(ValueError, match="line 2"):
        next(found)
    taken: list[int] = []

    def endless() -> object:
        while True:
            taken.append(1)
            yield 1

    one = ahead.ahead(endless(), depth=2)
    next(one)
    one.close()
    assert len(taken) <= 6
