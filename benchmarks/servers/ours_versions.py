"""Register what `ours.py` serves: a second version of the same trees where one is tried or swapped in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import onnx
import ours_photo
import sqlalchemy as sa
import work

from tenure import system
from tenure.clock import SystemClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.plan import Plan
from tenure.model.formats.onnx import OnnxClassifier
from tenure.model.registry import Registry
from tenure.scope import project as p

NEVER = 10**12  # requests until the next step


def prepare(told: Any, made: p.Project) -> None:
    """Make the data folder and its versions; their names are left in versions.json."""
    system.prepare(made.folder())
    state = State.open(system.state_url(made), SystemClock())
    rollouts = Rollouts(state, made.endpoints)
    if told.kind == "photo":
        sample: Any = told.models / "photo.jpg"
        versions = [_register(made, state, ours_photo.Parts, file=told.models / "photo.onnx", sample=sample)]
    else:
        classifier = OnnxClassifier(file="risk.onnx", labels=work.RISKS, features=work.FIELDS)
        sample, first = json.loads((told.models / "record.json").read_bytes()), told.models / "risk.onnx"
        files = (first, _again(first, told.folder))
        versions = [_register(made, state, classifier, file=file, sample=sample) for file in files]
    with state.begin() as conn:
        rollouts.set_stable(conn, next(iter(made.endpoints)), versions[0], "benchmark")
    if told.variant == "canary":
        _try(state, rollouts, versions[1])
    state.close()
    (told.folder / "versions.json").write_text(json.dumps(versions))


def _register(made: p.Project, state: State, stage: Any, *, file: Path, sample: Any) -> str:
    ((endpoint, spec),) = made.endpoints.items()
    registry = Registry(state, made.folder())
    return registry.register(endpoint, stage, spec=spec, output=made.output(endpoint), sample=sample, files=file)


def _again(file: Path, folder: Path) -> Path:
    """Return a file of the same model with other bytes, so that it is another version."""
    model = onnx.load(str(file))
    model.doc_string = "the second version"
    (folder / "second").mkdir(exist_ok=True)
    onnx.save(model, str(folder / "second" / file.name))
    return folder / "second" / file.name


def _try(state: State, rollouts: Rollouts, candidate: str) -> None:
    """Start a canary of 5 % whose version also shadows all that it does not answer.

    A project file cannot ask for both at once, the routing table can: so the plan is set in the database.
    """
    plan = Plan(steps=(p.Step(share=0.05, min=NEVER), p.Step(share=1.0)), candidate="granted")
    number = rollouts.start("risk", candidate, by="benchmark", plan=plan)
    both = msgspec.structs.replace(plan, steps=(p.Step(share=0.05, shadow=1.0, min=NEVER), plan.steps[1]))
    body = msgspec.json.encode(both, order="sorted").decode()
    with state.begin() as conn:
        conn.execute(sa.update(t.rollouts).where(t.rollouts.c.id == number).values(plan=body))
