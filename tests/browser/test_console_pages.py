"""Every page, narrow and wide, light and dark: no axe violation, nothing wider than the screen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from console_server import Console
from desk_world import drawn

pytestmark = pytest.mark.browser

PICTURES = "TENURE_SCREENSHOTS" in os.environ
LOOKS = ((400, "light"), (1600, "dark"), (1600, "light"), (400, "dark"))

PAGES = {
    "overview": ("#/overview", "Overview"),
    "metrics": ("#/e/phones/metrics", "phones"),
    "rollout": ("#/e/phones/rollout", "Rollout"),
    "rollout-none": ("#/e/notes/rollout", "Rollout"),
    "automation": ("#/e/phones/automation", "Automation"),
    "versions": ("#/e/phones/versions", "Versions and retraining"),
    "review": ("#/review/phones", "Review"),
    "review-text": ("#/review/notes", "Review"),
    "readers": ("#/readers/phones", "Readers"),
    "alarms": ("#/alarms", "Alarms"),
    "audit": ("#/audit", "Audit trail"),
}
SETTLED = {
    "metrics": "canvas",
    "rollout": ".rung",
    "automation": ".curve svg",
    "review": ".stage img",
    "alarms": "canvas",
}
RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}"


def violations(page: Any, axe: str) -> list[str]:
    """Return what axe finds on the page as it is, in words."""
    page.evaluate(axe)
    found = page.evaluate(f"axe.run(document, {RULES})")["violations"]
    return [f"{v['id']}: {node['html'][:120]}" for v in found for node in v["nodes"]]


def settle(page: Any, name: str) -> None:
    drawn(page)  # the page before it may have the same heading
    page.locator("main h1").first.wait_for()
    page.get_by_text("Loading …").first.wait_for(state="detached")
    if name in SETTLED:
        page.locator(SETTLED[name]).first.wait_for(state="attached")


@pytest.mark.parametrize(("width", "scheme"), LOOKS if PICTURES else LOOKS[:2])
def test_pages_are_accessible_and_fit(page: Any, console: Console, axe: str, width: int, scheme: str) -> None:
    console.seed.alarm()
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(console.url)
    found = []
    for name, (address, title) in PAGES.items():
        page.goto(f"{console.url}/{address}")
        page.locator("main h1", has_text=title).first.wait_for()
        settle(page, name)
        picture(page, f"{name}-{width}-{scheme}")
        found += [f"{name}: {v}" for v in violations(page, axe)]
        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        found += [f"{name}: {wider} px wider than the screen"] if wider > 0 else []
    assert found == []


def test_the_menu_and_the_dialogs_are_accessible(page: Any, console: Console, axe: str) -> None:
    page.set_viewport_size({"width": 400, "height": 900})
    page.goto(f"{console.url}/#/review/phones")
    settle(page, "review")
    page.get_by_role("button", name="Menu").click()
    found = violations(page, axe)
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    found += violations(page, axe)
    assert found == []


def picture(page: Any, name: str) -> None:
    folder = os.environ.get("TENURE_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
