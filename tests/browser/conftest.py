"""A real console server on a seeded state, and a real Chromium; skipped with the reason where either is absent.

`TENURE_SCREENSHOTS` names a folder for pictures of every page.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from console_server import Console, services_of
from desk_world import World
from seed import Seed

from tenure.clock import SystemClock
from tenure.console import page as built
from tenure.console.api import management_app
from tenure.data.state import State

CHROMIUM = "/usr/bin/chromium"
PATIENCE_MS = 60_000  # an upper bound only: a busy machine is slow, and a test waits for no time
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
)


@contextmanager
def running(folder: Path, *, open_loopback: bool) -> Iterator[Console]:
    """Run a console server on a free port of this machine until the end of the block."""
    if not (built.STATIC / "index.html").is_file():
        pytest.skip("the page is not built; run: python hatch_build.py")
    state = State.open(folder / "state.db", SystemClock())
    seed = Seed(state).fill()
    services = services_of(state, seed)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    app = management_app(services, open_loopback=open_loopback)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        yield Console(f"http://127.0.0.1:{sock.getsockname()[1]}", state, seed, services, [])
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        sock.close()
        state.close()


@pytest.fixture
def console(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Console]:
    """The console without tokens; with them where a test gives the parameter True."""
    with running(tmp_path, open_loopback=not getattr(request, "param", False)) as console:
        yield console


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; ended with its file, because Playwright's event loop would forbid others in this process."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"there is no {CHROMIUM}; install the package chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0, args=list(FLAGS)
        )
        yield browser
        browser.close()


@contextmanager
def watched(chromium: Any, url: str, complaints: list[str]) -> Iterator[Any]:
    """Open a page; the test fails when it breaks or asks another host."""
    context = chromium.new_context(viewport={"width": 1600, "height": 1000}, reduced_motion="reduce")
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    ours = (url, "blob:", "data:")
    opened.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    opened.on("request", lambda r: None if r.url.startswith(ours) else complaints.append(f"asked {r.url}"))
    yield opened
    context.close()
    assert complaints == []


@pytest.fixture
def page(chromium: Any, console: Console) -> Iterator[Any]:
    """A page at `console`, which may not print an error either: its server is never down."""
    with watched(chromium, console.url, console.complaints) as opened:
        opened.on("console", lambda m: console.complaints.append(m.text) if m.type == "error" else None)
        yield opened


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A console on the real inputs that the test file's `PROJECT` and `fill` name."""
    if not (built.STATIC / "index.html").is_file():
        pytest.skip("the page is not built; run: python hatch_build.py")
    made = World(tmp_path, request.module.PROJECT)
    try:
        request.module.fill(made, request.getfixturevalue("real_data"))
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def desk(chromium: Any, world: World) -> Iterator[Any]:
    """A page at `world`, whose server a test may stop."""
    with watched(chromium, world.url, world.complaints) as opened:
        yield opened


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, from the page's development packages."""
    file = Path(__file__).resolve().parents[2] / "ui" / "node_modules" / "axe-core" / "axe.min.js"
    if not file.is_file():
        pytest.skip("axe-core is not installed; run: npm ci in ui/")
    return file.read_text()
