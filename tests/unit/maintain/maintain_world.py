"""What the retraining tests share: an endpoint of records, its judged items, its model, and a training script."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tenure.clock import ManualClock
from tenure.data.state import State
from tenure.deploy.review.items import NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.maintain.retrain import Retrainer
from tenure.model.bundle import Sample
from tenure.model.manifest import StageRef
from tenure.model.registry import Registry
from tenure.scope.project import EndpointSpec, Field, Output, Retrain

LABELS = ("good", "defect")
OUTPUT = Output(labels=LABELS)
SAMPLE = Sample(b'{"x": 0.5}', "application/json")

MODEL = """
from tenure.types import Prediction


class Limit:
    def load(self, files):
        self.limit = float((files / "limit.txt").read_text())

    def predict(self, records):
        return [Prediction("defect" if r["x"] > self.limit else "good", 0.9) for r in records]
"""

TRAIN = """
import json, os, sys
from pathlib import Path

data, out = Path(os.environ["TENURE_DATASET"]), Path(os.environ["TENURE_OUTPUT"])
rows = [json.loads(line) for line in (data / "index.jsonl").read_text().splitlines()]
rows = [r for r in rows if r["split"] == "train"]
wrong = lambda t: sum((r["record"]["x"] > t) != (r["label"] == "defect") for r in rows)
best = min((i / 20 for i in range(21)), key=wrong)
print("chose", best, flush=True)
print("to stderr", file=sys.stderr, flush=True)
(out / "files").mkdir()
(out / "files" / "limit.txt").write_text(str(best))
metrics = {"limit": best, "rows": len(rows), "parent": os.environ.get("TENURE_PARENT")}
(out / "metrics.json").write_text(json.dumps(metrics))
"""


class World:
    """A project folder with a model whose limit is `limit`; the truth's limit is 0.5."""

    def __init__(self, folder: Path, state: State, clock: ManualClock) -> None:
        self.root, self.data = folder / "project", folder / "data"
        self.root.mkdir()
        (self.root / "limits.py").write_text(MODEL)
        (self.root / "train.py").write_text(TRAIN)
        self.state, self.clock = state, clock
        self.registry = Registry(state, self.data)
        self.deployed: list[tuple[str, str, str]] = []
        self.lines: list[str] = []

    def spec(self, command: str | None = "python train.py", **more: object) -> EndpointSpec:
        return EndpointSpec(
            input="record",
            fields={"x": Field(type="float")},
            output=OUTPUT,
            retrain=Retrain(command=command, **{"timeout": 60.0, "min_labels": 10, **more}),  # type: ignore[arg-type]
        )

    def retrainer(self, command: str | None = "python train.py", **more: object) -> Retrainer:
        return Retrainer(
            self.state,
            {"phones": self.spec(command, **more)},
            self.data,
            registry=self.registry,
            root=self.root,
            clock=self.clock,
            payload=lambda _: None,
            deploy=lambda *words: self.deployed.append(words),  # type: ignore[arg-type]
        )

    def first_version(self, limit: float = 0.9, *, live: bool = True) -> str:
        files = self.root / "weights"
        files.mkdir(exist_ok=True)
        (files / "limit.txt").write_text(str(limit))
        version = self.registry.register(
            "phones", [StageRef("limit", "limits:Limit")], spec=self.spec(), output=OUTPUT, sample=SAMPLE,
            files=files, code=[self.root / "limits.py"],
        )  # fmt: skip
        if live:
            with self.state.begin() as conn:
                self.registry.set_live(conn, "phones", version)
        return version

    def judged(self, n: int, *, start: int = 0, units: Callable[[int], str] = lambda _: "") -> None:
        """Add `n` blind items, one a second, whose truth came from the world."""
        add_judged(self.state, self.clock, [f"q{i:05d}" for i in range(start, start + n)], units=units)


def add_judged(
    state: State,
    clock: ManualClock,
    ids: Iterable[str],
    *,
    units: Callable[[int], str] = lambda _: "",
    **fields: object,
) -> None:
    queue = ReviewQueue(state, {"phones": EndpointSpec(input="record", output=OUTPUT)})
    items, truths = [], {}
    for i, id_ in enumerate(ids):
        clock.advance(1.0)
        x = (int(id_[1:]) * 37 % 100) / 100
        base = {"kind": "uncertain", "media_type": "application/json", "record": {"x": x}, "unit": units(i)}
        made = {**base, **fields, "created_us": state.now_us()}
        items.append(NewItem(id=id_, endpoint="phones", **made))  # type: ignore[arg-type]
        truths[id_] = "defect" if x > 0.5 else "good"
    with state.begin() as conn:
        queue.add(conn, items)
        for id_, truth in truths.items():
            queue.resolve_by_outcome(conn, id_, truth)
