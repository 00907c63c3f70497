"""How fast a run goes, when it will be done, and whether that is in time."""

from __future__ import annotations

from collections import deque
from datetime import datetime, time, timedelta, tzinfo

import msgspec

from tenure.errors import CaseError

WINDOW_NS = 60_000_000_000
"""The rate is that of the last minute, so that it follows a machine that gets busy."""

SETTLED_NS = 2_000_000_000
"""A rate is believed after this long: the first rows come with the cost of starting."""


class Progress(msgspec.Struct, frozen=True):
    """How a run stands. `rate` is rows per second of this process, `left_s` None while unknown.

    `late` is a sentence when the deadline will be missed.
    """

    rows: int
    total: int | None
    quarantined: int
    rate: float
    left_s: float | None
    late: str | None = None


class Pace:
    """Measures the rate of one process, which may have begun in the middle of a run."""

    def __init__(self, rows: int, now_ns: int) -> None:
        self._marks: deque[tuple[int, int]] = deque([(now_ns, rows)])
        self._start_ns, self._start_rows = now_ns, rows

    def mark(self, rows: int, now_ns: int) -> float:
        """Note how many rows are done at a monotonic time; return rows per second."""
        self._marks.append((now_ns, rows))
        while len(self._marks) > 2 and now_ns - self._marks[1][0] >= WINDOW_NS:
            self._marks.popleft()
        return self.rate(now_ns)

    def rate(self, now_ns: int) -> float:
        """Return rows per second over the last minute; 0 before the first mark."""
        then_ns, then = self._marks[0]
        return (self._marks[-1][1] - then) * 1e9 / (now_ns - then_ns) if now_ns > then_ns else 0.0

    def is_settled(self, now_ns: int) -> bool:
        """Say whether the rate may be believed."""
        return now_ns - self._start_ns >= SETTLED_NS and self._marks[-1][1] > self._start_rows


def left_s(rows: int, total: int | None, rate: float) -> float | None:
    """Return the seconds that the rest takes; None where total or rate are unknown."""
    return max(0, total - rows) / rate if total is not None and rate > 0 else None


def lateness(rows: int, total: int, rate: float, *, seconds: float) -> str | None:
    """Return a sentence when `total - rows` rows at `rate` a second take longer than `seconds`.

    Example:
        >>> lateness(0, 7200, 1.0, seconds=3600)
        'at 1 rows/s it ends 1 h 0 min after the deadline; it would have to be 2.0 times as fast (2 rows/s)'
    """
    needs = left_s(rows, total, rate)
    if needs is None or needs <= seconds:
        return None
    if seconds <= 0:
        return f"the deadline has passed; {total - rows:,} rows are left"
    wanted = (total - rows) / seconds
    return (
        f"at {rate:,.0f} rows/s it ends {words(needs - seconds)} after the deadline; "
        f"it would have to be {wanted / rate:.1f} times as fast ({wanted:,.0f} rows/s)"
    )


def words(seconds: float) -> str:
    """Return a duration for people.

    Example:
        >>> words(59), words(61), words(3661)
        ('59 s', '1 min 1 s', '1 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def next_time(text: str, now_ns: int, zone: tzinfo | None = None) -> int:
    """Return the next time at which the clock shows `HH:MM`, as UTC nanoseconds.

    Args:
        text: such as `06:00`.
        now_ns: wall time.
        zone: of the clock; None = the machine's.

    Raises:
        CaseError: it is no time of day.
    """
    try:
        at = time.fromisoformat(text).replace(tzinfo=None)
    except ValueError as error:
        raise CaseError(f"expected a time of day such as 06:00, got {text!r}", at="--deadline") from error
    now = datetime.fromtimestamp(now_ns / 1e9, zone).astimezone(zone)
    for days in (0, 1):  # by the calendar: a night with a change of the clock has 23 or 25 hours
        day = now.date() + timedelta(days=days)
        found = datetime.combine(day, at, zone).astimezone(zone)
        if found > now:
            return int(found.timestamp() * 1e9)
    raise AssertionError("unreachable")
