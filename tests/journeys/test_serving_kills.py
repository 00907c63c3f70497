"""Kill workers and the controller at random under load: every answer is in the log, once; nothing doubles."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from serving_server import SIZES, Client, World, sizes_world

from tenure.data import tables as t
from tenure.data.records import encode_id
from tenure.scope.project import Audit, Automation
from tenure.system import secret

KILLS = 24
SPEC = msgspec.structs.replace(
    SIZES, automation=Automation(start="full", max="full", audit=Audit(steady=0.2, rollout=0.2))
)


class Caller(threading.Thread):
    """A client that sends each request until it is answered, always under the same key."""

    def __init__(self, world: World, name: str, stop: threading.Event) -> None:
        super().__init__(name=name)
        self.world, self.stop = world, stop
        self.answers: dict[str, dict[str, Any]] = {}
        self.sent: dict[str, float] = {}
        self.retries = 0
        self.odd: list[str] = []

    def run(self) -> None:
        client: Client | None = None
        for n in itertools.count():
            if self.stop.is_set():
                break
            key, value = f"{self.name}-{n}", float(n % 4)
            self.sent[key] = value
            while key not in self.answers:
                client = client or Client(self.world.up.url, self.world.tokens["client"], timeout=90)
                try:
                    reply = client.call("POST", "/v1/sizes/predict", {"a": value}, {"Idempotency-Key": key})
                except (OSError, http.client.HTTPException):
                    client.close()
                    client, self.retries = None, self.retries + 1
                    continue
                if reply.status == 200:
                    self.answers[key] = reply.json()
                elif reply.status not in (409, 503):  # still being answered, or not ready yet
                    self.odd.append(f"{key}: {reply}")
                    return
        if client is not None:
            client.close()


def kill(world: World, dice: random.Random) -> list[str]:
    """SIGKILL one worker, the controller, or both; return who was hit."""
    living = world.up.supervisor.pids()
    workers = [name for name in living if name.startswith("worker")]
    wanted = dice.choice([["worker"], ["worker"], ["controller"], ["worker", "controller"]])
    hit = []
    for kind in wanted:
        names = workers if kind == "worker" else [name for name in living if name == kind]
        if names:
            name = dice.choice(names)
            with contextlib.suppress(ProcessLookupError):  # the blow before was slow to work
                os.kill(living[name], signal.SIGKILL)
                hit.append(name)
    return hit


def check_health(world: World) -> None:
    """Who is said to be ready has the process id of a child that lives, or that died since."""
    for slot in world.up.page.slots():
        before = world.up.supervisor.pids().get(f"worker {slot.index}")
        pid, state = slot.pid, slot.state
        if state == "ready" and before is None:
            # it died just now and the supervisor has not yet looked: it does within a moment, for good
            while slot.pid == pid and slot.state == "ready":
                time.sleep(0.01)
                assert pid not in world.up.supervisor.pids().values()


def test_no_kill_loses_or_doubles_an_answer(tmp_path: Path) -> None:
    dice = random.Random(20_240_607)
    world = sizes_world(tmp_path, spec=SPEC)
    stop = threading.Event()
    kills: list[str] = []
    with world.running():
        callers = [Caller(world, f"c{n}", stop) for n in range(4)]
        for caller in callers:
            caller.start()
        while len(kills) < KILLS:
            had = sum(len(c.answers) for c in callers)
            kills += kill(world, dice)
            check_health(world)
            wanted = had + dice.randint(1, 120)  # the next blow falls at no particular moment of the work
            while sum(len(c.answers) for c in callers) < wanted and any(c.is_alive() for c in callers):
                time.sleep(0.005)
        world.up.supervisor.wait_ready(60)
        stop.set()
        for caller in callers:
            caller.join(60)
        assert [c.odd for c in callers] == [[]] * 4
        assert {"worker 0", "worker 1"} <= set(world.up.supervisor.pids()), "all are back"
        assert world.client().call("GET", "/health/ready").json()["workers"] == ["ready", "ready"]
        _wait_for_items(world)
    _check_log(world, callers)
    _check_items(world)
    print(f"{len(kills)} kills: {Counter(kills)}; {sum(len(c.answers) for c in callers)} answers, "
          f"{sum(c.retries for c in callers)} retries")  # fmt: skip


def _check_log(world: World, callers: list[Caller]) -> None:
    rows = {(r["run"], r["seq"]): r for r in world.rows()}
    assert len(rows) == len(world.rows()), "no row twice"
    by_key = Counter(r["key_hash"] for r in rows.values())
    answered = {key: answer for c in callers for key, answer in c.answers.items()}
    sent = {key: value for c in callers for key, value in c.sent.items()}
    assert answered.keys() == sent.keys(), "in the end everybody was answered"
    assert len({a["id"] for a in answered.values()}) == len(answered)
    for key, answer in answered.items():
        row = rows[world.key(answer["id"])]
        assert by_key[row["key_hash"]] == 1, f"{key} was computed and logged once"
        assert row["record"] == msgspec.json.encode({"a": sent[key]}).decode()
        assert (
            msgspec.json.decode(row["value"])
            == answer["decision"]["value"]
            == ("big" if sent[key] > 1 else "small")
        )
    assert len(rows) == len(answered), "nothing else is in the log"


def _wanted(world: World) -> set[str]:
    key = secret(world.folder)
    return {encode_id(r["run"], r["seq"], key) for r in world.rows(where="audited or route = 'pending'")}


def _items(world: World) -> list[str]:
    with world.state.read() as conn:
        return list(conn.execute(sa.select(t.review_items.c.id)).scalars())


def _wait_for_items(world: World) -> None:
    """Let the controller, wherever it was killed, take in what is in the log."""
    wanted = _wanted(world)
    end = time.monotonic() + 100
    while len(_items(world)) < len(wanted) and time.monotonic() < end:
        time.sleep(0.05)


def _check_items(world: World) -> None:
    items = Counter(_items(world))
    assert set(items) == _wanted(world), "one review item for each audited request, and for no other"
    assert set(items.values()) == {1}
    assert len(items) > 10
