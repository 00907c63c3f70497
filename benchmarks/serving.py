"""Compare our server with a hand-written FastAPI + uvicorn + ONNX Runtime app, in turns, in the same run.

    python benchmarks/serving.py [--seconds 2] [--rounds 3] [--placement inline] [--out out/serving.json]

One record of 30 numbers, a gradient boosting model in ONNX, one worker each, closed loop at 1, 16 and 64
connections. Ours runs with everything on: log before reply, routing, audit draws, input metrics, control page,
and the controller that reads the log, keeps panes and makes review items, on the same cores. The base answers
with the label alone. Before each turn of the base our controller is let finish, so that its work is not on the
base's account. Absolute figures are of the machine at that time; read the ratios, and the CPU time per answer,
which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from tenure import system
from tenure.clock import SystemClock
from tenure.data.state import State
from tenure.deploy.rollout.ledger import Rollouts
from tenure.model.registry import Registry
from tenure.scope.project import Automation, EndpointSpec, Field, Output, Project, Scope, Server, StageSpec

HERE = Path(__file__).resolve().parent
FIELDS = 30
LABELS = ("no", "yes")
CONNECTIONS = (1, 16, 64)


def train(path: Path) -> dict[str, float]:
    """Write a gradient boosting classifier as ONNX; return a record for it."""
    from skl2onnx import to_onnx
    from sklearn.datasets import make_classification
    from sklearn.ensemble import GradientBoostingClassifier

    x, y = make_classification(2000, FIELDS, n_informative=12, random_state=7)
    model = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=7).fit(x, y)
    made = to_onnx(model, x[:1].astype(np.float32), options={"zipmap": False})
    path.write_bytes(made.SerializeToString())
    return {f"f{i}": round(float(v), 4) for i, v in enumerate(x[0])}


def ours(root: Path, model: Path, record: dict[str, float], placement: Any) -> system.Server:
    """Start our server with one worker."""
    from tenure.model.formats.onnx import OnnxClassifier

    stage = StageSpec(stage="risk", uses="tenure.model.formats.onnx:OnnxClassifier", placement=placement)
    spec = EndpointSpec(
        input="record", fields={name: Field(type="float") for name in record}, pipeline=(stage,),
        automation=Automation(start="full", max="full"),
    )  # fmt: skip
    project = system.resolved(
        Project(
            project="bench", root=str(root), scope=Scope(case="new", y=Output(labels=LABELS)),
            endpoints={"risk": spec}, server=Server(port=0, console_port=0, workers=1),
        )
    )  # fmt: skip
    folder = project.folder()
    system.prepare(folder)
    state = State.open(system.state_url(project), SystemClock())
    version = Registry(state, folder).register(
        "risk", OnnxClassifier(file=model.name, labels=LABELS, features=tuple(record)),
        spec=project.endpoints["risk"], output=project.scope.y, sample=record, files=model,
    )  # fmt: skip
    with state.begin() as conn:
        Rollouts(state, project.endpoints).set_stable(conn, "risk", version, "benchmark")
    state.close()
    return system.Server(project, open_loopback=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def base(model: Path, port: int, record: dict[str, float]) -> subprocess.Popen[bytes]:
    """Start the hand-written app and wait until it answers."""
    made = subprocess.Popen([sys.executable, str(HERE / "serving_base.py"), str(model), str(port), str(FIELDS)])
    ask = urllib.request.Request(f"http://127.0.0.1:{port}/v1/risk/predict", json.dumps(record).encode())
    ask.add_header("Content-Type", "application/json")
    for _ in range(600):
        try:
            urllib.request.urlopen(ask, timeout=5).read()
            return made
        except urllib.error.URLError:
            time.sleep(0.1)
    made.kill()
    raise RuntimeError("the base app does not answer")


def turn(port: int, connections: int, seconds: float, record: dict[str, float]) -> dict[str, Any]:
    body = json.dumps(record).encode()
    head = (
        f"POST /v1/risk/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    command = [
        sys.executable,
        str(HERE / "load.py"),
        "127.0.0.1",
        str(port),
        str(connections),
        str(seconds),
        "0.5",
    ]
    done = subprocess.run(command, input=head.encode() + body, capture_output=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)
    if found["bad"] or not found["answers"]:
        raise RuntimeError(f"bad answers: {found}")
    return found


def let_finish(process: psutil.Process) -> None:
    """Wait, bounded, until a process hardly works."""
    for _ in range(30):
        if process.cpu_percent(0.2) < 15:
            return


Processes = dict[str, psutil.Process]


def cpu_s(processes: Processes) -> dict[str, float]:
    """Return the CPU seconds that each process has used so far."""
    return {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}


def measured(told: argparse.Namespace, name: str, *, ports: dict[str, int], processes: Processes,
             connections: int, record: dict[str, float]) -> dict[str, Any]:  # fmt: skip
    """Take one turn; adds the CPU microseconds per answer of the server and of the controller."""
    before = cpu_s(processes)
    found = turn(ports[name], connections, told.seconds, record)
    let_finish(processes["controller"])
    used = {k: v - before[k] for k, v in cpu_s(processes).items()}
    found["cpu_us"] = used[name] / found["all"] * 1e6
    found["controller_cpu_us"] = used["controller"] / found["all"] * 1e6
    return found


def compare(
    told: argparse.Namespace, ports: dict[str, int], processes: Processes, record: dict[str, float]
) -> list[dict[str, Any]]:
    out = []
    for connections in CONNECTIONS:
        turns: dict[str, list[dict[str, Any]]] = {"base": [], "ours": []}
        for _ in range(told.rounds):
            for name, kept in turns.items():
                kept.append(
                    measured(told, name, ports=ports, processes=processes, connections=connections, record=record)
                )
        line = summary(connections, turns)
        out.append(line)
        print_line(line)
    return out


def summary(connections: int, turns: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the medians of the turns and the median of the ratios of neighbours."""
    ratios = [o["answers"] / b["answers"] for b, o in zip(turns["base"], turns["ours"], strict=True)]
    line: dict[str, Any] = {"connections": connections, "ratio": round(median(ratios), 3), "ratios": ratios}
    for name, found in turns.items():
        line[name] = {
            "per_second": round(median(f["answers"] / f["seconds"] for f in found), 1),
            "ms": {q: round(median(f["ms"][q] for f in found), 3) for q in found[0]["ms"]},
            "cpu_us": round(median(f["cpu_us"] for f in found), 1),
        }
    line["controller_cpu_us"] = round(median(f["controller_cpu_us"] for f in turns["ours"]), 1)
    return line


