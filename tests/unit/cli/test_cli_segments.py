"""`tenure level` and `tenure certificate` where an endpoint has segments."""

from __future__ import annotations

import pytest
from cli_shell import Shell


@pytest.fixture
def lines(mail: Shell) -> Shell:
    """A project whose lines A and B have levels of their own."""
    path = mail.folder / "tenure.yaml"
    segments = '      segments: {by: unit, values: {A: {}, "1": {max: shadow}}}\n'
    path.write_text(path.read_text().replace("    review:\n", segments + "    review:\n", 1))
    return mail


def test_each_segment_moves_alone_and_has_a_row(lines: Shell) -> None:
    assert lines("level", "up", "--segment", "A").out.startswith("mail/A: human_only -> shadow")
    out = lines("level", "show").out.splitlines()
    assert out[0].startswith("mail: human_only")
    [head] = [i for i, line in enumerate(out) if line.split()[:3] == ["unit", "level", "max"]]
    rows = [line.split() for line in out[head + 1 : head + 4]]
    assert [row[:3] for row in rows[:2]] == [["A", "shadow", "partial"], ["1", "human_only", "shadow"]]
    assert rows[2][:4] == ["all", "others", "human_only", "partial"]
    assert out[head + 4].startswith("  Each segment spends its own 5 % of risk: a version's 3 promises")


def test_one_segment_is_shown_in_full(lines: Shell) -> None:
    lines("level", "up", "--segment", "A")
    shown = lines("level", "show", "--segment", "A")
    assert shown.out.startswith("mail/A: shadow")
    assert "all others" not in shown.out
    page = lines("level", "show", "--segment", "A", "--json").json()[0]
    assert (page["segment"], page["level"], page["by"]) == ("A", "shadow", "unit")
    assert lines("level", "down", "--segment", "A").out.startswith("mail/A: shadow -> human_only")


def test_what_a_segment_may_not_do_is_said(lines: Shell) -> None:
    assert lines("level", "up", "--segment", "1").code == 0
    assert "the project allows at most shadow" in lines("level", "up", "--segment", "1").err
    unknown = lines("level", "up", "--segment", "C")
    assert (unknown.code, "there are A, 1" in unknown.err) == (2, True)


def test_an_endpoint_without_segments_has_no_table(mail: Shell) -> None:
    assert "all others" not in mail("level", "show").out
    assert "the endpoint has none" in mail("level", "show", "--segment", "A").err
