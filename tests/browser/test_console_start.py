"""The dialog that starts a rollout: a ladder is chosen and changed, refusals stand by their fields, it starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from console_server import Console
from seed import V1, V2

pytestmark = pytest.mark.browser

SIZES = ((1600, 1000), (1000, 800), (400, 800))


@pytest.fixture
def dialog(page: Any, console: Console) -> Any:
    """The dialog, open on a page where no rollout runs."""
    console.services.rollouts.cancel("r-2", by="mira", reason="make room")
    with console.state.begin() as conn:
        console.services.rollouts.set_stable(conn, "phones", V1, "mira")
    page.goto(f"{console.url}/#/e/phones/rollout")
    page.get_by_role("button", name="Start a rollout").click()
    opened = page.get_by_role("dialog")
    opened.get_by_text("What will happen").wait_for()
    opened.get_by_text("4. answers 100% of requests").wait_for()
    return opened


def picture(page: Any, name: str) -> None:
    if "TENURE_SCREENSHOTS" in os.environ:
        folder = Path(os.environ["TENURE_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(folder / f"{name}.png"))


def test_a_changed_plan_starts_as_its_preview_says(page: Any, console: Console, dialog: Any) -> None:
    dialog.get_by_role("combobox", name="Version").select_option(V2)
    dialog.get_by_role("radio", name="canary").check()
    dialog.get_by_text("1. answers 5% of requests, until 4,000 requests of both versions").wait_for()
    second = dialog.get_by_role("listitem", name="Step 2")
    second.get_by_label("Share").fill("30%")
    second.get_by_label("Lasts").fill("2h")
    second.get_by_label("Approval").check()
    dialog.get_by_role("checkbox", name="Wrong decisions").uncheck()
    dialog.get_by_role("radio", name="shown to be no worse").check()
    dialog.get_by_label("Pause if not done within").fill("3d")
    dialog.get_by_label("Somebody else").check()
    dialog.get_by_text(
        "2. answers 30% of requests, until 1,667 requests of both versions and 2 h and an approval"
    ).wait_for()
    dialog.get_by_text("a step passes when every gate is shown to be no worse").wait_for()
    dialog.get_by_role("button", name="Start now").click()
    page.get_by_text("The rollout is started.").wait_for()
    page.get_by_text("started by local").wait_for()
    with console.state.read() as conn:
        now = console.services.rollouts.active(conn, "phones")
    assert now is not None
    assert [step.share for step in now.plan.steps] == [0.05, 0.3, 1.0]
    assert (now.candidate, now.plan.advance, now.plan.deadline, now.plan.second_person) == (
        V2,
        "shown",
        259_200.0,
        True,
    )
    assert [gate.bad for gate in now.plan.gates] == ["over_latency", "failed"]
    page.get_by_text("You started it, and its plan wants a second person").wait_for()
    assert page.get_by_role("button", name="Promote").count() == 0


def test_a_refusal_stands_by_its_field_and_nothing_starts(page: Any, console: Console, dialog: Any) -> None:
    start = dialog.get_by_role("button", name="Start now")
    second = dialog.get_by_role("listitem", name="Step 2")
    second.get_by_label("Share").fill("250%")
    second.get_by_text("expected a share such as 5% or 0.05, from 0 to 1, got 250%").wait_for()
    assert second.get_by_label("Share").get_attribute("aria-invalid") == "true"
    assert start.is_disabled()
    second.get_by_label("Share").fill("60%")
    dialog.get_by_role("listitem", name="Step 3").get_by_text("shares must rise").wait_for()
    dialog.get_by_label("Pause if not done within").fill("soon")
    dialog.get_by_text("expected a duration such as").wait_for()
    picture(page, "start-refused")
    dialog.get_by_role("radio", name="blue-green").check()
    dialog.get_by_text("no gates: nothing is compared").wait_for()  # its plan has come: what is set now stays
    dialog.get_by_role("checkbox", name="Failed answers").check()
    dialog.get_by_text("no step splits the traffic").wait_for()
    assert start.is_disabled()
    dialog.get_by_role("checkbox", name="Failed answers").uncheck()
    dialog.get_by_text("no gates: nothing is compared").wait_for()
    assert start.is_enabled()
    dialog.get_by_role("button", name="Cancel").click()
    assert console.services.rollouts.active(None, "phones") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_and_reads_well(
    page: Any, console: Console, dialog: Any, axe: str, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        dialog.evaluate("d => d.scrollTo(0, 0)")
        picture(page, f"start-{scheme}-{width}-top")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert dialog.evaluate("d => d.scrollWidth <= d.clientWidth")
        dialog.evaluate("d => d.scrollTo(0, d.scrollHeight / 2 - d.clientHeight / 2)")
        picture(page, f"start-{scheme}-{width}-middle")
        dialog.evaluate("d => d.scrollTo(0, d.scrollHeight)")
        picture(page, f"start-{scheme}-{width}-end")
        page.evaluate(axe)
        found = page.evaluate(
            "async () => (await axe.run()).violations.map(v => [v.id, v.nodes.map(n => n.html)])"
        )
        assert found == []
