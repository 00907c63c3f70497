"""Does `tenure plan` predict what `tenure load --find` measures? Both, and their ratio, for two endpoints.

    python benchmarks/capacity.py [--rounds 3] [--step 4] [--only onnx slow] [--out out/capacity.json]

  onnx   one record of 30 numbers, 100 boosted trees in ONNX, on the event loop; serve.latency 200 ms
  slow   a Python stage that takes 5 ms for each record, in a thread; serve.latency 200 ms

One worker. Prediction and measurement take turns. The generator shares the cores with the server, so it is
compared with the prediction that counts the generator's CPU. Other work on the machine lowers what is measured
and not what is predicted: each step waits, at most 20 s, for the others to rest. And two more figures are
printed: the share of a core that a busy process got just before, by which the prediction is multiplied for the
second ratio of `onnx` (`slow` sleeps, it needs no core); and the worker's CPU for a request, predicted and as
used at the highest rate that held.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil
from rich.console import Console

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE / "servers"))

from serving_bench import models  # noqa: E402
from work import FIELDS, RISKS  # noqa: E402

from tenure import system  # noqa: E402
from tenure.cli import capacity_plan as planning  # noqa: E402
from tenure.cli import capacity_run as run  # noqa: E402
from tenure.cli.office import Office  # noqa: E402
from tenure.clock import SystemClock  # noqa: E402
from tenure.data.state import State  # noqa: E402
from tenure.deploy.capacity import forecast  # noqa: E402
from tenure.model.formats.onnx import OnnxClassifier  # noqa: E402
from tenure.scope import project as p  # noqa: E402

CALM_PERCENT = 12.0
SLOW = """
import time

class Slow:
    def predict(self, records: list[dict]) -> list[str]:
        answers = []
        for record in records:
            time.sleep(0.005)
            answers.append("low" if record["f0"] < 0 else "high")
        return answers
"""


@contextmanager
def office(root: Path, stage: p.StageSpec, labels: tuple[str, ...]) -> Iterator[Office]:
    endpoint = p.EndpointSpec(
        input="record", fields={name: p.Field(type="float") for name in FIELDS}, pipeline=(stage,),
        output=p.Output(labels=labels), automation=p.Automation(start="full", max="full"),
        serve=p.Serve(latency=0.2, qps=100.0),
    )  # fmt: skip
    made = system.resolved(
        p.Project(
            project="capacity", root=str(root), scope=p.Scope(case="new"), endpoints={"it": endpoint},
            server=p.Server(port=0, console_port=0, workers=1),
        )
    )  # fmt: skip
    system.prepare(made.folder())
    state = State.open(system.state_url(made), SystemClock())
    try:
        yield Office(made, state)
    finally:
        state.close()


def register(desk: Office, stages: Any, record: dict[str, float], files: Path | None) -> None:
    version = desk.registry.register(
        "it", stages, spec=desk.spec("it"), output=desk.project.output("it"), sample=record, files=files
    )
    with desk.state.begin() as conn:
        desk.rollouts.set_stable(conn, "it", version, "benchmark")


@contextmanager
def onnx(root: Path) -> Iterator[Office]:
    truth = models.make(root)
    stage = p.StageSpec(stage="risk", uses="tenure.model.formats.onnx:OnnxClassifier", placement="inline")
    with office(root, stage, RISKS) as desk:
        model = OnnxClassifier(file="risk.onnx", labels=RISKS, features=FIELDS)
        register(desk, [("risk", model)], truth.record(0), root / "risk.onnx")
        yield desk


@contextmanager
def slow(root: Path) -> Iterator[Office]:
    (root / "slow_stage.py").write_text(SLOW)
    sys.path.insert(0, str(root))
    from slow_stage import Slow  # type: ignore[import-not-found]

    record = {name: round(0.1 * i, 4) for i, name in enumerate(FIELDS)}
    with office(root, p.StageSpec(stage="slow", uses="slow_stage:Slow"), ("low", "high")) as desk:
        register(desk, [("slow", Slow)], record, None)
        yield desk


ENDPOINTS: dict[str, Callable[[Path], Any]] = {"onnx": onnx, "slow": slow}


def predicted(desk: Office) -> dict[str, Any]:
    machine = planning.probe(desk, "it", run.inputs(desk, "it", None))
    alone = msgspec.structs.replace(machine, sender_s=0.0)
    return {
        "machine": msgspec.to_builtins(machine),
        "alone": forecast.highest(alone, workers=1, latency=0.2),
        "beside_generator": forecast.highest(machine, workers=1, latency=0.2),
    }


def measured(desk: Office, start: float, step: float) -> dict[str, Any]:
    inputs = run.inputs(desk, "it", None)
    load = run.load_of(
        rate=start, seconds="10s", warmup="1s", timeout="10s", connections=512, pattern="poisson", seed=1,
        ramp=False,
    )  # fmt: skip
    with run.target(desk, run.Place(), Console(stderr=True)) as target:
        ready = run.aimed(load, target, "it", inputs, spec=desk.spec("it"))
        found = run.highest(ready, target, step_s=step, ceiling=100_000.0, before=calm)
    curve = [(round(s.rate), s.held, s.measured.latency_ms["p99"], s.measured.invalid) for s in found.steps]
    plain = {"highest": found.highest, "knee": found.knee, "limit": found.limit, "curve": curve}
    return plain | {"cpu_us": cpu_us(found, step)}


def calm() -> None:
    """Wait at most 20 s until nobody else works on the machine."""
    for _ in range(20):
        if psutil.cpu_percent(1.0) < CALM_PERCENT:
            return


def free_share() -> float:
    """Return the share of a core that a process gets now which never waits."""
    spin = "import time; e = time.monotonic() + 2\nwhile time.monotonic() < e: pass\nprint(time.process_time())"
    done = subprocess.run([sys.executable, "-c", spin], capture_output=True, text=True, check=True)
    return min(1.0, float(done.stdout) / 2)


def cpu_us(found: Any, step: float) -> float:
    """Return the worker's CPU for a request at the highest rate that held."""
    best = max((s for s in found.steps if s.held), key=lambda s: s.rate, default=None)
    if best is None:
        return 0.0
    used = next(part.cpu_s for part in best.measured.server if part.name == "worker 0")
    return used / (best.rate * (step + 1.0)) * 1e6


