"""The readers' page on real judgements, wide and narrow: what it says, that it fits, that axe finds nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from console_server import Console
from test_console_pages import violations

from tenure.data import tables as t
from tenure.deploy.review import store
from tenure.deploy.review.items import NewItem
from tenure.seeds import draw

pytestmark = pytest.mark.browser

ITEMS = 60


def two_people_read(console: Console) -> None:
    """Let two people read the same items, of which one calls many defects good, and a third adjudicate."""
    queue, state = console.services.queue, console.state
    plain = {"endpoint": "phones", "kind": "audit", "media_type": "image/png", "created_us": state.now_us()}
    items = [NewItem(id=f"double{n:03}", required=2, **plain) for n in range(ITEMS)]  # type: ignore[arg-type]
    with state.begin() as conn:  # the seed numbered its items by itself
        store.insert_missing(conn, t.meta, [{"key": "review.number", "value": "100000"}])
        queue.add(conn, items)
    for reader in ("anna", "bela", "chief"):
        while leased := queue.lease(reader, n=20, endpoint="phones"):
            for one in leased:
                defect = draw("truth", one.item) < 0.5
                slips = reader == "bela" and draw("slip", one.item) < 0.5
                value = "defect" if defect and not slips else "good"
                queue.submit(one.item, reader=reader, token=one.token, value=value, key=one.token, seconds=3.0)


@pytest.mark.parametrize("width", [1400, 420])
def test_the_readers_page_shows_people_and_conventions(page: Any, console: Console, axe: str, width: int) -> None:
    two_people_read(console)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{console.url}/#/readers/phones")
    page.get_by_role("rowheader", name="bela").wait_for()
    text = page.locator("main").inner_text()
    assert "Define 'good' against 'defect': bela" in text
    assert "too few to say" in text or "to 100" in text
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page, axe) == []
    if folder := os.environ.get("TENURE_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"readers-{width}.png"), full_page=True)
