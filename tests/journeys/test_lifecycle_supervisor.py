"""Children that hang, cannot be started or are renewed: the supervisor goes on, and nobody's request is lost."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lifecycle_models as models
import msgspec
import pytest
from lifecycle_plant import Plant, wait
from serving_server import SIZES, Client, sizes_world

from tenure import system
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.processes import supervisor
from tenure.deploy.serving.processes.supervisor import Limits
from tenure.errors import ConflictError
from tenure.scope.project import Server, StageSpec
from tenure.settings import Settings

INLINE = msgspec.structs.replace(SIZES, pipeline=(StageSpec(stage="moody", uses="x:Moody", placement="inline"),))


class Caller(threading.Thread):
    """A closed-loop keep-alive client that counts answers until told to stop, and notes what went wrong."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__()
        self.url, self.stop = url, stop
        self.ids: list[str] = []
        self.faults: list[str] = []

    def run(self) -> None:
        client = Client(self.url)
        while not self.stop.is_set():
            try:
                reply = client.call("POST", "/v1/sizes/predict", {"a": 2})
            except Exception as error:
                self.faults.append(repr(error))
                client.close()
                continue
            if reply.status == 200:
                self.ids.append(reply.json()["id"])
            else:
                self.faults.append(f"{reply.status} {reply.body[:200]!r}")
        client.close()


@pytest.fixture
def load() -> Iterator[Any]:
    """Start callers on a url; they end with the test."""
    stop, started = threading.Event(), list[Caller]()

    def start(url: str, n: int = 4) -> list[Caller]:
        started.extend(Caller(url, stop) for _ in range(n))
        for caller in started:
            caller.start()
        return started

    yield start
    stop.set()
    for caller in started:
        caller.join(60)


def test_a_worker_that_stands_still_is_killed_and_replaced(tmp_path: Path) -> None:
    plant = Plant(tmp_path, workers=2, limits=Limits(worker_s=5.0))  # the other one must not stand still so long
    plant.publish(plant.register(models.Moody()))
    with plant.running():
        pid, other = plant.pid(0), plant.pid(1)
        os.kill(pid, signal.SIGSTOP)
        wait(lambda: plant.supervisor.pids().get("worker 0", pid) != pid, "a new worker")
        plant.supervisor.wait_ready(60)
        assert plant.pid(1) == other, "the one that works was left alone"
        assert plant.client().call("POST", "/v1/sizes/predict", {"a": 2}).status == 200


def test_an_event_loop_that_a_model_blocks_too_long_is_ended_and_a_long_call_is_not(tmp_path: Path) -> None:
    plant = Plant(tmp_path, spec=INLINE, limits=Limits(worker_s=6.0))
    plant.publish(plant.register(models.Moody()))
    with plant.running():
        pid = plant.pid()
        reply = plant.client().call("POST", "/v1/sizes/predict", {"a": 55})  # blocks for one second
        assert reply.status == 200
        assert plant.pid() == pid
        hanging = Client(plant.url, timeout=60)
        with pytest.raises(Exception, match=r"(?i)remote|reset|closed"):
            hanging.call("POST", "/v1/sizes/predict", {"a": 66})
        wait(lambda: plant.supervisor.pids().get("worker 0", pid) != pid, "a new worker")
        plant.supervisor.wait_ready(60)
        assert plant.client().call("POST", "/v1/sizes/predict", {"a": 2}).status == 200


def test_a_controller_that_stands_still_is_killed_and_replaced(tmp_path: Path) -> None:
    world = sizes_world(tmp_path, workers=1)
    with system.Server(world.project, settings=Settings(controller_hung_s=10.0)) as server:
        pids = server.supervisor.pids()
        os.kill(pids["controller"], signal.SIGSTOP)
        wait(lambda: server.supervisor.pids().get("controller", pids["controller"]) != pids["controller"], "it")
        beats = server.page.beats
        wait(lambda: server.page.beats > beats, "the new controller to work")
        assert server.supervisor.pids()["worker 0"] == pids["worker 0"]


def test_the_watch_goes_on_when_a_child_cannot_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []
    popen = subprocess.Popen

    def failing(*args: Any, **options: Any) -> Any:
        tried.append(1)
        if len(tried) <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return popen(*args, **options)

    monkeypatch.setattr(supervisor.subprocess, "Popen", failing)
    plant = Plant(tmp_path)
    plant.publish(plant.register(models.Moody()))
    with caplog.at_level(logging.ERROR), plant.running():
        assert plant.client().call("POST", "/v1/sizes/predict", {"a": 2}).status == 200
    assert len(tried) == 3
    assert "Too many open files" in caplog.text


