"""Tokens in the browser: logging in, what a role sees, logging out."""

from __future__ import annotations

from typing import Any

import pytest
from console_server import Console
from test_console_pages import violations

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("console", [True], indirect=True, ids=["tokens"])]


def log_in(page: Any, console: Console, role: str) -> None:
    token = console.services.access.create(f"{role}-1", role)
    page.goto(console.url)
    page.get_by_label("Your token").fill(token)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()


def forgive_401(console: Console) -> None:
    """The browser prints every refused request; being refused is what is tested here."""
    console.complaints[:] = [c for c in console.complaints if "401" not in c]


def test_a_wrong_token_is_refused_in_words(page: Any, console: Console, axe: str) -> None:
    page.goto(console.url)
    page.get_by_label("Your token").fill("guess")
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_text="unknown or revoked").wait_for()
    assert violations(page, axe) == []
    forgive_401(console)


def test_a_viewer_sees_everything_and_no_command(page: Any, console: Console) -> None:
    log_in(page, console, "viewer")
    page.goto(f"{console.url}/#/e/phones/rollout")
    page.locator(".rung").first.wait_for()
    assert page.get_by_role("button", name="Roll back").count() == 0
    page.goto(f"{console.url}/#/review/phones")
    page.get_by_text("Your role does not judge").wait_for()
    forgive_401(console)


def test_scripts_cannot_read_the_token_and_logging_out_forgets_it(page: Any, console: Console) -> None:
    log_in(page, console, "reviewer")
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Your token").wait_for()
    page.reload()
    page.get_by_label("Your token").wait_for()
    forgive_401(console)
