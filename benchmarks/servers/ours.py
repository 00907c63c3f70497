"""Our server with everything on: log before the reply, routing, draws, metrics, profiles, and the controller.

Variants: `power` (the log reaches the disk before the reply), `thread` (the model runs in a thread), `canary` (a
second version answers 5 % and sees all the rest in shadow), `pixels` (photos are decoded whole; else at the least
size that has the network's 128 pixels).
"""

from __future__ import annotations

import signal
import threading
from typing import Any

import work

from tenure import system
from tenure.scope import project as p


def project(told: Any) -> p.Project:
    # One in a thousand is checked: a share that people could keep up with at these rates.
    automation, log = (
        p.Automation(start="full", max="full", audit=p.Audit(steady=0.001, rollout=0.001)),
        p.LogSpec(),
    )
    if told.variant == "power":
        log = p.LogSpec(durability="power")
    if told.kind == "record":
        placement: Any = "thread" if told.variant == "thread" else "inline"
        stage = p.StageSpec(stage="risk", uses="tenure.model.formats.onnx:OnnxClassifier", placement=placement)
        endpoint = p.EndpointSpec(
            input="record", fields={name: p.Field(type="float") for name in work.FIELDS}, pipeline=(stage,),
            output=p.Output(labels=work.RISKS), automation=automation, log=log,
        )  # fmt: skip
        endpoints = {"risk": endpoint}
    else:
        parts = p.Output(labels=work.PARTS)
        decode = p.Decode(min_side=None if told.variant == "pixels" else work.SIDE)
        endpoints = {
            "photo": p.EndpointSpec(input="image", decode=decode, output=parts, automation=automation, log=log)
        }
    server = p.Server(port=told.port, console_port=0, workers=told.workers)
    made = p.Project(
        project="bench", root=str(told.folder), scope=p.Scope(case="new"), endpoints=endpoints, server=server
    )
    return system.resolved(made)


def serve(told: Any) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with system.Server(project(told), open_loopback=True):
        stop.wait()


if __name__ == "__main__":
    asked = work.told(__doc__)
    if asked.prepare:
        import ours_versions

        ours_versions.prepare(asked, project(asked))
    else:
        serve(asked)
