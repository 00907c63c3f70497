"""The rollout page: whom it asks, when it can be decided, an approval and a jump, narrow and wide."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from console_server import Console

from tenure.data import tables as t
from tenure.data.state import dumps

pytestmark = pytest.mark.browser

PLAN = {
    "steps": [{"share": 0.05, "min": 200}, {"share": 0.25, "min": 500, "approve": True}, {"share": 1.0}],
    "gates": [{"bad": "wrong_decision"}, {"bad": "reaction:redo", "maturity": 60.0}],
    "second_person": True,
}


def asking(console: Console) -> None:
    """Let the running rollout be at a step that wants an approval by somebody else."""
    r = t.rollouts.c
    with console.state.begin() as conn:
        values = {"plan": dumps(msgspec.to_builtins(PLAN)), "step": 1}
        conn.execute(t.rollouts.update().where(r.id == "r-2").values(**values))


@pytest.mark.parametrize("width", [420, 1400])
def test_an_operator_approves_and_jumps(page: Any, console: Console, width: int) -> None:
    asking(console)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{console.url}/#/e/phones/rollout")
    page.get_by_text("anybody but mira approves step 2").wait_for()
    page.get_by_text("Forecast").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if "TENURE_SCREENSHOTS" in os.environ:
        folder = Path(os.environ["TENURE_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(folder / f"rollout-asks-{width}.png"), full_page=True)
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("seen by quality")
    page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    page.get_by_text("Approved by").wait_for()
    page.get_by_label("Step to jump to").select_option("0")
    page.get_by_role("button", name="Jump").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("the night shift looked odd")
    page.get_by_role("dialog").get_by_role("button", name="Jump").click()
    page.get_by_text("attempt 2").wait_for()
    got = console.services.rollouts.get("r-2")
    assert (got.step, got.state, got.salt != "s") == (0, "running", True)


@pytest.mark.parametrize("width", [420, 1400])
def test_the_evidence_shows_bands_and_slices_apart(page: Any, console: Console, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{console.url}/#/e/phones/rollout")
    page.get_by_role("img", name="Difference of the means about 95 %: -0.0210 to 0.0130").wait_for()
    page.get_by_text("mean confidence", exact=True).wait_for()
    said = page.get_by_text("9 judged requests of night in this step")
    assert not said.is_visible()  # too few in a slice holds nothing, so that it stays folded
    page.locator("summary", has_text="Where line=3").click()
    said.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if "TENURE_SCREENSHOTS" in os.environ:
        folder = Path(os.environ["TENURE_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(folder / f"rollout-slices-{width}.png"), full_page=True)