def print_line(line: dict[str, Any]) -> None:
    cells = []
    for name in ("base", "ours"):
        rate, ms, cpu = line[name]["per_second"], line[name]["ms"], line[name]["cpu_us"]
        cells.append(f"{name} {rate:6.0f}/s, p50 {ms['p50']:5.2f} p99 {ms['p99']:6.2f} ms, {cpu:4.0f} us CPU")
    head, tail = f"{line['connections']:3} connections", f"(+ {line['controller_cpu_us']:.0f} controller)"
    print(f"{head}   {'   '.join(cells)} {tail}   ours/base {line['ratio']:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--placement", choices=("inline", "thread"), default="inline")
    parser.add_argument("--out", type=Path, default=HERE.parent / "out" / "serving.json")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        record = train(model)
        ports = {"base": free_port()}
        hand_written = base(model, ports["base"], record)
        try:
            with ours(Path(folder), model, record, told.placement) as server:
                ports["ours"] = int(server.url.rsplit(":", 1)[1])
                pids = server.supervisor.pids() | {"base": hand_written.pid}
                names = {"base": "base", "ours": "worker 0", "controller": "controller"}
                found = compare(told, ports, {k: psutil.Process(pids[v]) for k, v in names.items()}, record)
        finally:
            hand_written.terminate()
            hand_written.wait()
    told.out.parent.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()
    report = {"placement": told.placement, "cpus": os.cpu_count(), "load_average": load, "records": found}
    told.out.write_text(json.dumps(report, indent=1))
    print(f"saved {told.out}; {told.placement}; load average {load[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
