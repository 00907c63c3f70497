"""What people do at the console, in a real browser: judge by keyboard, see an alarm come up, add a note."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from console_server import Console
from desk_world import drawn, until

from tenure.data import tables as t

pytestmark = pytest.mark.browser


def judgements(console: Console) -> list[sa.RowMapping]:
    with console.state.read() as conn:
        return list(conn.execute(sa.select(t.judgements).order_by(t.judgements.c.id)).mappings())


def open_review(page: Any, console: Console, endpoint: str = "phones") -> None:
    page.goto(f"{console.url}/#/review/{endpoint}")
    page.locator(".stage-plane svg" if endpoint == "phones" else ".text-item").first.wait_for()  # with its photo
    drawn(page)


def judged(page: Any, n: int) -> None:
    page.get_by_text(f"{n} judged by you now").wait_for()
    drawn(page)


def stored(page: Any, console: Console, n: int) -> list[sa.RowMapping]:
    """Wait until nothing is on its way any more, and return the rows."""
    page.get_by_text("on the way").wait_for(state="detached")
    until(page, "localStorage.getItem('tenure.outbox.local') === '[]'")
    drawn(page)
    rows = judgements(console)
    assert len(rows) == n
    return rows


def test_a_reviewer_judges_a_photo_by_keyboard(page: Any, console: Console) -> None:
    open_review(page, console)
    page.keyboard.press("2")
    page.keyboard.press("n")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    judged(page, 1)
    (row,) = stored(page, console, 1)
    box = json.loads(row["regions"])[-1]
    assert json.loads(row["value"]) == "defect"
    assert row["reader"] == "local"
    assert (box["x1"], box["x2"] - box["x1"]) == (266.0, 128.0)  # the middle of 640 px, five steps of 2 px
    assert box["y2"] - box["y1"] == 98.0


def test_a_box_is_drawn_and_moved_with_the_mouse(page: Any, console: Console) -> None:
    open_review(page, console)
    page.keyboard.press("r")
    stage = page.locator(".stage").bounding_box()
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    page.mouse.move(x - 60, y - 40)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=4)
    page.mouse.up()
    page.locator(".box-list li").first.wait_for()
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y, steps=4)
    page.mouse.up()
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    judged(page, 1)
    (row,) = stored(page, console, 1)
    (box,) = json.loads(row["regions"])
    middle = (box["x1"] + box["x2"]) / 2
    assert middle > 330  # it was drawn around 320 and moved to the right
    assert abs((box["y1"] + box["y2"]) / 2 - 240) < 4


def test_blind_items_show_no_suggestion_and_cannot_be_accepted(page: Any, console: Console) -> None:
    with console.state.begin() as conn:
        conn.execute(sa.update(t.review_items).values(blind=1))
    open_review(page, console)
    page.get_by_text("Nothing is suggested for this item.").wait_for()
    page.keyboard.press("a")
    page.get_by_text("judge it yourself").wait_for()
    page.keyboard.press("Enter")
    page.get_by_text("Choose a label first.").wait_for()
    assert judgements(console) == []


def test_accepting_takes_the_suggestion_with_its_boxes(page: Any, console: Console) -> None:
    with console.state.begin() as conn:
        conn.execute(sa.update(t.review_items).values(blind=0))
    open_review(page, console)
    page.keyboard.press("a")
    judged(page, 1)
    (row,) = stored(page, console, 1)
    assert json.loads(row["value"]) == "defect"
    assert json.loads(row["regions"])[0]["label"] == "scratch"


def test_skip_and_undo_by_keyboard(page: Any, console: Console) -> None:
    open_review(page, console)
    page.keyboard.press("s")
    page.get_by_role("dialog", name="Skip or escalate: why?").wait_for()
    page.keyboard.press("2")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert [r["skip"] for r in stored(page, console, 1)] == ["not sure"]
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    judged(page, 1)
    first = stored(page, console, 2)[1]
    page.keyboard.press("u")
    judged(page, 0)
    assert judgements(console)[-1]["supersedes"] == first["id"]


def test_a_lost_connection_neither_loses_nor_doubles_a_judgement(page: Any, console: Console) -> None:
    """The first answers get lost after the server has stored the judgement."""
    open_review(page, console)
    lost = []

    def lose(route: Any) -> None:
        if len(lost) < 2:
            lost.append(route.request.headers["idempotency-key"])  # first: fetching lets the test run on
            route.fetch()
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/judgements", lose)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    judged(page, 1)
    stored(page, console, 1)
    assert len(lost) == 2  # the page sent again, after pauses of its own, until an answer came
    assert len(set(lost)) == 1
    stored(page, console, 1)
    console.complaints[:] = [c for c in console.complaints if "ERR_CONNECTION_RESET" not in c]


def test_a_text_is_judged_with_one_key(page: Any, console: Console) -> None:
    open_review(page, console, "notes")
    page.keyboard.press("3")
    judged(page, 1)
    assert json.loads(stored(page, console, 1)[0]["value"]) == "question"


def test_the_dark_lighting_alarm_appears_by_itself_and_is_acknowledged(page: Any, console: Console) -> None:
    page.goto(f"{console.url}/#/alarms")
    page.get_by_text("No alarm is open").wait_for()
    page.get_by_text("live", exact=True).first.wait_for()
    console.seed.alarm()
    page.get_by_role("heading", name="Brightness fell from 142 to 61 grey levels").wait_for()
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_text("acknowledged by local").wait_for()
    page.goto(f"{console.url}/#/overview")
    page.get_by_text("In the review queue").first.wait_for()
    assert page.locator(".need.bad").count() == 0


def test_a_note_is_added_and_shown(page: Any, console: Console) -> None:
    page.goto(f"{console.url}/#/e/phones/metrics")
    page.get_by_label("Mark what changed").fill("belt is faster")
    page.keyboard.press("Enter")
    page.get_by_text("The note is on the charts.").wait_for()
    page.goto(f"{console.url}/#/overview")
    page.get_by_text("belt is faster").wait_for()


def test_the_level_goes_down_when_an_operator_says_so(page: Any, console: Console) -> None:
    page.goto(f"{console.url}/#/e/phones/automation")
    page.get_by_role("button", name="Down to assist").click()
    page.get_by_role("dialog").get_by_role("button", name="Down to assist").click()
    page.get_by_text("The level is assist.").wait_for()
    page.locator(".dial .at", has_text="assist").wait_for()


def test_one_line_goes_down_alone(page: Any, console: Console) -> None:
    page.goto(f"{console.url}/#/e/phones/automation")
    page.get_by_role("button", name="line 1").click()
    page.get_by_role("heading", name="Degree of automation · line 1").wait_for()
    page.get_by_role("button", name="Down to shadow").click()
    page.get_by_role("dialog").get_by_role("button", name="Down to shadow").click()
    page.get_by_text("The level is shadow.").wait_for()
    row = page.locator(".segments > li", has=page.get_by_role("button", name="line 1"))
    row.get_by_role("img", name="shadow, at most partial").wait_for()
    levels = {name: console.services.automation.level("phones", name).word for name in ("", "line 1", "line 2")}
    assert levels == {"": "partial", "line 1": "shadow", "line 2": "human_only"}


def test_an_operator_rolls_back(page: Any, console: Console) -> None:
    page.goto(f"{console.url}/#/e/phones/rollout")
    page.get_by_role("button", name="Roll back").click()
    dialog = page.get_by_role("dialog", name="Roll back scratch-2@b07d?")
    dialog.get_by_label("Reason").fill("customers complain")
    dialog.get_by_role("button", name="Roll back").click()
    page.get_by_text("Rolled back.").wait_for()
    page.get_by_text("No rollout is running", exact=True).wait_for()
    assert console.services.rollouts.get("r-2").state == "rolled_back"
    with console.state.read() as conn:
        moves = conn.execute(sa.select(t.rollout_moves).order_by(t.rollout_moves.c.id.desc())).mappings().first()
    assert moves is not None
    assert (moves["author"], moves["reason"]) == ("local", "customers complain")


def test_an_operator_starts_pauses_and_resumes_a_rollout(page: Any, console: Console) -> None:
    console.services.rollouts.rollback("r-2", by="mira")
    page.goto(f"{console.url}/#/e/phones/rollout")
    page.get_by_role("button", name="Start a rollout").click()
    dialog = page.get_by_role("dialog", name="Start a rollout on phones")
    dialog.get_by_role("combobox", name="Version").select_option("scratch-2@b07d55e1")
    dialog.get_by_role("button", name="Start now").click()
    page.locator(".rung.here", has_text="Shadow").wait_for()
    for verb, then in (("Pause", "paused"), ("Resume", "running")):
        page.get_by_role("button", name=verb).click()
        page.get_by_role("dialog").get_by_role("button", name=verb).click()
        page.locator(".card-head .badge", has_text=then).wait_for()
    rollout = console.services.rollouts.active(None, "phones")
    assert rollout is not None
    assert rollout.state == "running"
