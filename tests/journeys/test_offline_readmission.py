"""The readmission example on all 61,433 encounters: killed twice, exact to the row, and its drift seen."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenure import system
from tenure.api import adhoc
from tenure.cli.office import Office
from tenure.cli.scoring import Told, score
from tenure.clock import ManualClock
from tenure.data.state import State
from tenure.data.view import Log
from tenure.deploy.serving.control_page import ControlPage
from tenure.monitor import alarms
from tenure.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
ENCOUNTERS, BROKEN = 61_433, 3
KILLS = 2


@pytest.fixture(scope="module")
def encounters(real_data: Path) -> Path:
    return real_data / "health" / "diabetes_130_hospitals.parquet"


@pytest.fixture(scope="module")
def trained(encounters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with a small model, registered."""
    pytest.importorskip("skl2onnx", reason="the example needs the extra `demo`")
    folder = tmp_path_factory.mktemp("readmission") / "example"
    shutil.copytree(ROOT / "examples" / "readmission", folder)
    done = subprocess.run(
        [sys.executable, "train.py", str(encounters), "--rows", "6000"],
        cwd=folder, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "on 55,433 later encounters" in done.stdout
    return folder


@pytest.fixture
def example(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "example")
    return tmp_path / "example"


def command(encounters: Path, *more: str) -> list[str]:
    told = [str(encounters), "out", "--chunk-rows", "4000", "--keep", "encounter_id", "--quiet"]
    return [sys.executable, "-m", "tenure", "score", "readmission", *told, *more]


def manifest(folder: Path) -> dict[str, Any]:
    path = folder / "out" / "manifest.json"
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {"chunks": [], "state": "none"}
    return found


def committed(folder: Path) -> int:
    return sum(c["counts"]["scored"] + c["counts"]["quarantined"] for c in manifest(folder)["chunks"])


def spooled(folder: Path) -> int:
    """Return how many bytes the log has."""
    sizes = 0
    for entry in os.scandir(folder / "tenure-data" / "spool"):
        with contextlib.suppress(FileNotFoundError):  # it got its final name meanwhile
            sizes += entry.stat().st_size
    return sizes


def kill_at(folder: Path, encounters: Path, size: int) -> int:
    """Start the run, kill it when the log has grown to a size, and return how many rows are committed."""
    process = subprocess.Popen(command(encounters), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while spooled(folder) < size:
        time.sleep(0.002)  # leaves the processor to the run
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < until, "the run did not get that far"
    process.kill()
    process.communicate()
    assert process.returncode == -9
    return committed(folder)


def logged(folder: Path, columns: str) -> pa.Table:
    log = Log(folder / "tenure-data")
    try:
        return log.query(f"SELECT {columns} FROM predictions WHERE batch ORDER BY seq")
    finally:
        log.close()


def test_killed_twice_every_encounter_is_there_once(example: Path, encounters: Path) -> None:
    rng = np.random.default_rng(61_433)
    bounds = [(2_000_000, 12_000_000), (13_000_000, 20_000_000)]  # far from its end, which we must not miss
    sizes = [int(rng.integers(*bound)) for bound in bounds]
    rows = [kill_at(example, encounters, size) for size in sizes]
    print(f"killed at {sizes} bytes of the log, with {rows} rows committed")
    assert rows == sorted(rows)
    assert rows[-1] < ENCOUNTERS
    before = len(logged(example, "seq"))
    done = subprocess.run(
        command(encounters, "--json"), cwd=example, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    print(f"resumed with {before} rows logged: {said['rows']} rows at {said['rows_per_s']} rows/s")
    assert said["counts"]["scored"] + said["counts"]["quarantined"] == ENCOUNTERS
    assert said["counts"]["quarantined"] == BROKEN
    assert said["rows"] == ENCOUNTERS - rows[-1]

    files = [f["name"] for c in manifest(example)["chunks"] for f in c["files"]]
    output = pa.concat_tables(pq.read_table(example / "out" / f) for f in files if f.startswith("part-"))
    failed = [
        json.loads(line)["row"]
        for f in files
        if f.startswith("quarantine")
        for line in (example / "out" / f).read_text().splitlines()
    ]
    numbers = output["row"].to_numpy()
    assert np.array_equal(np.sort(np.concatenate([numbers, failed])), np.arange(ENCOUNTERS))
    assert np.array_equal(numbers, np.sort(numbers))
    known = pq.read_table(encounters, columns=["encounter_id"])["encounter_id"].to_numpy()
    assert np.array_equal(output["encounter_id"].to_numpy(), known[numbers])
    assert len(set(output["id"].to_pylist())) == ENCOUNTERS - BROKEN

    log = logged(example, "seq, status, confidence")
    assert np.array_equal(log["seq"].to_numpy(), np.arange(1, ENCOUNTERS + 1))
    assert log["status"].to_pylist().count("refused") == BROKEN
    confidence = log["confidence"].to_numpy()[numbers]
    assert np.allclose(output["confidence"].to_numpy(), confidence, rtol=1e-6, atol=0)

    again = subprocess.run(command(encounters), cwd=example, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout.splitlines()[0]) == (
        0, f"this run is finished: 61,433 rows with {said['version']} are in out",
    )  # fmt: skip


@pytest.fixture
def night(example: Path) -> Iterator[tuple[Office, Any, ManualClock]]:
    """The example's services and its controller on a manual clock."""
    clock = ManualClock()
    project = system.resolved(adhoc.find(example / "tenure.yaml"))
    state = State.open(system.state_url(project), clock)
    ControlPage.create(project.folder() / "control.page", workers=1)
    controller, services = system.control(project, project.folder(), clock=clock, settings=Settings())
    controller.start()
    yield Office(project, state), controller, clock
    state.close()
    services.state.close()


def test_real_drift_in_the_nightly_batch_raises_an_alarm(
    night: tuple[Office, Any, ManualClock], encounters: Path, tmp_path: Path
) -> None:
    """Who pays is missing in the oldest fifth of the encounters, and then begins to be recorded."""
    desk, controller, clock = night
    table, size, found = pq.read_table(encounters), 600, []
    for number in range(30):
        path = tmp_path / f"night-{number:02d}.parquet"
        pq.write_table(table.slice(number * size, size), path)
        told = Told(endpoint="readmission", input=str(path), output=str(tmp_path / f"out-{number:02d}"))
        assert score(desk, told, lambda progress: None).counts.rows == size
        while controller.tick():
            pass
        clock.advance(86_400)
        controller.tick()
        with desk.state.read() as conn:
            found = alarms.listing(conn, "readmission")
        if found:
            break
    (alarm,) = found
    print(f"night {number}: {alarm['message']}")
    missing = [table["payer_code"].slice(n * size, size).null_count / size for n in range(number + 1)]
    first = next(n for n, share in enumerate(missing) if share < 0.9)
    assert first > 21, "the reference would not be one of the old kind"
    assert number in (first, first + 1)
    assert alarm["metric"] == "missing"
    assert "Input share of missing values fell from 6.8%" in alarm["message"]