def turn(desk: Office, step: float) -> dict[str, Any]:
    calm()
    before = predicted(desk)
    calm()
    share = free_share()
    # The search starts where nothing is foretold, so that its result does not lean on the prediction.
    found = measured(desk, start=50.0, step=step)
    model = before["machine"]["model"]
    cpu = before["machine"]["request_s"] + model["busy"] * (model["item"] + model["batch"] / 64)
    highest = max(1.0, found["highest"])
    return {
        "predicted": before, "measured": found, "share": share, "ratio": before["beside_generator"] / highest,
        "ratio_at_share": before["beside_generator"] * share / highest, "predicted_cpu_us": cpu * 1e6,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step", type=float, default=4.0)
    parser.add_argument("--only", nargs="+", choices=tuple(ENDPOINTS), default=tuple(ENDPOINTS))
    parser.add_argument("--out", type=Path, default=HERE.parent / "out" / "capacity.json")
    told = parser.parse_args()
    report: dict[str, Any] = {"cpus": os.cpu_count(), "load_average": os.getloadavg(), "endpoints": {}}
    for name in told.only:
        with tempfile.TemporaryDirectory() as folder, ENDPOINTS[name](Path(folder)) as desk:
            turns = []
            for _ in range(told.rounds):
                turns.append(turn(desk, told.step))
                say(name, turns[-1:])
            report["endpoints"][name] = turns
            say(f"{name}: medians", turns)
    told.out.parent.mkdir(parents=True, exist_ok=True)
    told.out.write_text(json.dumps(report, indent=1))
    print(f"saved {told.out}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def say(name: str, turns: list[dict[str, Any]]) -> None:
    alone, beside = (median(t["predicted"][key] for t in turns) for key in ("alone", "beside_generator"))
    highest, knee = (median(t["measured"][key] for t in turns) for key in ("highest", "knee"))
    ratio, scaled = (median(t[key] for t in turns) for key in ("ratio", "ratio_at_share"))
    share, cpu = (median(t[key] for t in turns) for key in ("share", "predicted_cpu_us"))
    used, limits = median(t["measured"]["cpu_us"] for t in turns), {t["measured"]["limit"] for t in turns}
    print(
        f"{name:<14} predicted {beside:6.0f}/s ({alone:.0f} without the generator)   "
        f"measured {highest:6.0f}/s, knee {knee:.0f}, limit {'/'.join(sorted(limits))}   "
        f"ratio {ratio:.2f}; {scaled:.2f} at {share:.0%} of a core   "
        f"CPU us a request {cpu:.0f} predicted, {used:.0f} used",
        flush=True,
    )


if __name__ == "__main__":
    main()
