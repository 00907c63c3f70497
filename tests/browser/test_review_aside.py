"""A reviewer puts an item aside: skipped with a reason, or left to an adjudicator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from desk_world import World, drawn, fits, shot, until

from tenure.scope import project as p

pytestmark = pytest.mark.browser

PROJECT = p.Project(
    project="notes",
    scope=p.Scope(x="a note", y=p.Output(labels=("praise", "complaint"))),
    endpoints={"notes": p.EndpointSpec(input="text")},
)
SENT = "localStorage.getItem('tenure.outbox.local') === '[]'"


def fill(world: World, _data: Path) -> None:
    """Three notes; nothing is suggested."""
    for n, text in enumerate(("Well done, all.", "Where is it?", "Late again.")):
        world.add(f"n{n}", "text/plain", endpoint="notes", record=text)


def opened(desk: Any, world: World) -> None:
    desk.goto(f"{world.url}/#/review/notes")
    desk.locator(".text-item").wait_for()
    drawn(desk)


def asked(desk: Any) -> Any:
    desk.keyboard.press("s")
    dialog = desk.get_by_role("dialog", name="Skip or escalate: why?")
    dialog.wait_for()
    return dialog


def test_a_skip_keeps_its_reason_and_the_next_item_comes(desk: Any, world: World) -> None:
    opened(desk, world)
    first = desk.locator(".text-item").inner_text()
    asked(desk)
    shot(desk, "review-skip")
    assert fits(desk, width=400)
    desk.keyboard.press("3")
    until(desk, f"document.querySelector('.text-item').innerText !== {first!r}")
    until(desk, SENT)
    (row,) = world.judgements()
    assert (row["skip"], row["value"]) == ("the input is broken", None)


def test_an_escalated_item_is_only_an_adjudicators(desk: Any, world: World) -> None:
    opened(desk, world)
    dialog = asked(desk)
    escalate = dialog.get_by_role("button", name="Escalate")
    assert escalate.is_disabled()
    dialog.get_by_label("Another reason").fill("may be irony")
    escalate.click()
    desk.get_by_role("dialog").wait_for(state="hidden")
    until(desk, SENT)
    (row,) = world.judgements()
    assert row["skip"] == "escalated: may be irony"
    item = row["item"]
    assert item not in {x.item for x in world.queue.lease("bea", n=3, endpoint="notes")}
    (final,) = [x for x in world.queue.lease("dan", n=3, adjudicator=True) if x.item == item]
    assert final.adjudicate
    assert final.blind


def test_an_escalation_is_taken_back(desk: Any, world: World) -> None:
    opened(desk, world)
    first = desk.locator(".text-item").inner_text()
    dialog = asked(desk)
    dialog.get_by_label("Another reason").fill("by mistake")
    dialog.get_by_role("button", name="Escalate").click()
    until(desk, f"document.querySelector('.text-item').innerText !== {first!r}")
    drawn(desk)
    desk.keyboard.press("u")
    until(desk, f"document.querySelector('.text-item').innerText === {first!r}")
    assert world.queue.counts("notes").escalated == 0


def test_an_empty_queue_says_so_and_takes_back(desk: Any, world: World) -> None:
    opened(desk, world)
    for n in range(3):
        desk.get_by_text(f"{n} judged by you now").wait_for()
        drawn(desk)
        desk.keyboard.press("1")
    desk.get_by_text("Nothing waits for you").wait_for()
    until(desk, SENT)
    assert [row["value"] for row in world.judgements()] == ["praise"] * 3
    shot(desk, "review-empty")
    desk.get_by_role("button", name="Undo your last judgement").click()
    desk.locator(".text-item").wait_for()


def test_a_key_pressed_twice_judges_no_item_unseen(desk: Any, world: World) -> None:
    opened(desk, world)
    twice = "for (let i = 0; i < 2; i++) window.dispatchEvent(new KeyboardEvent('keydown', { key: '1' }))"
    desk.evaluate(f"() => {{ {twice} }}")
    desk.get_by_text("1 judged by you now").wait_for()
    until(desk, SENT)
    assert len(world.judgements()) == 1
