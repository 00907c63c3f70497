"""Roll a canary back under load: no failed request, and no candidate answer under the newer table."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import serving_models as models
from serving_server import Client, World, sizes_world

from tenure.data import tables as t


class Caller(threading.Thread):
    """A closed-loop keep-alive client; remembers ids and versions, and the first thing that went wrong."""

    def __init__(self, world: World, stop: threading.Event) -> None:
        super().__init__()
        self.client = Client(world.up.url, world.tokens["client"])
        self.stop = stop
        self.answers: list[tuple[str, str]] = []
        self.fault = ""

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                reply = self.client.call("POST", "/v1/sizes/predict", {"a": 2})
                answer = reply.json()
                self.answers.append((answer["id"], answer["decision"]["version"]))
        except Exception as error:
            self.fault = repr(error)
        finally:
            self.client.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = sizes_world(tmp_path_factory.mktemp("rollback"))
    with made.running():
        yield made


def _until_acknowledged(world: World, version: int) -> None:
    while world.up.page.acknowledged() < version:
        time.sleep(0.002)


def _start(world: World, candidate: str) -> str:
    """Start the canary and wait until every worker deals it out."""
    before = world.up.page.routing
    reply = world.client("operator").call("POST", "/api/rollouts", {"endpoint": "sizes", "candidate": candidate})
    assert reply.status in (200, 201), reply
    while world.up.page.routing == before:
        time.sleep(0.002)
    _until_acknowledged(world, world.up.page.routing)
    return str(reply.json()["id"])


def _until_dealt(callers: list[Caller], candidate: str) -> None:
    """Wait until the candidate answers for a while."""
    while sum(v == candidate for c in callers for _, v in c.answers) < 20:
        assert not [c.fault for c in callers if c.fault]
        time.sleep(0.005)


def test_a_roll_back_reaches_every_worker_and_fails_no_request(world: World) -> None:
    candidate = world.register("sizes", models.Size(limit=1.5), stable=False)
    stop = threading.Event()
    callers = [Caller(world, stop) for _ in range(4)]
    for caller in callers:
        caller.start()
    rollout = _start(world, candidate)
    _until_dealt(callers, candidate)
    operator, canary = world.client("operator"), world.up.page.routing
    reply = operator.call("POST", f"/api/rollouts/{rollout}/rollback", {"reason": "it is a drill"})
    assert (reply.status, reply.json()["state"]) == (200, "rolled_back")
    while world.up.page.routing == canary:
        time.sleep(0.002)
    back = world.up.page.routing
    _until_acknowledged(world, back)
    after = [world.client().call("POST", "/v1/sizes/predict", {"a": 2}).json() for _ in range(60)]
    assert candidate not in {a["decision"]["version"] for a in after}, "what is asked after the acknowledgement"
    stop.set()
    for caller in callers:
        caller.join(30)
    assert [c.fault for c in callers] == [""] * 4
    _check_log(world, callers, candidate, back)
    _check_reason(world, rollout)


def _check_log(world: World, callers: list[Caller], candidate: str, back: int) -> None:
    rows = {(r["run"], r["seq"]): r for r in world.rows()}
    for caller in callers:
        for public_id, version in caller.answers:
            assert rows[world.key(public_id)]["version"] == version
    dealt = [r for r in rows.values() if r["version"] == candidate]
    assert dealt
    assert {r["role"] for r in dealt} == {"candidate"}
    assert all(abs(r["share"] - 0.25) < 1e-6 for r in dealt)
    assert max(r["routing"] for r in dealt) < back, "no candidate answer under the newer table"
    stable = [r for r in rows.values() if r["routing"] >= back]
    assert stable
    assert {(r["role"], r["share"]) for r in stable} == {("stable", 1.0)}


def _check_reason(world: World, rollout: str) -> None:
    described = world.client("operator").call("GET", f"/api/rollouts/{rollout}").json()
    assert "it is a drill" in str(described)
    with world.state.read() as conn:
        causes = [row.cause for row in conn.execute(t.routing_tables.select())]
    assert len(causes) >= 3


def test_a_worker_that_starts_after_a_roll_back_never_knew_the_candidate(world: World) -> None:
    candidate = world.register("sizes", models.Size(limit=1.8), stable=False)
    rollout = _start(world, candidate)
    world.client("operator").call("POST", f"/api/rollouts/{rollout}/rollback", {})
    back = world.up.page.routing
    _until_acknowledged(world, back)
    pid = world.up.supervisor.pids()["worker 0"]
    os.kill(pid, signal.SIGKILL)
    while world.up.supervisor.pids().get("worker 0", pid) == pid:
        time.sleep(0.01)
    world.up.supervisor.wait_ready(60)
    for _ in range(40):
        answer = world.client().call("POST", "/v1/sizes/predict", {"a": 2}).json()
        assert answer["decision"]["version"] != candidate
