"""A console whose review queue holds real inputs; its server can be killed and started again on the same port."""

from __future__ import annotations

import csv
import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvicorn

from tenure.clock import SystemClock
from tenure.console.api import management_app
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.data.access import Access
from tenure.data.state import State
from tenure.deploy.automation.ledger import Automation
from tenure.deploy.review.items import ItemPrediction, NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.deploy.rollout.ledger import Rollouts
from tenure.scope import project as p
from tenure.types import Box, Value

DRAWN = """async () => {
  for (let turn = 0; turn < 3; turn++) {
    await new Promise(done => requestAnimationFrame(done));
    await new Promise(done => setTimeout(done));
  }
}"""
SHOTS = os.environ.get("TENURE_SCREENSHOTS")


@dataclass
class World:
    """A state, its services, and a server that may be down."""

    folder: Path
    project: p.Project
    media: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = State.open(self.folder / "state.db", SystemClock())
        ends = self.project.endpoints
        self.queue = ReviewQueue(self.state, ends, output=self.project.scope.y)
        self.services = Services(
            project=self.project,
            state=self.state,
            queue=self.queue,
            rollouts=Rollouts(self.state, ends, case=self.project.scope.case),
            automation=Automation(self.state, ends),
            access=Access(self.state),
            health=lambda: {"ok": True, "workers": 1},
            media=self.media.get,
            retrain=lambda endpoint, cause, by: "t-1",
            wake=lambda: None,
            publish=lambda: None,
        )
        self.held = reusable()  # as long as we live nobody else is given the port, also while the server is down
        self.held.bind(("127.0.0.1", 0))
        self.port = int(self.held.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.server: uvicorn.Server | None = None

    def start(self) -> World:
        sock = reusable()
        sock.bind(("127.0.0.1", self.port))
        sock.listen()
        app = management_app(self.services, open_loopback=True)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [sock]}, daemon=True)
        self.thread.start()
        return self

    def kill(self) -> None:
        """End the server without waiting for anybody's request."""
        if self.server is None:
            return
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(timeout=60)
        assert not self.thread.is_alive(), "the server did not end"
        self.server = None

    def close(self) -> None:
        self.kill()
        self.held.close()
        self.state.close()

    def add(
        self,
        item: str,
        kind: str,
        data: bytes = b"",
        *,
        endpoint: str,
        record: Any = None,
        said: Value = None,
        confidence: float | None = None,
        regions: Sequence[Box] = (),
        contributions: dict[str, float] | None = None,
    ) -> None:
        """Queue one item that shows the model's answer where there is one."""
        now = self.state.now_us()
        if data:
            self.media[item] = (kind, data)
        new = NewItem(
            id=item, endpoint=endpoint, kind="uncertain", media_type=kind, created_us=now, blind=said is None,
            level="assist", version="m@1", record=record,
        )  # fmt: skip
        answer = ItemPrediction(
            item=item, version="m@1", role="primary", value=said, at_us=now, confidence=confidence,
            regions=tuple(regions), contributions=contributions,
        )  # fmt: skip
        with self.state.begin() as conn:
            self.queue.add(conn, [new])
            if said is not None:
                self.queue.add_predictions(conn, [answer])

    def judgements(self) -> list[dict[str, Any]]:
        with self.state.read() as conn:
            rows = conn.execute(sa.select(t.judgements).order_by(t.judgements.c.id)).mappings()
            return [dict(row) | {"value": json.loads(row["value"])} for row in rows]


def reusable() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def shot(page: Any, name: str) -> None:
    """Keep pictures of the page, light and dark at three widths, where `TENURE_SCREENSHOTS` names a folder."""
    if SHOTS:
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            for width in (1600, 1000, 400):
                page.set_viewport_size({"width": width, "height": 1000})
                page.wait_for_timeout(150)  # a picture for people, nothing is asserted
                page.screenshot(path=f"{SHOTS}/{name}-{scheme}-{width}.png", full_page=True)
        page.set_viewport_size({"width": 1600, "height": 1000})


def fits(page: Any, *, width: int) -> bool:
    """Whether nothing sticks out to the side at this width."""
    page.set_viewport_size({"width": width, "height": 900})
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def until(page: Any, holds: str | Callable[[], object], tries: int = 1200) -> None:
    """Wait until an expression of the page, or a condition of ours, holds; other handlers run meanwhile.

    The page's security policy forbids Playwright's own way: it throws unless the condition holds at once.
    """
    for _ in range(tries):
        if page.evaluate(holds) if isinstance(holds, str) else holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {holds}")


def drawn(page: Any) -> None:
    """Wait until the page shows what it knows: an item hears keys only after it was drawn."""
    page.evaluate(DRAWN)


def sent(page: Any, n: int) -> None:
    """Wait until n judgements were made and all are with the server."""
    page.get_by_text(f"{n} judged by you now").wait_for()
    until(page, "localStorage.getItem('tenure.outbox.local') === '[]'")
    drawn(page)


def table(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))
