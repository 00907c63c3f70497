"""Print how soon a roll-back is in force under load: 20 canaries at 25 %, each rolled back by the management API.

    python benchmarks/rollback.py [--times 20] [--out out/rollback.json]

The promise is 200 ms from the command to the last worker's acknowledgement. Measured from the moment before the
command is sent: its reply, the last worker's acknowledgement on the control page, and the last answer of the
candidate as its client got it. The load is four closed-loop keep-alive clients.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "journeys"))

import serving_models as models  # noqa: E402
from serving_server import Client, World, sizes_world  # noqa: E402

PROMISE_MS = 200.0


class Caller(threading.Thread):
    def __init__(self, world: World, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.client = Client(world.up.url, world.tokens["client"])
        self.stop = stop
        self.answers: list[tuple[float, str]] = []
        self.failed = 0

    def run(self) -> None:
        while not self.stop.is_set():
            reply = self.client.call("POST", "/v1/sizes/predict", {"a": 2})
            self.failed += reply.status != 200
            self.answers.append((time.perf_counter(), reply.json()["decision"]["version"]))
        self.client.close()


def once(world: World, callers: list[Caller], candidate: str) -> dict[str, float]:
    """Start a canary, wait until it answers, roll it back; return milliseconds."""
    operator = world.client("operator")
    rollout = operator.call("POST", "/api/rollouts", {"endpoint": "sizes", "candidate": candidate}).json()["id"]
    mark = len(callers[0].answers)
    while sum(v == candidate for c in callers for _, v in c.answers[mark:]) < 10:
        time.sleep(0.005)
    canary, acknowledged = world.up.page.routing, threading.Event()
    at: list[float] = []

    def watch() -> None:
        while world.up.page.acknowledged() <= canary:
            time.sleep(0.0005)
        at.append(time.perf_counter())
        acknowledged.set()

    threading.Thread(target=watch, daemon=True).start()
    start = time.perf_counter()
    reply = operator.call("POST", f"/api/rollouts/{rollout}/rollback", {"reason": "benchmark"})
    replied = time.perf_counter()
    assert reply.status == 200, reply
    assert acknowledged.wait(30)
    time.sleep(0.3)  # late answers of the candidate, were there any
    last = max((t for c in callers for t, v in c.answers if v == candidate and t > start), default=start)
    return {k: (t - start) * 1e3 for k, t in (("reply", replied), ("acknowledged", at[0]), ("last", last))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--out", type=Path, default=HERE.parent / "out" / "rollback.json")
    told = parser.parse_args()
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        world = sizes_world(Path(folder))
        with world.running():
            candidate = world.register("sizes", models.Size(limit=1.5), stable=False)
            stop = threading.Event()
            callers = [Caller(world, stop) for _ in range(4)]
            for caller in callers:
                caller.start()
            started = time.perf_counter()
            for _ in range(told.times):
                found.append(once(world, callers, candidate))
            seconds = time.perf_counter() - started
            stop.set()
            for caller in callers:
                caller.join(10)
    answers, failed = sum(len(c.answers) for c in callers), sum(c.failed for c in callers)
    print(
        f"{told.times} roll-backs under {answers / seconds:.0f} requests/s, 2 workers; {failed} failed requests"
    )
    for name, text in (
        ("reply", "the command's reply"), ("acknowledged", "the last worker acknowledged"),
        ("last", "the candidate's last answer"),
    ):  # fmt: skip
        times = sorted(f[name] for f in found)
        print(f"{text:32} median {median(times):6.1f} ms   max {times[-1]:6.1f} ms")
    kept = sum(f["acknowledged"] <= PROMISE_MS for f in found)
    print(f"acknowledged within {PROMISE_MS:.0f} ms: {kept} of {told.times}")
    told.out.parent.mkdir(parents=True, exist_ok=True)
    told.out.write_text(json.dumps({"promise_ms": PROMISE_MS, "failed": failed, "rollbacks": found}, indent=1))


if __name__ == "__main__":
    main()
