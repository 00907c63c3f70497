"""What the demo says at the end, on a fast machine and on one that cannot keep up."""

from __future__ import annotations

from typing import Any

import pytest

from tenure.demo.inspection.stage import outcomes
from tenure.demo.inspection.summary import sentences


def found(*, faults: dict[str, int], speed: float = 1.0) -> dict[str, Any]:
    nothing = outcomes([])
    everything = nothing | {"requests": 1000, "by": {"fallback": 20, "model": 700, "open": 80, "person": 200}}
    return {
        "all": everything, "before": nothing, "during": nothing, "after": nothing, "seconds": 20.4,
        "speed": speed, "faults": faults, "bad": None,
        "log": {"answered": 1000, "logged": 1000, "lost": 0, "doubled": 0},
        "shock": None, "no_alarm": None, "certificates": [], "level": "partial", "why_not_higher": "max",
        "inspectors": {"ann": {"judged": 10, "wrong": 1}},
    }  # fmt: skip


def test_the_end_says_who_decided_and_what_nobody_did() -> None:
    said = sentences(found(faults={}))
    assert said[0] == (
        "1,000 photos in 20 s; decided: 20 by the fallback, 700 by the model, 200 by people; "
        "of 80 the line heard no decision."
    )
    assert not any("too busy" in s for s in said)


@pytest.mark.parametrize(("speed", "slower"), [(1.0, "--speed 0.3"), (0.1, "--speed 0.1")])
def test_a_machine_that_cannot_keep_up_is_named_as_the_cause(speed: float, slower: str) -> None:
    said = " ".join(sentences(found(faults={"503 overloaded": 65}, speed=speed)))
    assert "too busy for so many photos a second: 6% got no answer" in said
    assert slower in said
