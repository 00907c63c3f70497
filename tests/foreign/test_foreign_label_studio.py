"""A real Label Studio takes an endpoint as its model, asks for predictions, and tells what its people say."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import foreign_models as models
import msgspec
import pytest
import sqlalchemy as sa
from foreign_env import python_of, run

from tenure import system
from tenure.clock import SystemClock
from tenure.data import tables as t
from tenure.data.access import Access
from tenure.data.masking import NOTHING
from tenure.data.state import State
from tenure.deploy.rollout.ledger import Rollouts
from tenure.maintain.exchange import gather, label_studio
from tenure.maintain.exchange.entry import Out
from tenure.model.registry import Registry
from tenure.scope.project import (
    Automation,
    EndpointSpec,
    Output,
    Project,
    Review,
    Scope,
    SecondReader,
    Server,
)

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(2400)]
OUTPUT = Output(labels=("big", "small"))
KEY = "0123456789abcdef0123456789abcdef01234567"
ALONE = Review(second_reader=SecondReader(disagreements=0.0, agreements=0.0))
ENDPOINTS = {
    name: EndpointSpec(
        input="text", review=ALONE, automation=Automation(start="assist", max="assist", blind=blind)
    )
    for name, blind in (("open", 0.0), ("closed", 1.0))
}


@contextlib.contextmanager
def tenure(root: Path) -> Iterator[tuple[system.Server, State, str, str]]:
    """Run a server with a version in force; yields it, its state, and a client's and Label Studio's token."""
    project = system.resolved(
        Project(
            project="foreign", root=str(root), scope=Scope(case="assist", y=OUTPUT), endpoints=ENDPOINTS,
            server=Server(port=0, console_port=0, workers=1),
        )
    )  # fmt: skip
    folder = project.folder()
    system.prepare(folder)
    state = State.open(system.state_url(project), SystemClock())
    registry, rollouts = Registry(state, folder), Rollouts(state, project.endpoints)
    for name, spec in project.endpoints.items():
        version = registry.register(name, models.length, spec=spec, output=OUTPUT, sample="a note")
        with state.begin() as conn:
            rollouts.set_stable(conn, name, version, "test")
    access = Access(state)
    tokens = access.create("client", "client"), access.create("studio", "exchange")
    with system.Server(project) as server:
        yield server, state, *tokens
    state.close()


@contextlib.contextmanager
def studio(python: Path, folder: Path) -> Iterator[str]:
    """Run Label Studio with a data folder of its own; it may call loopback, and calls nothing else."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder), "ML_BLOCK_LOCAL_IP": "false", "COLLECT_ANALYTICS": "false",
        "SSRF_PROTECTION_ENABLED": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "", "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "no_proxy": "*",
    }  # fmt: skip
    command = [
        python.parent / "label-studio", "start", "--no-browser", "--host", url, "--internal-host", "127.0.0.1",
        "--port", port, "--username", "ann@example.org", "--password", "a long password", "--user-token", KEY,
    ]  # fmt: skip
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        _wait(process, f"{url}/health", folder / "log.txt")
        yield url
    finally:
        process.terminate()
        process.wait(120)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait for its database, which it makes at its first start in minutes."""
    while process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=60):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
    pytest.fail(f"Label Studio ended: {log.read_text(errors='replace')[-2000:]}")


def _asked(server: system.Server, state: State, token: str, name: str) -> None:
    """Send three requests and wait until the review queue has them."""
    for number in range(3):
        request = urllib.request.Request(
            f"{server.url}/v1/{name}/predict", data=f"note {number} of {name}".encode(),
            headers={"Content-Type": "text/plain", "Authorization": f"Bearer {token}"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=90) as reply:
            assert reply.status == 202
    count = sa.select(sa.func.count()).where(t.review_items.c.endpoint == name)
    for _ in range(100_000):
        with state.read() as conn:
            if conn.execute(count).scalar_one() == 3:
                return
    pytest.fail("the controller did not read the log")


def _exported(state: State, name: str, folder: Path) -> Path:
    folder.mkdir()
    with state.read() as conn:
        items = gather.select(conn, name, open_=True, resolved=False, since_us=0)
    outs = [o for o in gather.outs(items, folder, lambda item: None, mask=NOTHING) if isinstance(o, Out)]
    tasks = [label_studio.task(out, "text", OUTPUT, prefix="") for out in outs]
    (folder / "tasks.json").write_bytes(msgspec.json.encode(tasks))
    (folder / "config.xml").write_text(label_studio.config("text", OUTPUT, []))
    return folder


def test_label_studio_works_with_an_endpoint_from_connecting_to_judgements(tmp_path: Path) -> None:
    python = python_of("label-studio")
    (tmp_path / "studio").mkdir()
    with studio(python, tmp_path / "studio") as base, tenure(tmp_path / "project") as made:
        server, state, client, token = made
        for name in ENDPOINTS:
            _asked(server, state, client, name)
        folders = [str(_exported(state, name, tmp_path / name)) for name in ENDPOINTS]
        checks = run(
            python, "label_studio_project.py", [base, KEY, server.console_url, token, *folders], timeout=900
        )
        assert checks == ["connected", "predictions", "blind", "created", "updated", "deleted", "accepted"]
        i, j = t.review_items.c, t.judgements.c
        with state.read() as conn:
            query = sa.select(t.judgements, i.endpoint).join(t.review_items, i.id == j.item).order_by(j.id)
            rows = conn.execute(query).mappings().all()
            logged = conn.execute(sa.select(sa.func.count()).select_from(t.review_items)).scalar_one()
    gone = {row["supersedes"] for row in rows}
    standing = [
        (row["endpoint"], row["reader"], json.loads(row["value"]), bool(row["blind"]))
        for row in rows
        if row["id"] not in gone and row["skip"] is None
    ]
    assert standing == [
        ("closed", "label_studio:1", "big", True), ("closed", "label_studio:1", "small", True),
        ("open", "label_studio:1", "big", False),
    ]  # fmt: skip
    assert [row["skip"] for row in rows].count("undo") == 1  # the deleted one; nothing is lost
    assert logged == 6  # what Label Studio asked its model is no request