def test_renewing_all_workers_loses_no_request(tmp_path: Path, load: Any) -> None:
    plant = Plant(tmp_path, workers=2)
    plant.publish(plant.register(models.Moody()))
    with plant.running():
        before = {plant.pid(0), plant.pid(1)}
        callers = load(plant.url)
        wait(lambda: all(len(c.ids) > 20 for c in callers), "load")
        plant.supervisor.renew()
        assert not before & {plant.pid(0), plant.pid(1)}
        had = [len(c.ids) for c in callers]
        wait(lambda: all(len(c.ids) > n + 20 for c, n in zip(callers, had, strict=True)), "load")
        assert [c.faults for c in callers] == [[]] * 4


def test_the_only_worker_is_renewed_without_a_refused_connection(tmp_path: Path, load: Any) -> None:
    plant = Plant(tmp_path)
    plant.publish(plant.register(models.Moody()))
    with plant.running():
        callers = load(plant.url, 2)
        wait(lambda: all(len(c.ids) > 20 for c in callers), "load")
        plant.supervisor.renew()
        had = [len(c.ids) for c in callers]
        wait(lambda: all(len(c.ids) > n + 20 for c, n in zip(callers, had, strict=True)), "load")
        assert [c.faults for c in callers] == [[]] * 2


def test_ready_is_false_before_the_server_takes_no_more_connections(tmp_path: Path) -> None:
    plant = Plant(tmp_path, notice=6.0)  # so long it is open and says that it will end
    plant.publish(plant.register(models.Moody()))
    with plant.running():
        assert plant.client().call("GET", "/health/ready").status == 200
        ending = threading.Thread(target=plant.supervisor.stop)
        ending.start()
        wait(lambda: plant.client().call("GET", "/health/ready").status == 503, "ready to be false")
        reply = plant.client().call("POST", "/v1/sizes/predict", {"a": 2})
        assert (reply.status, reply.headers.get("connection")) == (200, "close")
        ending.join(60)
        with pytest.raises(ConnectionRefusedError):
            plant.client().call("GET", "/health/ready")


def test_a_thread_that_hangs_does_not_keep_a_worker_from_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plant = Plant(tmp_path, drain=1.0)
    plant.publish(plant.register(models.Moody()))
    with caplog.at_level(logging.ERROR), plant.running():
        hanging = threading.Thread(target=_ignore, args=(plant.client(),))
        hanging.start()
        slot = plant.page.slot(0)
        wait(lambda: slot.get("queued_us") >= 0 and slot.state == "ready", "the worker")
        plant.client().call("POST", "/v1/notes/predict", {"a": 2})
    hanging.join(60)
    assert "did not end in time" not in caplog.text


def _ignore(client: Client) -> None:
    try:
        client.call("POST", "/v1/sizes/predict", {"a": 66})
    except Exception as error:
        print(error)


def test_a_console_that_cannot_listen_leaves_port_and_folder_free(tmp_path: Path) -> None:
    world = sizes_world(tmp_path, workers=1)
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))  # it does not listen: who asks for this port by number gets it, nobody else
        port = held.getsockname()[1]
        options = Server(port=port, console_port=taken.getsockname()[1], workers=1)
        with pytest.raises(ConflictError, match="cannot listen"):
            system.Server(msgspec.structs.replace(world.project, server=options))
        with socket.create_server(("127.0.0.1", port)):
            pass
    os.close(supervisor.claim(world.folder))


PROJECT = """
tenure: 1
project: lifecycle
scope: {case: new, y: {labels: [big, small]}}
endpoints:
  sizes: {input: record, fields: {a: {type: float}}, automation: {start: full, max: full}}
server: {port: 0, console_port: 0, workers: 1}
"""


def test_a_hang_up_renews_the_workers_of_a_server_without_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "tenure.yaml").write_text(PROJECT)
    command = [sys.executable, "-m", "tenure", "serve", "--project", str(tmp_path), "--open-loopback"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        heard = iter(server.stderr)
        assert any("Ctrl-C ends" in line for line in heard)
        page = ControlPage(tmp_path / "tenure-data" / "control.page")
        before = page.slot(0).pid
        server.send_signal(signal.SIGHUP)
        assert any("all workers are new" in line for line in heard)
        assert page.slot(0).pid != before
        server.send_signal(signal.SIGTERM)
        assert any("ending" in line for line in heard)
    assert server.returncode == 0


def test_a_console_that_somebody_watches_ends_without_a_complaint(tmp_path: Path) -> None:
    (tmp_path / "tenure.yaml").write_text(PROJECT)
    command = [sys.executable, "-m", "tenure", "serve", "--project", str(tmp_path), "--open-loopback"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        console = next(line.split()[1] for line in server.stderr if line.startswith("console"))
        with urllib.request.urlopen(f"{console}/api/stream", timeout=60) as stream:
            assert stream.readline().startswith(b"retry")
            server.send_signal(signal.SIGTERM)
            said = server.stderr.read()
            stream.read()  # the server ended it
    assert server.returncode == 0
    assert "ending" in said
    assert not {"Traceback", "ERROR"} & set(said.split())
