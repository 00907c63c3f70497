"""`tenure load` and `tenure plan` on real servers: what they measure, and what they leave alone.

Whether a promise holds depends on the machine, so no verdict is asserted: counts and places are.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from serving_server import SIZES, World, sizes_world, with_serve

from tenure.cli import capacity_plan as planning
from tenure.cli.office import Office
from tenure.data import tables as t
from tenure.deploy.capacity import target

PROJECT = """
tenure: 1
project: journey
scope:
  case: new
  y: {labels: [big, small]}
  budget: {people: 1}
endpoints:
  sizes:
    input: record
    fields:
      a: {type: float}
    serve: {latency: 60s, qps: 40, max_queue: 60s}
    automation: {start: full, max: full}
server: {workers: 1, port: 0, console_port: 0}
"""


def tenure(world: World, *arguments: str) -> tuple[int, Any, str]:
    """Run a command with `--json -`; returns exit code, figures, stderr."""
    command = [sys.executable, "-m", "tenure", *arguments, "--json", "-"]
    command += ["--timeout", "60s"] if arguments[0] == "load" else []  # a busy machine is no fault
    command += ["--project", str(Path(world.project.root, "tenure.yaml"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "tenure.yaml").write_text(PROJECT)
    return sizes_world(tmp_path, spec=with_serve(SIZES, latency=60.0, qps=40.0), workers=1)


def test_a_copy_is_loaded_and_nothing_real_is_touched(world: World, tmp_path: Path) -> None:
    before = sorted(p.name for p in world.folder.rglob("*") if "state.db" not in p.name)
    code, found, told = tenure(
        world, "load", "sizes", "--for", "1s", "--warmup", "500ms", "--plot", str(tmp_path / "p.svg")
    )
    assert code in (0, 1, 2), told
    measured = found["measured"]
    assert measured["statuses"] == {"200": 40}
    assert measured["requests"] == measured["good"] == 40
    assert {"worker 0", "controller"} == {part["name"] for part in measured["server"]}
    assert measured["server"][0]["rss_mb"] > 10
    assert "starting a temporary copy with 1 worker" in told
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert sorted(p.name for p in world.folder.rglob("*") if "state.db" not in p.name) == before


def test_a_running_server_is_loaded_only_on_a_word(world: World) -> None:
    with world.running():
        found = target.running(world.folder)
        assert found is not None
        assert found.address == world.up.url.removeprefix("http://")
        assert found.pids.keys() == {"worker 0", "controller"}
        code, _, told = tenure(world, "load", "--for", "1s")
        assert code == 2
        assert "--against-live" in told
        code, figures, told = tenure(
            world, "load", "--for", "1s", "--warmup", "0s", "--against-live", "--token", world.tokens["client"]
        )
        assert code in (0, 1, 2), told
        assert figures["measured"]["statuses"] == {"200": 40}
        assert "every request is logged" in told
        code, _, told = tenure(world, "load", "--against-live", "--token", "wrong")
        assert code == 2
        assert "401" in told
    rows = world.rows()
    assert len(rows) == 41  # one asked first
    assert {row["unit"] for row in rows} == {"load-test"}
    desk = Office(world.project, world.state)
    assert planning.automated_share(desk, "sizes", None) == (1.0, "level full in force")
    with world.state.begin() as conn:
        move = {"endpoint": "sizes", "at_us": world.state.now_us(), "from_level": "full", "to_level": "partial"}
        conn.execute(t.levels.insert().values(**move, author="me", cause="", numbers="{}"))
    assert planning.automated_share(desk, "sizes", None) == (1.0, "measured: 41 requests of a week")
    assert planning.automated_share(desk, "sizes", 0.3)[0] == 0.3


def test_another_machine_is_not_loaded(world: World) -> None:
    code, _, told = tenure(world, "load", "--against-live", "--url", "http://192.0.2.1:8700")
    assert code == 2
    assert "is an attack" in told


def test_a_plan_names_every_number_and_its_origin(world: World) -> None:
    code, found, told = tenure(world, "plan", "--automated", "0.5")
    assert code == 1, told  # 40 requests a second, half of them for one person
    plan = found["plan"]
    assert plan["enough_people"] is False
    assert plan["machine"]["request_s"] > 0
    assert plan["machine"]["controller_s"] > 0
    assert plan["log_bytes_a_day"] > 0
    assert plan["highest"] > 0
    assert all(name and value and origin for name, value, origin in plan["lines"])
    assert not world.rows()
